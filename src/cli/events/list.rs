//! `events list`: the events that a filter lets through, newest first.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Session, names};
use crate::cli::admin::answers::{DeliveryRow, EventPage, EventRow};
use crate::cli::admin::filter::FilterArgs;
use crate::cli::admin::screen::{self, FAINT, PLAIN, Screen};
use crate::cli::admin::table::{Cell, Column, Table};
use crate::cli::admin::when;

/// Events in one answer of the API, at the most.
const PAGE_MAX: u32 = 500;

/// List events, newest first
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  ims-receiver events list --since 2h --status dead
  ims-receiver events list --media-id 0b7a4c6e01234567 --json
  ims-receiver events list --type 'MediaConvert*' --outcome failed --limit 200
  ims-receiver events list --handler cms --status pending,running")]
pub struct ListArgs {
    /// Events at the most
    #[arg(long, value_name = "N", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// Go on after this event, as the end of the list before says
    #[arg(long, value_name = "ID")]
    pub cursor: Option<String>,
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Listed {
    events: Vec<Box<RawValue>>,
    next: Option<String>,
}

impl ListArgs {
    pub(super) async fn run(
        self,
        session: &Session,
        out: &mut dyn Write,
    ) -> anyhow::Result<ExitCode> {
        let listed = self.collect(session).await?;
        if listed.events.is_empty() {
            names::hint(session, &self.filter).await?;
        }
        if session.json {
            serde_json::to_writer(&mut *out, &listed).map_err(std::io::Error::from)?;
            writeln!(out)?;
            return Ok(ExitCode::SUCCESS);
        }
        let events: Vec<EventRow> = listed
            .events
            .iter()
            .map(|event| session.client.read(event.get()))
            .collect::<Result<_, _>>()?;
        if !events.is_empty() {
            table(&events, &session.screen).write(out, session.screen.width)?;
            out.flush()?;
        }
        let shown = events.len() as u64;
        match (&listed.next, shown) {
            (None, 0) => eprintln!("No event matches."),
            (None, _) => {}
            (Some(next), _) => eprintln!(
                "{} shown, there are more: the same command with --cursor {} goes on, a higher --limit shows more at once.",
                screen::number(shown),
                screen::clean(next),
            ),
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Asks for pages until there are enough, or no more.
    async fn collect(&self, session: &Session) -> anyhow::Result<Listed> {
        let filter = self.filter.query(session.screen.now);
        let mut listed = Listed {
            events: Vec::new(),
            next: self.cursor.clone(),
        };
        let mut spinner = ProgressBar::hidden();
        loop {
            let missing = self.limit - u32::try_from(listed.events.len())?;
            let mut query = filter.clone();
            query.push(("limit", missing.min(PAGE_MAX).to_string()));
            query.extend(listed.next.take().map(|next| ("cursor", next)));
            let page: EventPage = session.client.get("/api/events", &query).await?;
            listed.events.extend(page.events);
            listed.events.truncate(self.limit as usize);
            listed.next = page.next;
            if listed.next.is_none() || listed.events.len() >= self.limit as usize {
                spinner.finish_and_clear();
                return Ok(listed);
            }
            // Most searches end with their first page and show nothing of it.
            if spinner.is_hidden() {
                spinner = screen::spinner("{spinner} {pos} found, still searching");
            }
            spinner.set_position(listed.events.len() as u64);
        }
    }
}

fn table(events: &[EventRow], screen: &Screen) -> Table {
    let mut table = Table::new([
        Column::whole("AGE"),
        Column::whole("RECEIVED").rank(2),
        Column::whole("ID"),
        Column::whole("TYPE").cut_to(20, 12),
        Column::whole("OUTCOME").rank(3),
        Column::whole("MEDIA").cut_to(12, 12).rank(4),
        Column::whole("JOB").cut_to(12, 12).rank(5),
        Column::whole("SOURCE").cut_to(8, 8).rank(1),
        Column::whole("DELIVERIES").cut_to(24, 12),
    ]);
    for event in events {
        let outcome = screen::of_outcome(&event.outcome);
        table.push(vec![
            when::relative(event.received_at, screen.now).into(),
            Cell::new(&when::absolute(event.received_at), FAINT),
            event.id.as_str().into(),
            Cell::new(&event.r#type, outcome),
            Cell::new(&event.outcome, outcome),
            event.media_id.as_deref().unwrap_or("-").into(),
            event.job_id.as_deref().unwrap_or("-").into(),
            event.source.as_str().into(),
            deliveries(&event.deliveries, screen),
        ]);
    }
    table
}

/// How all deliveries stand, those that need somebody first.
pub(super) fn deliveries(deliveries: &[DeliveryRow], screen: &Screen) -> Cell {
    if deliveries.is_empty() {
        return Cell::new("wanted by nobody", FAINT);
    }
    let urgency = |delivery: &&DeliveryRow| match delivery.status.as_str() {
        "dead" => 0,
        "pending" => 1,
        "running" => 2,
        _ => 3,
    };
    let mut sorted: Vec<&DeliveryRow> = deliveries.iter().collect();
    sorted.sort_by_key(urgency);
    let mut cell = Cell::default();
    for (position, delivery) in sorted.into_iter().enumerate() {
        if position > 0 {
            cell = cell.and(", ", FAINT);
        }
        cell = cell.and(&format!("{} ", delivery.handler), PLAIN);
        cell = cell.and(
            &standing(delivery, screen),
            screen::of_status(&delivery.status),
        );
    }
    cell
}

/// How a delivery stands, in few words.
pub(super) fn standing(delivery: &DeliveryRow, screen: &Screen) -> String {
    match (delivery.status.as_str(), delivery.next_at) {
        ("pending", Some(next)) if delivery.attempts > 0 && next > screen.now => {
            format!("pending, next try {}", when::relative(next, screen.now))
        }
        (status, _) => status.to_owned(),
    }
}
