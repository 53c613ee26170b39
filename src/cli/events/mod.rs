//! `events`: find events, see what became of them, send them again.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::admin::client::AdminClient;
use super::admin::concluded;
use super::admin::connect::AdminArgs;
use super::admin::output;
use super::admin::screen::Screen;
use crate::clock::Clock;

mod export;
mod import;
mod list;
mod names;
mod progress;
mod redeliver;
mod show;
mod sse;
mod tail;

/// Find events, see what became of them, send them again
#[derive(Debug, Clone, Args)]
pub struct EventsArgs {
    /// Write JSON for programs: one document, or one line an event for tail and
    /// export
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    List(list::ListArgs),
    Show(show::ShowArgs),
    Tail(tail::TailArgs),
    Redeliver(redeliver::RedeliverArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
}

/// What every one of these commands works with.
struct Session {
    client: AdminClient,
    screen: Screen,
    json: bool,
}

impl EventsArgs {
    /// Asks the service that the flags or the configuration name.
    ///
    /// # Errors
    /// [`UsageError`](super::usage::UsageError) where the command cannot work
    /// as it was given; everything else is a failure.
    pub async fn run(
        self,
        config: Option<&Path>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<ExitCode> {
        let session = Session {
            client: self.admin.connect(config)?,
            screen: Screen::of_stdout(clock.now()),
            json: self.json,
        };
        let mut out = output::stdout(self.json);
        concluded(match self.command {
            Command::List(args) => args.run(&session, &mut out).await,
            Command::Show(args) => args.run(&session, &mut out).await,
            Command::Tail(args) => args.run(&session, clock, &mut out).await,
            Command::Redeliver(args) => args.run(&session, &mut out).await,
            Command::Export(args) => args.run(&session).await,
            Command::Import(args) => args.run(&session, &mut out).await,
        })
    }
}
