//! What the facts mean. Pure: the same facts give the same findings.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::facts::{Api, Configuration, Facts};
use super::metrics::samples;
use crate::cli::admin::answers::{HandlerRow, StoreRow};
use crate::cli::admin::screen;
use crate::cli::admin::when;

/// With less the store soon takes nothing any more.
const DISK_FREE_CRITICAL: u64 = 128 << 20;

/// With less it is time to make room.
const DISK_FREE_LOW: u64 = 1 << 30;

/// Clocks further apart than this get near to what sources tolerate.
const SKEW_SECONDS_MAX: f64 = 60.0;

/// A delivery that waits longer than this is not just being retried.
const PENDING_MAX: Duration = Duration::from_secs(15 * 60);

/// A queue that is further behind than this is not keeping up.
const QUEUE_LAG_SECONDS_MAX: f64 = 300.0;

/// The sender gives up after 3 s; this is the last third.
const ACK_MS_MAX: f64 = 2000.0;

/// Older refusals are history.
const REFUSALS_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

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
            findings.extend(newest(facts, api));
            findings.extend(answers(api));
            findings.extend(clock(api));
            findings.extend(refusals(facts, api));
            findings.extend(handlers(facts, api));
            findings.extend(queues(api));
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

fn newest(facts: &Facts, api: &Api) -> Vec<Finding> {
    const PART: &str = "events";
    let mut findings = vec![match &api.newest {
        Some(event) => finding(
            PART,
            State::Good,
            format!(
                "the newest came {} ({}), {} over {}",
                when::relative(event.received_at, facts.now),
                when::absolute(event.received_at),
                event.r#type,
                event.source
            ),
        ),
        None => finding(PART, State::Note, "there is none yet"),
    }];
    if api.newest.is_some() {
        let silent = api
            .stats
            .sources
            .iter()
            .filter(|source| source.last_event_at.is_none());
        findings.extend(silent.map(|source| {
            let text = format!(
                "source {} has had none since the start of the service",
                source.name
            );
            finding(PART, State::Note, text)
        }));
    }
    findings
}

/// How callbacks were answered in the last hour.
fn answers(api: &Api) -> Option<Finding> {
    const PART: &str = "answers";
    let acks = &api.stats.acks;
    let unavailable: u64 = acks.iter().map(|minute| minute.unavailable).sum();
    let slowest = acks
        .iter()
        .filter_map(|minute| minute.max_ms)
        .fold(0.0, f64::max);
    if unavailable > 0 {
        let n = screen::count(unavailable, "callback was", "callbacks were");
        let text = format!("{n} answered 503 in the last hour");
        return Some(finding(PART, State::Broken, text).advice(
            "Find out why callbacks were answered 503: a stop or start, a store that was full or slow (ims_receiver_store_commit_seconds), or too many bodies at once. What fails three times is lost.",
        ));
    }
    if slowest > ACK_MS_MAX {
        let text = format!(
            "the slowest of the last hour took {slowest:.0} ms; senders give up after 3000"
        );
        return Some(finding(PART, State::Look, text).advice(
            "Look at the store's disk: an answer took most of the sender's 3 s (ims_receiver_store_commit_seconds).",
        ));
    }
    (!acks.is_empty()).then(|| {
        let text = format!("no 503 in the last hour, the slowest took {slowest:.0} ms");
        finding(PART, State::Good, text)
    })
}

fn clock(api: &Api) -> Vec<Finding> {
    const PART: &str = "clock";
    let skews = samples(
        &api.metrics,
        "ims_receiver_timestamp_skew_seconds",
        "source",
    );
    if skews.is_empty() {
        return vec![finding(
            PART,
            State::Unknown,
            "no signed request to compare it with yet",
        )];
    }
    skews
        .into_iter()
        .map(|(source, skew)| {
            let side = if skew < 0.0 { "behind" } else { "ahead of" };
            let apart = skew.abs();
            let text = format!("{apart:.0} s {side} the sender's, by the last request of {source}");
            if apart <= SKEW_SECONDS_MAX {
                return finding(PART, State::Good, text);
            }
            finding(PART, State::Broken, text).advice(format!(
                "Set this machine's clock (timedatectl, chronyc tracking): it is {apart:.0} s {side} the sender's, and past the source's tolerance every callback is refused."
            ))
        })
        .collect()
}

