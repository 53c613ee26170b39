//! The commands, one file each.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use crate::clock::SystemClock;
use crate::settings::{self, Loaded};
use crate::telemetry::LogFormat;

pub mod admin;
pub mod check;
pub mod completions;
pub mod demo;
pub mod doctor;
pub mod events;
pub mod explain;
pub mod handlers;
pub mod health;
pub mod schema;
pub mod send;
pub mod serve;
pub mod sign;
pub mod store;
pub mod usage;

use usage::UsageError;

/// Receives the callback events of Alibaba Cloud IMS, has each on disk before
/// it answers, and hands it on for certain
#[derive(Debug, Parser)]
#[command(name = "ims-receiver", version, max_term_width = 100)]
pub struct Cli {
    /// The configuration file [default: $IMS_RECEIVER_CONFIG,
    /// ./config/receiver.toml, /etc/ims-receiver/receiver.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The shape of log lines
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service
    Serve,
    Demo(demo::DemoArgs),
    /// Load the configuration, list every problem, and show what it means
    Check,
    Sign(sign::SignArgs),
    Send(send::SendArgs),
    Explain(explain::ExplainArgs),
    Events(Box<events::EventsArgs>),
    Handlers(handlers::HandlersArgs),
    Doctor(doctor::DoctorArgs),
    Health(health::HealthArgs),
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Print the JSON Schema of the configuration file
    Schema,
    Completions(completions::CompletionsArgs),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// [`UsageError`] is exit code 64; everything else 1.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.config.as_deref();
        let clock = Arc::new(SystemClock);
        match self.command {
            Command::Serve => serve::run(config, self.log_format),
            Command::Demo(args) => args.run(self.log_format),
            Command::Check => Ok(check::run(config)),
            Command::Sign(args) => args.run(&SystemClock, &mut std::io::stdout().lock()),
            Command::Send(args) => small_runtime()?.block_on(args.run(clock)),
            Command::Explain(args) => {
                let loaded = load(config)?;
                let mut out = anstream::stdout().lock();
                small_runtime()?.block_on(args.run(&loaded, &SystemClock, &mut out))
            }
            Command::Events(args) => small_runtime()?.block_on(args.run(config, clock)),
            Command::Handlers(args) => small_runtime()?.block_on(args.run(config, clock)),
            Command::Doctor(args) => small_runtime()?.block_on(args.run(config, clock)),
            Command::Health(args) => {
                let loaded = load(config)?;
                small_runtime()?.block_on(args.run(loaded.settings.admin.listen))
            }
            Command::Store(command) => {
                let loaded = load(config)?;
                let store = &loaded.settings.store.path;
                let file = settings::located(config, settings::process_environment());
                let mut out = std::io::stdout().lock();
                command.run(file.as_deref(), store, &mut out)
            }
            Command::Schema => Ok(schema::run(&mut std::io::stdout().lock())?),
            Command::Completions(args) => Ok(args.run(&mut std::io::stdout().lock())?),
        }
    }
}

fn load(config: Option<&Path>) -> Result<Loaded, UsageError> {
    settings::load(config, settings::process_environment())
        .map_err(|error| UsageError(error.to_string()))
}

fn small_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
