//! `events redeliver`: a new round for deliveries, of single events or of all
//! that a filter lets through.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use super::progress::stop_on_interrupt;
use super::{Session, names};
use crate::cli::admin::answers::Redelivered;
use crate::cli::admin::client::AdminError;
use crate::cli::admin::confirm::confirm;
use crate::cli::admin::filter::FilterArgs;
use crate::cli::admin::screen;
use crate::cli::admin::when;
use crate::cli::usage::UsageError;
use crate::event::EventId;

/// Events of one request while it is counted.
const COUNT_STEP: u64 = 10_000;

/// Events of one request that changes something: little enough that the bar
/// moves and Ctrl-C is heard.
const STEP: u64 = 200;

/// Deliveries a second where nobody said anything.
const RATE_DEFAULT: f64 = 50.0;
const RATE_MIN: f64 = 0.001;
const RATE_MAX: f64 = 1000.0;

/// Send events to their handlers again: single ones, or all that a filter lets
/// through
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Attempt numbers go on, the age that retry.max_age limits starts anew, and what
is running is left alone. By filter the number is shown first and has to be
typed, or --yes given.

Examples:
  ims-receiver events redeliver 019ab3f2-7c1e-7d30-9f0e-2d6c1a4b5e6f
  ims-receiver events redeliver --status dead --handler cms --since 2d
  ims-receiver events redeliver --status dead --since 2d --dry-run
  ims-receiver events redeliver --type 'ProduceMedia*' --since 1h --to archive --yes"
)]
pub struct RedeliverArgs {
    /// Events by id, instead of a filter; --status and --handler choose among
    /// their deliveries
    #[arg(value_name = "ID", conflicts_with_all = ["type", "source", "outcome",
          "media_id", "job_id", "since", "until", "q", "dry_run", "limit", "rate", "cursor"])]
    pub ids: Vec<EventId>,
    /// To these handlers, also where the event was not for them; by default to
    /// those that it has a delivery for (with --status or --handler: only such
    /// deliveries)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub to: Vec<String>,
    /// Say how many it would be, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Events at the most, the newest first [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Deliveries a second, so that a destination is not flooded [default: 50]
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Go on after this event, as an interrupted run says
    #[arg(long, value_name = "ID")]
    pub cursor: Option<String>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub filter: FilterArgs,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (RATE_MIN..=RATE_MAX).contains(&rate) => Ok(rate),
        _ => Err(format!(
            "write deliveries a second, {RATE_MIN} to {RATE_MAX}"
        )),
    }
}

impl RedeliverArgs {
    pub(super) async fn run(
        self,
        session: &Session,
        out: &mut dyn Write,
    ) -> anyhow::Result<ExitCode> {
        if self.ids.is_empty() {
            return self.by_filter(session, out).await;
        }
        self.by_id(session, out).await
    }

