//! What the facts mean. Pure: the same facts give the same findings.

use serde::Serialize;

use super::facts::{Api, Configuration, Facts};
use crate::cli::admin::answers::StoreRow;
use crate::cli::admin::screen;
use crate::cli::admin::when;
use crate::key_files;
use crate::server::thresholds::DISK_FREE_CRITICAL;
use crate::store::tools::Glance;

mod callbacks;
mod deliveries;
#[cfg(test)]
mod tests;

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
        Configuration::Broken { path, problems } => {
            let state = match facts.live {
                Ok(()) => State::Broken,
                Err(_) => State::Critical,
            };
            let mut findings: Vec<Finding> = problems
                .iter()
                .map(|line| finding(PART, state, line))
                .collect();
            if let Some(first) = findings.first_mut() {
                if let Some(path) = path {
                    first.text = format!("{}: {}", path.display(), first.text);
                }
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
    findings.extend(troubles.into_iter().map(|line| trouble(line)));
    findings
}

/// What is wrong with one source.
fn trouble(line: &str) -> Finding {
    if line.contains(key_files::TROUBLE) {
        return finding("keys", State::Broken, line).advice(format!(
            "Mend the file of keys, for {line}. Until then a changed key does not arrive, and the next start fails."
        ));
    }
    finding("queues", State::Broken, line).advice(format!(
        "Look at {line}: endpoint, queue name and credentials. Messages wait in the queue meanwhile, until it drops them."
    ))
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

/// A store, and how its disk is judged.
fn store(facts: &Facts, store: &StoreRow) -> Finding {
    let free = store.disk_free_bytes;
    let state = match free {
        free if free < DISK_FREE_CRITICAL => State::Critical,
        free if free < store.disk_free_min_bytes.unwrap_or(facts.disk_free_min) => State::Broken,
        _ => State::Good,
    };
    let found = finding("store", state, sizes(store));
    match state {
        State::Good => found,
        _ => found.advice(format!(
            "Make room on the store's disk ({} free): enlarge it, shorten store.retention, or set store.retention_bytes; ims-receiver store compact gives back what purged events left. On a full disk every callback is answered 503.",
            screen::bytes(free)
        )),
    }
}

fn store_of_service(facts: &Facts, api: &Api) -> Finding {
    match &api.stats.store {
        Some(row) => store(facts, row),
        None => finding(
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
    match &file.glance {
        Ok(glance) => findings.extend(at_rest(facts, glance)),
        Err(error) => findings.push(finding("store", State::Look, error).advice(format!(
            "See whether {path} is the right store (store.path) and may be read by this user: {error}"
        ))),
    }
    let unseen = "refusals, clock, reasons and paused handlers cannot be seen without the service; ims-receiver store check looks at the store for damage";
    findings.push(finding("the rest", State::Unknown, unseen));
    findings
}

/// A store that nobody has open.
fn at_rest(facts: &Facts, glance: &Glance) -> Vec<Finding> {
    let size = &glance.size;
    let row = StoreRow {
        file_bytes: size.file_bytes,
        used_bytes: Some(size.used_bytes),
        wal_bytes: size.wal_bytes,
        disk_free_bytes: size.disk_free_bytes,
        disk_free_min_bytes: None,
    };
    let mut findings = vec![store(facts, &row)];
    findings.push(match glance.newest {
        Some(newest) => {
            let ago = when::relative(newest, facts.now);
            let text = format!("the newest came {ago} ({})", when::absolute(newest));
            finding("events", State::Good, text)
        }
        None => finding("events", State::Note, "there is none yet"),
    });
    let waiting = glance.pending.iter().map(|(name, count)| {
        let waits = screen::count(*count, "delivery waits", "deliveries wait");
        finding("handlers", State::Note, format!("{name}: {waits}"))
    });
    findings.extend(waiting);
    findings.extend(glance.dead.iter().map(|(name, count)| {
        let dead = screen::count(*count, "dead delivery", "dead deliveries");
        finding("handlers", State::Look, format!("{name}: {dead}")).advice(format!(
            "Once the service runs, see why {name} has {dead}, and send again: ims-receiver events redeliver --handler {name} --status dead"
        ))
    }));
    findings
}
