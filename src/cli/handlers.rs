//! `handlers`: what waits for each, and holding one back.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::admin::answers::{HandlerRow, Handlers};
use super::admin::client::{AdminClient, AdminError};
use super::admin::concluded;
use super::admin::confirm::confirm;
use super::admin::connect::AdminArgs;
use super::admin::output;
use super::admin::screen::{self, BAD, FAINT, GOOD, PLAIN, Screen, WAITS};
use super::admin::table::{Cell, Column, Table};
use super::admin::when;
use crate::clock::Clock;
use crate::request::HandlerName;

/// Show what waits for each handler, hold one back, give up what is gone
#[derive(Debug, Clone, Args)]
pub struct HandlersArgs {
    /// Write one JSON document for programs
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// List the handlers, with what waits for each
    List,
    /// Start no further attempt of a handler until it is resumed; what comes
    /// meanwhile waits, across restarts
    Pause {
        /// The handler
        #[arg(value_name = "NAME", value_parser = parse_name)]
        name: HandlerName,
    },
    /// Go on with a handler that was paused
    Resume {
        /// The handler
        #[arg(value_name = "NAME", value_parser = parse_name)]
        name: HandlerName,
    },
    /// Give up what waits for a handler that was removed from the configuration
    /// for good
    Discard {
        /// The handler
        #[arg(value_name = "NAME", value_parser = parse_name)]
        name: HandlerName,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

fn parse_name(text: &str) -> Result<HandlerName, String> {
    HandlerName::new(text).map_err(|error| error.to_string())
}

/// What a pause or a resume led to.
#[derive(Deserialize)]
struct Changed {
    paused_at: Option<Timestamp>,
    changed: bool,
}

/// What a discard led to.
#[derive(Deserialize)]
struct Discarded {
    discarded: u64,
}

impl HandlersArgs {
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
        let asked = Asked {
            client: self.admin.connect(config)?,
            screen: Screen::of_stdout(clock.now()),
            json: self.json,
        };
        let mut out = output::stdout(self.json);
        concluded(match self.command {
            Command::List => asked.list(&mut out).await,
            Command::Pause { name } => asked.hold(&name, "pause", &mut out).await,
            Command::Resume { name } => asked.hold(&name, "resume", &mut out).await,
            Command::Discard { name, yes } => asked.discard(&name, yes, &mut out).await,
        })
    }
}

struct Asked {
    client: AdminClient,
    screen: Screen,
    json: bool,
}

impl Asked {
    async fn list(&self, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let text = self.client.text("/api/handlers", &[]).await?;
        if self.json {
            writeln!(out, "{}", text.trim_end())?;
            return Ok(ExitCode::SUCCESS);
        }
        let Handlers { handlers } = self.client.read(&text)?;
        if handlers.is_empty() {
            eprintln!("No handler is configured: events are stored and nothing is done.");
        } else {
            table(&handlers, &self.screen).write(out, self.screen.width)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn hold(
        &self,
        name: &HandlerName,
        verb: &str,
        out: &mut dyn Write,
    ) -> anyhow::Result<ExitCode> {
        let path = format!("/api/handlers/{name}/{verb}");
        let text = self.client.post(&path, &json!({})).await;
        let text = text.map_err(|error| self.named(error, name))?;
        if self.json {
            writeln!(out, "{}", text.trim_end())?;
            return Ok(ExitCode::SUCCESS);
        }
        let Changed { paused_at, changed } = self.client.read(&text)?;
        match paused_at {
            Some(since) => {
                let already = if changed {
                    "now paused"
                } else {
                    "paused already"
                };
                let since = when::absolute(since);
                writeln!(
                    out,
                    "{name} is {already}, since {since}: its attempts at work finish, what comes waits."
                )?;
            }
            None if changed => writeln!(out, "{name} goes on.")?,
            None => writeln!(out, "{name} was not paused.")?,
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn discard(
        &self,
        name: &HandlerName,
        yes: bool,
        out: &mut dyn Write,
    ) -> anyhow::Result<ExitCode> {
        let Handlers { handlers } = self.client.get("/api/handlers", &[]).await?;
        let found = handlers.iter().find(|row| row.name == name.as_str());
        let Some(row) = found else {
            let missing = AdminError::NotFound(String::new());
            return Err(self.named(missing, name).into());
        };
        // The service refuses this as well; here nobody is asked for nothing.
        if row.configured {
            return Err(AdminError::Conflict(format!(
                "{name} is configured: only what waits for a handler that is gone is given up; remove it from the configuration and restart first"
            ))
            .into());
        }
        if row.pending > 0 {
            let waits = screen::count(row.pending, "delivery", "deliveries");
            let question = format!("This gives up {waits} waiting for {name}, as dead");
            if !confirm(yes, &question, row.pending)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        let path = format!("/api/handlers/{name}/discard");
        let text = self.client.post(&path, &json!({})).await;
        let text = text.map_err(|error| self.named(error, name))?;
        if self.json {
            writeln!(out, "{}", text.trim_end())?;
            return Ok(ExitCode::SUCCESS);
        }
        let Discarded { discarded } = self.client.read(&text)?;
        match discarded {
            0 => writeln!(out, "Nothing waits for {name}.")?,
            n => {
                let deliveries = screen::count(n, "delivery", "deliveries");
                writeln!(
                    out,
                    "{deliveries} for {name} given up; `events redeliver --handler {name} --status dead` takes that back once it is configured again."
                )?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn named(&self, error: AdminError, name: &HandlerName) -> AdminError {
        match error {
            AdminError::NotFound(_) => AdminError::NotFound(format!(
                "no handler {name} was ever configured at {}; `handlers list` shows those that were",
                self.client
            )),
            error => error,
        }
    }
}

fn table(handlers: &[HandlerRow], screen: &Screen) -> Table {
    let mut table = Table::new([
        Column::whole("HANDLER"),
        Column::whole("KIND").rank(1),
        Column::whole("STATE").cut_to(14, 8),
        Column::number("PENDING"),
        Column::number("DEAD"),
        Column::whole("OLDEST PENDING").rank(3),
        Column::number("SUCCEEDED").rank(0),
        Column::number("FAILED").rank(0),
        Column::number("RATE SINCE START").rank(2),
    ]);
    for row in handlers {
        let state = match (row.configured, row.paused_at) {
            (false, _) => Cell::new("not configured", WAITS),
            (true, Some(since)) => {
                let ago = when::relative(since, screen.now);
                Cell::new(&format!("paused {ago}"), WAITS)
            }
            (true, None) => Cell::new("active", GOOD),
        };
        let oldest = match row.oldest_pending_at {
            Some(at) => Cell::new(&when::relative(at, screen.now), PLAIN)
                .and(&format!("  {}", when::absolute(at)), FAINT),
            None => "-".into(),
        };
        let dead = if row.dead > 0 { BAD } else { PLAIN };
        table.push(vec![
            row.name.as_str().into(),
            row.kind.as_deref().unwrap_or("-").into(),
            state,
            screen::number(row.pending).into(),
            Cell::new(&screen::number(row.dead), dead),
            oldest,
            screen::number(row.succeeded).into(),
            screen::number(row.failed).into(),
            rate(row.succeeded, row.failed).into(),
        ]);
    }
    table
}

/// How many of the attempts since the start of the service worked.
fn rate(succeeded: u64, failed: u64) -> String {
    match succeeded + failed {
        0 => "-".to_owned(),
        // Not all, however few failed, is not 100 %.
        all if failed > 0 => {
            let percent = (succeeded as f64 / all as f64 * 1000.0).floor() / 10.0;
            format!("{percent:.1} %")
        }
        _ => "100 %".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_100_percent_only_where_nothing_failed() {
        for (succeeded, failed, shown) in [
            (0, 0, "-"),
            (5, 0, "100 %"),
            (999_999, 1, "99.9 %"),
            (1, 1, "50.0 %"),
            (0, 3, "0.0 %"),
        ] {
            assert_eq!(rate(succeeded, failed), shown);
        }
    }
}