    async fn by_id(&self, session: &Session, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let mut handlers = self.to.clone();
        handlers.extend(self.filter.handler.clone());
        let mut body = json!({});
        if !handlers.is_empty() {
            body["handlers"] = json!(handlers);
        }
        if !self.filter.status.is_empty() {
            body["status"] = json!(self.filter.status);
        }
        let mut results = Vec::new();
        let mut code = ExitCode::SUCCESS;
        for id in &self.ids {
            let path = format!("/api/events/{id}/redeliver");
            match session.client.post(&path, &body).await {
                Ok(text) => {
                    let done: Redelivered = session.client.read(&text)?;
                    if session.json {
                        results.push(result(Some(*id), &done));
                    } else {
                        writeln!(out, "{id}: {}", outcome(&done))?;
                    }
                }
                Err(AdminError::NotFound(_)) => {
                    code = ExitCode::FAILURE;
                    eprintln!("{id}: there is no such event at {}", session.client);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if session.json {
            writeln!(out, "{}", json!({ "redelivered": results }))?;
        }
        Ok(code)
    }

    async fn by_filter(&self, session: &Session, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
        let members = self.members(session)?;
        if let Some(problem) = names::unknown_handler(session, &self.filter).await? {
            return Err(UsageError(problem).into());
        }
        let planned = self.count(session, &members).await?;
        if self.dry_run {
            return self.conclude(session, out, &planned, "would be due again", true);
        }
        if planned.deliveries == 0 {
            names::hint(session, &self.filter).await?;
            return self.conclude(session, out, &planned, "are due again", true);
        }
        if !confirm(self.yes, &self.question(&planned), planned.deliveries)? {
            return Ok(ExitCode::FAILURE);
        }
        let (done, complete) = self.redeliver(session, members, &planned).await?;
        self.conclude(session, out, &done, "are due again", complete)
    }

    /// The request that all steps share.
    fn members(&self, session: &Session) -> Result<Map<String, Value>, UsageError> {
        let mut members = self.filter.members(session.screen.now);
        if members.is_empty() {
            return Err(UsageError(
                "name events by id or by a filter; --type '*' says all of them".to_owned(),
            ));
        }
        if !self.to.is_empty() {
            members.insert("handlers".to_owned(), json!(self.to));
        }
        members.insert("rate".to_owned(), json!(self.rate()));
        Ok(members)
    }

    fn rate(&self) -> f64 {
        self.rate.unwrap_or(RATE_DEFAULT)
    }

    /// How many it would be.
    async fn count(
        &self,
        session: &Session,
        members: &Map<String, Value>,
    ) -> anyhow::Result<Redelivered> {
        let mut members = members.clone();
        members.insert("dry_run".to_owned(), true.into());
        let mut spinner = ProgressBar::hidden();
        let mut steps = Steps::new(self, members, COUNT_STEP);
        while steps.next(session).await? {
            if spinner.is_hidden() {
                spinner = screen::spinner("{spinner} {human_pos} deliveries counted");
            }
            spinner.set_position(steps.sum.deliveries);
        }
        spinner.finish_and_clear();
        Ok(steps.sum)
    }

    fn question(&self, planned: &Redelivered) -> String {
        let deliveries = screen::count(planned.deliveries, "delivery", "deliveries");
        let events = screen::count(planned.events, "event", "events");
        let rate = self.rate();
        let seconds = std::time::Duration::from_secs_f64(planned.deliveries as f64 / rate);
        let mut text = format!(
            "This gives {deliveries} of {events} a new round, {rate} a second, which takes {}",
            when::took(seconds)
        );
        if planned.running > 0 {
            let running = screen::number(planned.running);
            text.push_str(&format!("; {running} that are running are left alone"));
        }
        text
    }

    /// Answers what was done and whether that is all.
    async fn redeliver(
        &self,
        session: &Session,
        members: Map<String, Value>,
        planned: &Redelivered,
    ) -> anyhow::Result<(Redelivered, bool)> {
        let stop = stop_on_interrupt();
        let bar = screen::bar(planned.deliveries, "deliveries");
        let mut steps = Steps::new(self, members, STEP);
        loop {
            let more = steps.next(session).await;
            bar.set_position(steps.sum.deliveries);
            match more {
                Ok(true) if !stop.is_cancelled() => {}
                Ok(more) => {
                    bar.finish_and_clear();
                    return Ok((steps.sum, !more));
                }
                Err(error) => {
                    bar.finish_and_clear();
                    let done = outcome(&steps.sum);
                    let on = go_on(steps.sum.next.as_deref());
                    return Err(anyhow::Error::from(error)
                        .context(format!("{done}, then it broke off{on}")));
                }
            }
        }
    }

    fn conclude(
        &self,
        session: &Session,
        out: &mut dyn Write,
        done: &Redelivered,
        are: &str,
        complete: bool,
    ) -> anyhow::Result<ExitCode> {
        if session.json {
            let mut value = result(None, done);
            value["dry_run"] = self.dry_run.into();
            value["complete"] = complete.into();
            value["next"] = json!(done.next);
            writeln!(out, "{value}")?;
        } else if done.deliveries == 0 && done.running == 0 {
            writeln!(out, "Nothing matches.")?;
        } else {
            writeln!(out, "{}", told(done, are))?;
        }
        if complete {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("Interrupted{}", go_on(done.next.as_deref()));
        Ok(ExitCode::FAILURE)
    }
}

fn go_on(next: Option<&str>) -> String {
    next.map_or_else(String::new, |next| {
        format!(
            "; the same command with --cursor {} goes on",
            screen::clean(next)
        )
    })
}

fn outcome(done: &Redelivered) -> String {
    told(done, "are due again")
}

fn told(done: &Redelivered, are: &str) -> String {
    let deliveries = screen::count(done.deliveries, "delivery", "deliveries");
    let events = screen::count(done.events, "event", "events");
    let are = match (done.deliveries, are) {
        (1, "are due again") => "is due again",
        (_, are) => are,
    };
    let mut text = format!("{deliveries} of {events} {are}");
    if done.running > 0 {
        let running = screen::number(done.running);
        text.push_str(&format!(", {running} running left alone"));
    }
    text
}

fn result(id: Option<EventId>, done: &Redelivered) -> Value {
    let mut value = json!({
        "events": done.events,
        "deliveries": done.deliveries,
        "running": done.running,
    });
    if let Some(id) = id {
        value["id"] = json!(id);
    }
    value
}

/// A redelivery by filter, step by step.
struct Steps {
    members: Map<String, Value>,
    step: u64,
    left: Option<u64>,
    /// What all steps did together.
    sum: Redelivered,
}

impl Steps {
    fn new(args: &RedeliverArgs, members: Map<String, Value>, step: u64) -> Self {
        Self {
            members,
            step,
            left: args.limit,
            sum: Redelivered {
                next: args.cursor.clone(),
                ..Redelivered::default()
            },
        }
    }

    /// Does the next step; answers whether there is another.
    async fn next(&mut self, session: &Session) -> Result<bool, AdminError> {
        let limit = self.left.map_or(self.step, |left| left.min(self.step));
        let mut members = self.members.clone();
        members.insert("limit".to_owned(), limit.into());
        if let Some(next) = &self.sum.next {
            members.insert("cursor".to_owned(), json!(next));
        }
        if let Some(next_due) = &self.sum.next_due {
            members.insert("first_due".to_owned(), json!(next_due));
        }
        let text = session
            .client
            .post("/api/redeliver", &Value::Object(members))
            .await?;
        let done: Redelivered = session.client.read(&text)?;
        self.sum.events += done.events;
        self.sum.deliveries += done.deliveries;
        self.sum.running += done.running;
        self.sum.next = done.next;
        self.sum.next_due = done.next_due;
        self.left = self.left.map(|left| left.saturating_sub(done.events));
        Ok(self.sum.next.is_some() && self.left != Some(0))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::routing::post;
    use clap::Parser;

    use super::*;
    use crate::cli::admin::client::tests::fake;
    use crate::cli::admin::screen::Screen;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        redeliver: RedeliverArgs,
    }

    fn parsed(arguments: &[&str]) -> Result<RedeliverArgs, clap::Error> {
        let all = ["x"].iter().chain(arguments);
        Program::try_parse_from(all).map(|program| program.redeliver)
    }

    /// A service with this many matching events, one delivery each; answers
    /// the requests that it got.
    async fn service(matching: u64) -> (Session, Arc<Mutex<Vec<Value>>>) {
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = Arc::clone(&asked);
        let answer = move |body: String| {
            let body: Value = serde_json::from_str(&body).unwrap();
            let from: u64 = body["cursor"].as_str().unwrap_or("0").parse().unwrap();
            let limit = body["limit"].as_u64().unwrap();
            let events = limit.min(matching - from);
            let next = from + events;
            kept.lock().unwrap().push(body);
            async move {
                let next_due = format!("due-{next}");
                let next = (next < matching).then(|| next.to_string());
                json!({ "events": events, "deliveries": events, "running": 0, "next": next, "next_due": next_due }).to_string()
            }
        };
        let router = Router::new().route("/api/redeliver", post(answer));
        let session = Session {
            client: fake(router, None).await,
            screen: Screen {
                width: None,
                now: "2026-11-24T17:00:00Z".parse().unwrap(),
            },
            json: false,
        };
        (session, asked)
    }

    async fn run(arguments: &[&str], matching: u64) -> (String, Vec<Value>) {
        let (session, asked) = service(matching).await;
        let mut out = Vec::new();
        let args = parsed(arguments).unwrap();
        args.run(&session, &mut out).await.unwrap();
        let asked = asked.lock().unwrap().clone();
        (String::from_utf8(out).unwrap(), asked)
    }

    #[tokio::test]
    async fn all_that_matches_is_counted_first_and_then_sent_step_by_step() {
        let arguments = ["--status", "dead", "--since", "1h", "--rate", "7", "--yes"];
        let (said, asked) = run(&arguments, 450).await;
        assert_eq!(said, "450 deliveries of 450 events are due again\n");
        let (counted, sent) = asked.split_first().unwrap();
        assert_eq!(counted["dry_run"], true);
        assert_eq!(sent.len(), 3);
        for (step, from) in sent.iter().zip([0, 200, 400]) {
            assert!(step.get("dry_run").is_none());
            assert_eq!(step["status"], json!(["dead"]));
            assert_eq!(step["since"], "2026-11-24T16:00:00.000Z");
            assert_eq!(step["rate"], 7.0);
            // One schedule over all steps.
            if from > 0 {
                assert_eq!(step["cursor"], from.to_string());
                assert_eq!(step["first_due"], format!("due-{from}"));
            }
        }
    }

    #[tokio::test]
    async fn a_limit_holds_over_all_steps() {
        let arguments = ["--type", "*", "--limit", "250", "--to", "a,b", "--yes"];
        let (said, asked) = run(&arguments, 1000).await;
        assert_eq!(said, "250 deliveries of 250 events are due again\n");
        let limits: Vec<u64> = asked
            .iter()
            .filter_map(|body| body["limit"].as_u64())
            .collect();
        assert_eq!(limits, [250, 200, 50]);
        assert_eq!(asked[1]["handlers"], json!(["a", "b"]));
        let (said, asked) = run(&["--type", "*", "--dry-run"], 0).await;
        assert_eq!((said.as_str(), asked.len()), ("Nothing matches.\n", 1));
    }

    #[test]
    fn ids_and_filters_exclude_each_other() {
        let id = "019ab3f2-7c1e-7d30-9f0e-2d6c1a4b5e6f";
        assert!(parsed(&[id, id, "--handler", "cms", "--status", "dead"]).is_ok());
        for wrong in [
            &[id, "--rate", "5"][..],
            &[id, "--dry-run"],
            &["no-id"],
            &["--rate", "0", "--type", "*"],
            &["--rate", "NaN", "--type", "*"],
            &["--limit", "0", "--type", "*"],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
