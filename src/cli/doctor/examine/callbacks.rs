//! What comes in: events, answers, clocks, refusals.

use std::collections::BTreeMap;

use super::{Finding, State, finding};
use crate::cli::admin::answers::AckMinute;
use crate::cli::admin::screen;
use crate::cli::admin::when;
use crate::cli::doctor::facts::{Api, Facts};
use crate::cli::doctor::metrics::samples;
use crate::server::thresholds::{
    ACK_MS_MAX, ACK_P99_MS_MAX, REFUSALS_AGE_MAX, RefusalWeight, SKEW_SECONDS_MAX,
    weight_of_refusal,
};

/// When events came last.
pub(super) fn newest(facts: &Facts, api: &Api) -> Vec<Finding> {
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
pub(super) fn answers(api: &Api) -> Option<Finding> {
    const PART: &str = "answers";
    let acks = &api.stats.acks;
    let unavailable: u64 = acks.iter().map(|minute| minute.unavailable).sum();
    let most = |of: fn(&AckMinute) -> Option<f64>| acks.iter().filter_map(of).reduce(f64::max);
    let (slowest, high) = (most(|minute| minute.max_ms), most(|minute| minute.p99_ms));
    if unavailable > 0 {
        let n = screen::count(unavailable, "callback was", "callbacks were");
        let text = format!("{n} answered 503 in the last hour");
        return Some(finding(PART, State::Broken, text).advice(
            "Find out why callbacks were answered 503: a stop or start, a store that was full or slow (ims_receiver_store_commit_seconds), or too many bodies at once. What fails three times is lost.",
        ));
    }
    if acks.is_empty() {
        return None;
    }
    let Some(slowest) = slowest else {
        let text = "no 503 in the last hour, and no signed callback to answer";
        return Some(finding(PART, State::Note, text));
    };
    let disk = "Look at the store's disk: an answer took most of the sender's 3 s (ims_receiver_store_commit_seconds).";
    if let Some(high) = high.filter(|high| *high > ACK_P99_MS_MAX) {
        let text = format!(
            "one in a hundred of the last hour took {high:.0} ms or more; senders give up after 3000"
        );
        return Some(finding(PART, State::Broken, text).advice(disk));
    }
    if slowest > ACK_MS_MAX {
        let text = format!(
            "the slowest of the last hour took {slowest:.0} ms; senders give up after 3000"
        );
        return Some(finding(PART, State::Look, text).advice(disk));
    }
    let text = format!("no 503 in the last hour, the slowest took {slowest:.0} ms");
    Some(finding(PART, State::Good, text))
}

/// Our clock beside the senders'.
pub(super) fn clock(api: &Api) -> Vec<Finding> {
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
pub(super) fn refusals(facts: &Facts, api: &Api) -> Vec<Finding> {
    const PART: &str = "refusals";
    type Kind<'a> = (&'a str, &'a str, String);
    type Seen<'a> = (u64, jiff::Timestamp, &'a str);
    let mut kinds: BTreeMap<Kind<'_>, Seen<'_>> = BTreeMap::new();
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
        // A source's own path says nothing; of others the last is shown, since
        // a stranger can invent any number of them.
        let path = match refusal.source {
            Some(_) => "",
            None => refusal.path.as_str(),
        };
        let entry = kinds.entry(kind).or_insert((0, refusal.at, path));
        entry.0 += refusal.count;
        if refusal.at > entry.1 {
            (entry.1, entry.2) = (refusal.at, path);
        }
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
        .map(|((source, reason, diagnosis), (count, last, path))| {
            let probably = match diagnosis.as_str() {
                "" => String::new(),
                diagnosis => format!(": {diagnosis}"),
            };
            let at = match path {
                "" => String::new(),
                path => format!(" at {path}"),
            };
            let text = format!(
                "{source}: {} refused as {reason}{at} (last: {}){probably}",
                screen::number(count),
                when::relative(last, facts.now)
            );
            // Strangers are refused all day; a sender that is refused and never
            // gets through is another matter.
            if last_event(source).is_some_and(|event| event > last) {
                return finding(PART, State::Note, text);
            }
            let state = match weight_of_refusal(reason) {
                RefusalWeight::Look => State::Look,
                RefusalWeight::Bad => State::Broken,
            };
            let count = screen::number(count);
            finding(PART, state, text).advice(match reason {
                "no_source" => format!(
                    "Compare the URL that is set at the sender with the path of the source (sources.NAME.path): {count} signed requests came to paths that are no source's{probably}. Their events are lost."
                ),
                _ => format!(
                    "Compare source {source} with what is set at the sender: nothing was accepted since it refused {count} as {reason}{probably}. ims-receiver explain --source {source} --request FILE tries a captured request."
                ),
            })
        })
        .collect();
    found.sort_by_key(|finding| finding.state);
    found
}
