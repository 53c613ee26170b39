//! What the facts mean. Pure: the same facts give the same findings.

use serde::Serialize;

use super::facts::{Api, Configuration, Facts};
use crate::cli::admin::answers::StoreRow;
use crate::cli::admin::screen;
use crate::cli::admin::when;

mod callbacks;
mod deliveries;
#[cfg(test)]
mod tests;

/// With less the store soon takes nothing any more.
const DISK_FREE_CRITICAL: u64 = 128 << 20;

/// With less it is time to make room.
const DISK_FREE_LOW: u64 = 1 << 30;

/// How much something matters; the first needs somebody most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Events are being lost, or soon will be.
    Critical,
    /// Something does not work, and nothing is lost yet.
    Broken,
    /// Somebody should look at it.
    Look,
    /// Worth knowing.
    Note,
    /// Could not be seen.
    Unknown,
    /// As it should be.
    Good,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The part.
    pub part: &'static str,
    /// How much it matters.
    pub state: State,
    /// What was seen.
    pub text: String,
    /// What to do.
    pub advice: Option<String>,
}

impl Finding {
    /// Whether somebody has to do something.
    pub(super) fn needs_attention(&self) -> bool {
        self.state <= State::Look
    }
}

fn finding(part: &'static str, state: State, text: impl Into<String>) -> Finding {
    Finding {
        part,
        state,
        text: text.into(),
        advice: None,
    }
}

impl Finding {
    fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// Judges everything that was seen, part by part.
pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = configuration(facts);
    findings.extend(service(facts));
    findings.extend(public(facts));
    match &facts.api {
        Ok(api) => {
            findings.push(store_of_service(facts, api));
            findings.extend(callbacks::newest(facts, api));
            findings.extend(callbacks::answers(api));
            findings.extend(callbacks::clock(api));
            findings.extend(callbacks::refusals(facts, api));
            findings.extend(deliveries::handlers(facts, api));
            findings.extend(deliveries::queues(api));
        }
        Err(problem) => findings.extend(without_api(facts, problem)),
    }
    findings
}

fn configuration(facts: &Facts) -> Vec<Finding> {
    const PART: &str = "configuration";
    match &facts.configuration {
        Configuration::Absent => {
            vec![finding(
                PART,
                State::Note,
                "none here; --admin names the service",
            )]
        }
        Configuration::Good { path, warnings } => {
            let path = path.display();
            let mut findings = vec![finding(PART, State::Good, format!("{path}: no problems"))];
            let warnings = warnings.iter().map(|line| finding(PART, State::Note, line));
            findings.extend(warnings);
            findings
        }
        Configuration::Broken(problems) => {
            let state = match facts.live {
                Ok(()) => State::Broken,
                Err(_) => State::Critical,
            };
            let mut findings: Vec<Finding> = problems
                .iter()
                .map(|line| finding(PART, state, line))
                .collect();
            let first = findings.first_mut();
            if let Some(first) = first {
                first.advice = Some(
                    "Mend the configuration, no start takes it as it is: ims-receiver check lists every problem with what to do.".to_owned(),
                );
            }
            findings
        }
    }
}

fn service(facts: &Facts) -> Vec<Finding> {
    const PART: &str = "service";
    let Some(admin) = &facts.admin else {
        return vec![finding(
            PART,
            State::Unknown,
            "cannot be asked: nothing names its admin listener",
        )];
    };
    if let Err(problem) = &facts.live {
        return vec![finding(PART, State::Critical, problem).advice(
            "Start the service, or find out why it ended: its log says so, for instance journalctl -u ims-receiver. Senders give up within seconds, so what they send now is lost.",
        )];
    }
    let version = match &facts.api {
        Ok(api) => {
            let up = facts
                .now
                .duration_since(api.stats.started_at)
                .unsigned_abs();
            format!(", version {}, up {}", api.stats.version, when::took(up))
        }
        Err(_) => String::new(),
    };
    let Some((ready, lines)) = &facts.ready else {
        return vec![finding(
            PART,
            State::Unknown,
            format!("{admin} runs; /readyz does not answer"),
        )];
    };
    // `sources.NAME: …` is trouble of one source and no lack of readiness.
    let (troubles, reasons): (Vec<&String>, Vec<&String>) =
        lines.iter().partition(|line| line.starts_with("sources."));
    let mut findings = Vec::new();
    if *ready {
        findings.push(finding(
            PART,
            State::Good,
            format!("{admin} is ready{version}"),
        ));
    } else {
        let reasons: Vec<&str> = reasons.iter().map(|line| line.as_str()).collect();
        let reasons = reasons.join("; ");
        findings.push(
            finding(PART, State::Critical, format!("{admin} is not ready: {reasons}{version}"))
                .advice(format!("Make the service ready again: {reasons}. Until then callbacks are answered 503 and lost after the sender's third try.")),
        );
    }
    findings.extend(troubles.into_iter().map(|line| {
        finding("queues", State::Broken, line)
            .advice(format!("Look at {line}: endpoint, queue name and credentials. Messages wait in the queue meanwhile, until it drops them."))
    }));
    findings
}

