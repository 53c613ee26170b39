//! The configuration: what was written, then what is meant.
//!
//! ```text
//!  file ─┐                  schema/        validate         raw          resolve/
//!        ├─ merged tree ─ defaults in ─ what breaks it ─ typed texts ─ Settings + warnings
//!  environment ┘              │          is a problem                  or every problem
//!                             └─ masked ─▶ what `check` prints
//! ```
//!
//! [`load()`] does all of it, and every command that needs a configuration calls
//! it. It finds everything that is wrong in one go: a value that breaks the
//! schema is reported and taken out, its default stands in, and the rest is
//! judged all the same.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::dispatch::{DispatchConfig, LaneConfig};
use crate::ingest::SourceConfig;
use crate::mns::QueueConfig;
use crate::request::SourceName;
use crate::server::{AdminConfig, ServerConfig};
use crate::trace::TraceConfig;

mod defaults;
mod environment;
mod load;
mod masked;
mod problems;
mod raw;
mod resolve;
pub mod schema;
pub mod secrets;
mod validate;

#[cfg(test)]
mod tests;

pub use environment::process_environment;
pub use load::{LoadError, from_toml, load, located};
pub use problems::{Problem, SettingsError, Warning};

/// What the configuration means: resolved once, never asked again.
///
/// Holds secrets, so it is never serialised; [`masked()`] is what may be shown.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The public listener.
    pub server: ServerConfig,
    /// The admin listener.
    pub admin: AdminConfig,
    /// The store.
    pub store: StoreSettings,
    /// Hand-over, limits and the drain.
    pub dispatch: DispatchConfig,
    /// Where traces go, where they were asked for.
    pub traces: Option<TraceConfig>,
    /// The HTTP sources, by name.
    pub sources: Vec<SourceConfig>,
    /// The queues, by name.
    pub queues: Vec<QueueConfig>,
    /// The handlers, by name.
    pub handlers: Vec<LaneConfig>,
}

impl Settings {
    /// The names of all sources, queues among them.
    pub fn source_names(&self) -> Vec<SourceName> {
        let http = self.sources.iter().map(|source| &source.name);
        let queues = self.queues.iter().map(|queue| &queue.name);
        http.chain(queues).cloned().collect()
    }
}

/// The store, and how long it keeps what.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The database file.
    pub path: PathBuf,
    /// How long a body is remembered.
    pub dedup_window: Duration,
    /// How many bodies are remembered at the most.
    pub dedup_entries_max: u32,
    /// How long finished events are kept.
    pub retention: Duration,
    /// How long events with a dead delivery are kept.
    pub retention_dead: Duration,
    /// Bytes in use above which the oldest finished events go early.
    pub retention_bytes: Option<u64>,
    /// Bytes that should stay free on the disk; 0 where it does not matter.
    pub disk_free_min: u64,
}

/// A configuration that can be used.
#[derive(Clone)]
pub struct Loaded {
    /// What it means.
    pub settings: Settings,
    /// What is odd about it, in the order of the keys.
    pub warnings: Vec<Warning>,
    /// The file it was read from.
    pub path: PathBuf,
    masked: String,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("settings", &self.settings)
            .field("warnings", &self.warnings)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The whole configuration as TOML, defaults included and every secret
/// replaced by `***`; of a forward URL scheme, host, port and path are left.
pub fn masked(loaded: &Loaded) -> &str {
    &loaded.masked
}

/// Judges an admin listener by the address it really has, which an inherited
/// socket may have brought along.
///
/// # Errors
/// The problem, with key and hint, where `bound` can be reached from other
/// machines and no `token` is set.
pub fn check_admin_exposure(admin: &AdminConfig, bound: SocketAddr) -> Result<(), Problem> {
    if admin.token.is_some() || bound.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    Err(Problem::new(
        "admin.token",
        format!("is missing, and the admin listener at {bound} is not on loopback"),
        r#"write token_file = "/run/secrets/admin-token", or listen on 127.0.0.1"#,
    ))
}
