//! `events tail`: events as they come.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Session;
use super::list::deliveries;
use super::sse::{Message, Reader};
use crate::cli::admin::answers::{EventPage, EventRow};
use crate::cli::admin::client::{AdminError, Pieces};
use crate::cli::admin::filter::FilterArgs;
use crate::cli::admin::screen::{self, FAINT, PLAIN, Screen};
use crate::cli::admin::table::{Cell, Column, Table};
use crate::cli::admin::when;
use crate::clock::Clock;

/// The service says something every 15 s; three of these missed, and it is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// The first pause before the stream is opened again; it doubles …
const BACKOFF_MIN: Duration = Duration::from_millis(500);

/// … up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// This many events of a gap are looked up.
const GAP_EVENTS_MAX: usize = 500;

/// Show events as they come, until Ctrl-C
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  ims-receiver events tail
  ims-receiver events tail --outcome failed --type 'MediaConvert*'
  ims-receiver events tail --json | jq -r .media_id")]
pub struct TailArgs {
    /// End after this many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    #[command(flatten)]
    pub filter: FilterArgs,
}

impl TailArgs {
    pub(super) async fn run(
        self,
        session: &Session,
        clock: Arc<dyn Clock>,
        out: &mut dyn Write,
    ) -> anyhow::Result<ExitCode> {
        let mut tail = Tail {
            session,
            clock,
            filter: self.filter.query(session.screen.now),
            left: self.count,
            last: None,
            out,
        };
        tokio::select! {
            ended = tail.follow() => ended?,
            // The usual end of watching is no failure.
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What was shown last.
struct Last {
    id: String,
    received_at: Timestamp,
}

struct Tail<'a> {
    session: &'a Session,
    clock: Arc<dyn Clock>,
    filter: Vec<(&'static str, String)>,
    left: Option<u64>,
    last: Option<Last>,
    out: &'a mut dyn Write,
}

/// A gap in the stream.
#[derive(Deserialize)]
struct Skipped {
    events: u64,
}

impl<'a> Tail<'a> {
    /// Shows events until there were enough. A service that is not there at
    /// first is an error; one that goes is waited for.
    async fn follow(&mut self) -> anyhow::Result<()> {
        let mut stream = self.open().await?;
        let mut backoff = BACKOFF_MIN;
        let opened_at = self.clock.now();
        loop {
            let broken = match self.read(&mut stream, &mut backoff).await {
                Ok(()) => return Ok(()),
                Err(error) => error.downcast::<AdminError>()?,
            };
            eprintln!("{broken}\nTrying again until it answers.");
            stream = loop {
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
                match self.open().await {
                    Ok(stream) => break stream,
                    Err(error) if error.is_temporary() => {}
                    Err(error) => return Err(error.into()),
                }
            };
            eprintln!("It answers again.");
            // The stream is open already, so nothing falls between the two;
            // what comes by both ways is shown once.
            self.fill_gap(opened_at).await?;
            if self.left == Some(0) {
                return Ok(());
            }
        }
    }

    async fn open(&self) -> Result<Pieces<'a>, AdminError> {
        let session = self.session;
        let pieces = session.client.open("/api/tail", &self.filter).await?;
        Ok(pieces.with_pause_max(SILENCE_MAX))
    }

    /// Shows what a stream brings, until there were enough events.
    async fn read(
        &mut self,
        stream: &mut Pieces<'a>,
        backoff: &mut Duration,
    ) -> anyhow::Result<()> {
        let mut reader = Reader::default();
        while let Some(piece) = stream.next().await? {
            *backoff = BACKOFF_MIN;
            for message in reader.push(&piece)? {
                self.take(&message)?;
                if self.left == Some(0) {
                    return Ok(());
                }
            }
        }
        Err(self.session.client.ended().into())
    }

    fn take(&mut self, message: &Message) -> anyhow::Result<()> {
        match message.event.as_str() {
            "event" => self.show(&message.data),
            "skipped" => {
                let skipped: Skipped = self.session.client.read(&message.data)?;
                let events = screen::count(skipped.events, "event", "events");
                eprintln!("{events} came faster than they could be shown and were skipped.");
                Ok(())
            }
            // A newer service may say more.
            _ => Ok(()),
        }
    }

    /// Shows an event, unless it was shown already.
    fn show(&mut self, json: &str) -> anyhow::Result<()> {
        let event: EventRow = self.session.client.read(json)?;
        // Ids grow with time, so a smaller one came by the other way.
        if self.last.as_ref().is_some_and(|last| event.id <= last.id) {
            return Ok(());
        }
        if self.session.json {
            // One line, whatever the service's own spacing.
            writeln!(self.out, "{}", json.replace('\n', " "))?;
        } else {
            let screen = Screen {
                now: self.clock.now(),
                ..self.session.screen
            };
            line(&event, &screen, self.out)?;
        }
        self.out.flush()?;
        self.left = self.left.map(|left| left - 1);
        self.last = Some(Last {
            id: event.id,
            received_at: event.received_at,
        });
        Ok(())
    }

    /// Shows what came while the stream was broken: after the last event that
    /// was shown, or since the beginning where there was none.
    async fn fill_gap(&mut self, opened_at: Timestamp) -> anyhow::Result<()> {
        let since = self
            .last
            .as_ref()
            .map_or(opened_at, |last| last.received_at);
        let mut query = self.filter.clone();
        query.retain(|(name, _)| *name != "since");
        query.push(("since", format!("{since:.3}")));
        query.push(("limit", GAP_EVENTS_MAX.to_string()));
        let mut missed: Vec<Box<RawValue>> = Vec::new();
        let mut next = None;
        loop {
            let mut query = query.clone();
            query.extend(next.take().map(|next| ("cursor", next)));
            let page: EventPage = self.session.client.get("/api/events", &query).await?;
            missed.extend(page.events);
            next = page.next;
            if next.is_none() || missed.len() >= GAP_EVENTS_MAX {
                break;
            }
        }
        if next.is_some() {
            eprintln!(
                "More than {GAP_EVENTS_MAX} events came meanwhile; those before are left out: events list --since {since:.3} shows them."
            );
        }
        for event in missed.iter().rev() {
            self.show(event.get())?;
            if self.left == Some(0) {
                break;
            }
        }
        Ok(())
    }
}

/// An event on a line.
fn line(event: &EventRow, screen: &Screen, out: &mut dyn Write) -> std::io::Result<()> {
    let mut table = Table::new([
        Column::whole(""),
        Column::whole(""),
        Column::whole("").at_least(24).cut_to(20, 12),
        Column::whole("").at_least(9).rank(1),
        Column::whole("").cut_to(12, 12).rank(2),
        Column::whole("").cut_to(12, 12).rank(3),
        Column::whole("").cut_to(20, 12).rank(0),
    ]);
    let outcome = screen::of_outcome(&event.outcome);
    let id = |id: &Option<String>| Cell::from(id.as_deref().unwrap_or("-"));
    table.push(vec![
        Cell::new(&when::absolute(event.received_at), FAINT),
        Cell::new(&event.id, PLAIN),
        Cell::new(&event.r#type, outcome),
        Cell::new(&event.outcome, outcome),
        id(&event.media_id),
        id(&event.job_id),
        deliveries(&event.deliveries, screen),
    ]);
    table.write_rows(out, screen.width)
}