fn public(facts: &Facts) -> Option<Finding> {
    const PART: &str = "listener";
    let public = facts.public.as_ref()?;
    let url = &public.url;
    Some(match &public.answer {
        Ok(200) => finding(PART, State::Good, format!("{url} answers 200")),
        Ok(503) => finding(PART, State::Note, format!("{url} answers 503: not ready, as above")),
        Ok(status) => finding(PART, State::Broken, format!("{url} answers {status}")).advice(format!(
            "See who listens there: {url} answers {status}, which this service never does."
        )),
        // Where the whole service is down that has been said.
        Err(problem) if facts.live.is_err() => finding(PART, State::Unknown, problem),
        Err(problem) => finding(PART, State::Critical, problem).advice(
            "Look at the public listener: the service runs, and server.listen does not answer from this machine.",
        ),
    })
}

fn sizes(store: &StoreRow) -> String {
    let used = match store.used_bytes {
        Some(used) if used < store.file_bytes => format!(" ({} in use)", screen::bytes(used)),
        _ => String::new(),
    };
    format!(
        "{}{used}, log {}, {} free on its disk",
        screen::bytes(store.file_bytes),
        screen::bytes(store.wal_bytes),
        screen::bytes(store.disk_free_bytes)
    )
}

/// How a disk with so much room is judged.
fn room(text: String, free: u64) -> Finding {
    let state = match free {
        free if free < DISK_FREE_CRITICAL => State::Critical,
        free if free < DISK_FREE_LOW => State::Broken,
        _ => State::Good,
    };
    let found = finding("store", state, text);
    match state {
        State::Good => found,
        _ => found.advice(format!(
            "Make room on the store's disk ({} free): enlarge it, shorten store.retention, or set store.retention_bytes; ims-receiver store compact gives back what purged events left. On a full disk every callback is answered 503.",
            screen::bytes(free)
        )),
    }
}

fn store_of_service(facts: &Facts, api: &Api) -> Finding {
    match (&api.stats.store, &facts.file) {
        (Some(store), file) => {
            let path = file
                .as_ref()
                .map_or_else(String::new, |file| format!("{}: ", file.path.display()));
            room(format!("{path}{}", sizes(store)), store.disk_free_bytes)
        }
        (None, _) => finding(
            "store",
            State::Unknown,
            "the service does not say how large it is",
        ),
    }
}

/// What is left to see where the API does not answer.
fn without_api(facts: &Facts, problem: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.live.is_ok() {
        findings.push(finding("service", State::Look, problem).advice(format!(
            "Let this program in, it sees little otherwise: {problem}"
        )));
    }
    let Some(file) = &facts.file else {
        return findings;
    };
    let path = file.path.display();
    let free = file.disk_free_bytes;
    findings.push(match (&file.bytes, free) {
        (Ok((bytes, wal)), Some(free)) => room(
            format!(
                "{path}: {}, log {}, {} free on its disk; ims-receiver store check looks inside",
                screen::bytes(*bytes),
                screen::bytes(*wal),
                screen::bytes(free)
            ),
            free,
        ),
        (Ok((bytes, _)), None) => {
            finding("store", State::Unknown, format!("{path}: {}", screen::bytes(*bytes)))
        }
        (Err(error), _) => finding("store", State::Look, format!("{path}: {error}")).advice(format!(
            "See whether store.path is right and may be read: {path}: {error}. A first start makes it."
        )),
    });
    let unseen = "handlers, refusals, clock and newest event cannot be seen without the service";
    findings.push(finding("deliveries", State::Unknown, unseen));
    findings
}
