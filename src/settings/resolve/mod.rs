//! From what was written to what is meant, collecting every problem on the way.
//!
//! A function here answers `None` where it reported something, and goes on as
//! far as it can before it does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::environment::Environment;
use super::problems::{Problem, Warning};
use super::raw::RawSettings;
use super::secrets::{self, SecretFileError};
use super::{Settings, StoreSettings};
use crate::dispatch::DispatchConfig;
use crate::server::ServerConfig;

mod auth;
mod forward;
mod handlers;
mod net;
mod quantity;
mod queues;
mod sections;
mod shell;
mod sources;
mod telemetry;

pub(super) use quantity::Range;

/// The pen that everything in here writes with.
pub(super) struct Resolver<'a> {
    written: &'a Value,
    environment: &'a Environment,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

/// What handlers and sources have to fit.
struct Surroundings<'a> {
    server: Option<&'a ServerConfig>,
    dispatch: Option<&'a DispatchConfig>,
    source_names: Vec<String>,
}

/// What `raw` means; `None` where something was reported.
pub(super) fn settings(r: &mut Resolver<'_>, raw: RawSettings) -> Option<Settings> {
    let server = sections::server(r, raw.server);
    let admin = sections::admin(r, raw.admin);
    let store: Option<StoreSettings> = sections::store(r, raw.store);
    let dispatch = sections::dispatch(r, raw.dispatch);
    let traces = telemetry::telemetry(r, raw.telemetry);
    if let (Some(server), Some(admin)) = (&server, &admin) {
        sections::check_listeners(r, server, admin);
    }
    if let (Some(server), Some(dispatch)) = (&server, &dispatch) {
        sections::check_bytes(r, server, dispatch);
    }
    let around = Surroundings {
        server: server.as_ref(),
        dispatch: dispatch.as_ref(),
        source_names: r.written_names("sources"),
    };
    let (queues, http): (BTreeMap<_, _>, BTreeMap<_, _>) = raw
        .sources
        .into_iter()
        .partition(|(_, source)| source.kind.as_deref() == Some("mns"));
    let sources = sources::sources(r, http, &around);
    let queues = queues::queues(r, queues);
    let handlers = handlers::handlers(r, raw.handlers, &around);
    Some(Settings {
        server: server?,
        admin: admin?,
        store: store?,
        dispatch: dispatch?,
        traces: traces?,
        sources: sources?,
        queues: queues?,
        handlers: handlers?,
    })
}

impl<'a> Resolver<'a> {
    /// `written` is the merged tree without defaults.
    pub(super) fn new(written: &'a Value, environment: &'a Environment) -> Self {
        Self {
            written,
            environment,
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn problem(
        &mut self,
        key: impl Into<String>,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.problems.push(Problem::new(key, problem, hint));
    }

    pub(super) fn into_parts(self) -> (Vec<Problem>, Vec<Warning>) {
        (self.problems, self.warnings)
    }

    fn warn(
        &mut self,
        key: impl Into<String>,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.warnings
            .push(Warning(Problem::new(key, problem, hint)));
    }

    /// The variables of Alibaba Cloud's own tools.
    fn cloud_variables(&self) -> Vec<(String, String)> {
        self.environment.cloud.clone()
    }

    /// Whether somebody wrote `key`, right or wrong.
    fn is_written(&self, key: &str) -> bool {
        let pointer = format!("/{}", key.replace('.', "/"));
        self.written.pointer(&pointer).is_some()
    }

    /// The names in a section as they were written, wrong entries included.
    fn written_names(&self, section: &str) -> Vec<String> {
        let table = self.written[section].as_object();
        table
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn duration(&mut self, key: &str, text: &str, range: Range) -> Option<Duration> {
        quantity::parse(text, range)
            .map_err(|(problem, hint)| self.problem(key, problem, hint))
            .ok()
    }

    /// A secret that may stand in the configuration or in a file, `None` where
    /// it stands in neither. Which of the two it was does not matter later.
    fn secret(
        &mut self,
        key: &str,
        inline: Option<SecretString>,
        file: Option<PathBuf>,
    ) -> Option<SecretString> {
        if inline.is_some() && file.is_some() {
            self.both(key);
        }
        if let Some(secret) = inline {
            if secrets::has_blank(secret.expose_secret()) {
                self.problem(
                    key,
                    "has a blank or a control character inside",
                    "write the secret alone",
                );
                return None;
            }
            return Some(secret);
        }
        self.secret_file(key, &file?, secrets::read_one)
    }

    /// What `read` makes of the file that `key` with `_file` names.
    fn secret_file<T>(
        &mut self,
        key: &str,
        file: &std::path::Path,
        read: impl FnOnce(&std::path::Path) -> Result<T, SecretFileError>,
    ) -> Option<T> {
        let key = format!("{key}_file");
        match read(file) {
            Ok(content) => {
                if secrets::is_exposed(file) {
                    self.warn(
                        key,
                        format!("{} is open to other users of this machine", file.display()),
                        "chmod 600, or 640 with the service's group",
                    );
                }
                Some(content)
            }
            Err(error) => {
                let hint = if is_ours(&key) {
                    error.hint_for_ours()
                } else {
                    error.hint()
                };
                self.problem(key, error.to_string(), hint);
                None
            }
        }
    }

    fn both(&mut self, key: &str) {
        self.problem(
            key,
            format!("stands beside {key}_file"),
            "keep one of the two",
        );
    }
}

/// Whether the user makes up this secret, rather than being given it by the
/// service that a handler talks to.
fn is_ours(key: &str) -> bool {
    key.starts_with("admin.") || key.starts_with("sources.")
}