/// What was refused of late, grouped by what was found out about it.
fn refusals(facts: &Facts, api: &Api) -> Vec<Finding> {
    const PART: &str = "refusals";
    type Kind<'a> = (&'a str, &'a str, String);
    let mut kinds: BTreeMap<Kind<'_>, (u64, jiff::Timestamp)> = BTreeMap::new();
    for refusal in &api.refusals {
        let age = facts.now.duration_since(refusal.at);
        if age.is_positive() && age.unsigned_abs() > REFUSALS_AGE_MAX {
            continue;
        }
        let source = refusal.source.as_deref().unwrap_or("no source");
        let kind = (
            source,
            refusal.reason.as_str(),
            refusal.diagnosis.join("; "),
        );
        let entry = kinds.entry(kind).or_insert((0, refusal.at));
        entry.0 += refusal.count;
        entry.1 = entry.1.max(refusal.at);
    }
    if kinds.is_empty() {
        return vec![finding(PART, State::Good, "none in the last day")];
    }
    let last_event = |name: &str| {
        let mut sources = api.stats.sources.iter();
        sources.find(|source| source.name == name)?.last_event_at
    };
    let mut found: Vec<Finding> = kinds
        .into_iter()
        .map(|((source, reason, diagnosis), (count, last))| {
            let probably = match diagnosis.as_str() {
                "" => String::new(),
                diagnosis => format!(": {diagnosis}"),
            };
            let text = format!(
                "{source}: {} refused as {reason}, the last {}{probably}",
                screen::number(count),
                when::relative(last, facts.now)
            );
            // Strangers are refused all day; a sender that is refused and never
            // gets through is another matter.
            if last_event(source).is_some_and(|event| event > last) {
                return finding(PART, State::Note, text);
            }
            let state = match reason {
                "missing" => State::Look,
                _ => State::Broken,
            };
            finding(PART, state, text).advice(format!(
                "Compare source {source} with what is set at the sender: nothing was accepted since it refused {} as {reason}{probably}. ims-receiver explain --source {source} --request FILE tries a captured request.",
                screen::number(count)
            ))
        })
        .collect();
    found.sort_by_key(|finding| finding.state);
    found
}

fn handlers(facts: &Facts, api: &Api) -> Vec<Finding> {
    const PART: &str = "handlers";
    let mut findings = Vec::new();
    for handler in &api.handlers {
        let before = findings.len();
        findings.extend(dead(handler, api));
        findings.extend(waiting(handler, facts));
        if findings.len() == before {
            let pending = screen::number(handler.pending);
            let text = format!("{}: {pending} pending, none dead", handler.name);
            findings.push(finding(PART, State::Good, text));
        }
    }
    if api.handlers.is_empty() {
        findings.push(finding(
            PART,
            State::Note,
            "none is configured: events are stored and nothing is done",
        ));
    }
    findings
}

/// Dead deliveries of a handler, with their reasons.
fn dead(handler: &HandlerRow, api: &Api) -> Option<Finding> {
    if handler.dead == 0 {
        return None;
    }
    let name = &handler.name;
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    let deliveries = api.dead.iter().flat_map(|event| &event.deliveries);
    let own = deliveries.filter(|row| row.status == "dead" && row.handler == *name);
    for row in own {
        *reasons
            .entry(row.reason.as_deref().unwrap_or("no reason kept"))
            .or_default() += 1;
    }
    let mut reasons: Vec<(&str, u64)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let listed: Vec<String> = reasons
        .iter()
        .take(5)
        .map(|(reason, count)| format!("{} \u{d7} {reason}", screen::number(*count)))
        .collect();
    let why = match listed.is_empty() {
        true => String::new(),
        false => format!(": {}", listed.join("; ")),
    };
    let dead = screen::count(handler.dead, "dead delivery", "dead deliveries");
    let text = format!("{name}: {dead}{why}");
    Some(finding("handlers", State::Broken, text).advice(match handler.configured {
        true => format!(
            "Mend what {name} fails at{why}. Then send again: ims-receiver events redeliver --handler {name} --status dead"
        ),
        false => format!(
            "{name} is not configured any more and has {dead}: configure it again and redeliver, or leave them to store.retention_dead."
        ),
    }))
}

/// What waits for a handler, and why.
fn waiting(handler: &HandlerRow, facts: &Facts) -> Option<Finding> {
    const PART: &str = "handlers";
    let name = &handler.name;
    let pending = screen::count(handler.pending, "delivery waits", "deliveries wait");
    let oldest = handler
        .oldest_pending_at
        .map(|at| when::relative(at, facts.now));
    let since = oldest.map_or_else(String::new, |ago| format!(", the oldest since {ago}"));
    if let Some(paused) = handler.paused_at {
        let ago = when::relative(paused, facts.now);
        let text = format!("{name}: paused {ago}, {pending}{since}");
        return Some(finding(PART, State::Look, text).advice(format!(
            "Let {name} go on when its destination is ready: ims-receiver handlers resume {name}"
        )));
    }
    if handler.pending == 0 {
        return None;
    }
    if !handler.configured {
        let text = format!("{name}: not configured any more, {pending}{since}");
        return Some(finding(PART, State::Look, text).advice(format!(
            "Configure {name} again, or give up what waits for it: ims-receiver handlers discard {name}"
        )));
    }
    let age = facts.now.duration_since(handler.oldest_pending_at?);
    if !age.is_positive() || age.unsigned_abs() <= PENDING_MAX {
        return None;
    }
    let text = format!("{name}: {pending}{since}");
    Some(finding(PART, State::Broken, text).advice(format!(
        "See what {name} fails at, or whether it is too slow: ims-receiver events list --handler {name} --status pending,running"
    )))
}

fn queues(api: &Api) -> Vec<Finding> {
    const PART: &str = "queues";
    samples(&api.metrics, "ims_receiver_queue_lag_seconds", "source")
        .into_iter()
        .map(|(source, lag)| {
            let text = format!("{source}: {lag:.0} s behind");
            if lag <= QUEUE_LAG_SECONDS_MAX {
                return finding(PART, State::Good, text);
            }
            finding(PART, State::Broken, text).advice(format!(
                "See why the queue of {source} is not kept up with: more pollers, a slow store, or a queue that was full before the start."
            ))
        })
        .collect()
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
