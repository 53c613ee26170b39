//! `[handlers.NAME]`: what reacts, to what, and how hard it is driven.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use globset::GlobBuilder;

use super::quantity::{AGE, DAY, written};
use super::{Range, Resolver, Surroundings, forward, shell};
use crate::dispatch::LaneConfig;
use crate::dispatch::retry::RetryPolicy;
use crate::event::{MALFORMED, ims};
use crate::filter::Filter;
use crate::handler::HandlerConfig;
use crate::handler::log::{LogConfig, LogOutput};
use crate::request::{HandlerName, SourceName};
use crate::settings::raw::{RawCommon, RawHandler, RawKind, RawLog, RawRetry};

pub(super) fn handlers(
    r: &mut Resolver<'_>,
    raw: BTreeMap<String, RawHandler>,
    around: &Surroundings<'_>,
) -> Option<Vec<LaneConfig>> {
    if r.written_names("handlers").is_empty() {
        r.warn(
            "handlers",
            "none is configured: events are stored and nothing is done",
            "begin with [handlers.audit] and kind = \"log\"",
        );
    }
    let count = raw.len();
    let lanes: Vec<LaneConfig> = raw
        .into_iter()
        .filter_map(|(name, handler)| one(r, &name, handler, around))
        .collect();
    (lanes.len() == count).then_some(lanes)
}

fn one(
    r: &mut Resolver<'_>,
    name: &str,
    raw: RawHandler,
    around: &Surroundings<'_>,
) -> Option<LaneConfig> {
    let key = format!("handlers.{name}");
    let filter = filter(r, &key, &raw.common, around);
    let timeout = raw.common.timeout.as_deref();
    let timeout =
        timeout.and_then(|text| r.duration(&format!("{key}.timeout"), text, Range::up_to(DAY)));
    let concurrency = concurrency(r, &key, &raw.common, around);
    let retry = retry(r, &format!("{key}.retry"), &raw.common.retry);
    let handler = raw.kind.and_then(|kind| match kind {
        RawKind::Log(raw) => Some(HandlerConfig::Log(log(raw))),
        RawKind::Forward(raw) => forward::resolve(r, &key, raw).map(HandlerConfig::Forward),
        RawKind::Shell(raw) => shell::resolve(r, &key, raw).map(HandlerConfig::Shell),
    });
    Some(LaneConfig {
        name: HandlerName::new(name).ok()?,
        filter: filter?,
        timeout: timeout?,
        concurrency: concurrency?,
        retry: retry?,
        handler: handler?,
    })
}

fn filter(
    r: &mut Resolver<'_>,
    key: &str,
    raw: &RawCommon,
    around: &Surroundings<'_>,
) -> Option<Filter> {
    let globs = raw.events.as_deref().unwrap_or_default();
    let mut globs_fit = true;
    for (position, glob) in globs.iter().enumerate() {
        if let Err(error) = GlobBuilder::new(glob).build() {
            globs_fit = false;
            r.problem(
                format!("{key}.events[{position}]"),
                format!("\"{glob}\" is no pattern: {}", error.kind()),
                r#"write "MediaConvert*", or a type by its name"#,
            );
        } else if !fits_a_known_type(glob) {
            r.warn(
                format!("{key}.events[{position}]"),
                format!("\"{glob}\" fits none of the types that are known"),
                "the types are in docs/events.md; upper and lower case count, and `*` stands for any rest",
            );
        }
    }
    let sources = match &raw.sources {
        Some(names) => Some(source_names(r, key, names, around)?),
        None => None,
    };
    let outcomes = raw.outcome.as_ref();
    let outcome = outcomes.map(|wanted| wanted.iter().copied().collect::<BTreeSet<_>>());
    if !globs_fit {
        return None;
    }
    Filter::new(raw.events.as_deref(), sources, outcome)
        .map_err(|error| {
            let problem = format!("cannot be used together: {}", error.kind());
            r.problem(format!("{key}.events"), problem, "write fewer patterns");
        })
        .ok()
}

/// Whether `glob` lets any event through that IMS is known to send, or one that
/// could not be read.
fn fits_a_known_type(glob: &str) -> bool {
    let pattern = GlobBuilder::new(glob).build();
    pattern.is_ok_and(|pattern| {
        let pattern = pattern.compile_matcher();
        ims::all_types()
            .chain([MALFORMED])
            .any(|name| pattern.is_match(name))
    })
}

fn source_names(
    r: &mut Resolver<'_>,
    key: &str,
    names: &[String],
    around: &Surroundings<'_>,
) -> Option<BTreeSet<SourceName>> {
    let mut sources = BTreeSet::new();
    for (position, text) in names.iter().enumerate() {
        let key = format!("{key}.sources[{position}]");
        match SourceName::new(text) {
            Ok(name) => {
                if !around.source_names.contains(text) {
                    r.warn(
                        key,
                        format!("there is no source \"{text}\""),
                        format!("the sources are {}", around.source_names.join(", ")),
                    );
                }
                sources.insert(name);
            }
            Err(error) => r.problem(key, error.to_string(), "write the NAME of a [sources.NAME]"),
        }
    }
    let all_fit = names.iter().all(|text| SourceName::new(text).is_ok());
    all_fit.then_some(sources)
}

fn concurrency(
    r: &mut Resolver<'_>,
    key: &str,
    raw: &RawCommon,
    around: &Surroundings<'_>,
) -> Option<usize> {
    let concurrency = raw.concurrency?;
    if let Some(dispatch) = around.dispatch
        && concurrency > dispatch.queue_capacity
    {
        r.problem(
            format!("{key}.concurrency"),
            format!(
                "{concurrency} is more than dispatch.queue_capacity ({}), through which all its deliveries go",
                dispatch.queue_capacity
            ),
            "lower the one or raise the other",
        );
        return None;
    }
    Some(concurrency)
}

fn retry(r: &mut Resolver<'_>, key: &str, raw: &RawRetry) -> Option<RetryPolicy> {
    let initial = r.duration(&format!("{key}.initial"), &raw.initial, Range::up_to(DAY));
    let max = r.duration(
        &format!("{key}.max"),
        &raw.max,
        Range::up_to(Duration::from_secs(30 * 24 * 3600)),
    );
    let max_age = r.duration(&format!("{key}.max_age"), &raw.max_age, Range::up_to(AGE));
    if let (Some(initial), Some(max)) = (initial, max)
        && initial > max
    {
        r.problem(
            format!("{key}.initial"),
            format!(
                "{} is more than retry.max ({})",
                written(initial),
                written(max)
            ),
            format!("write {} or less, or raise max", written(max)),
        );
    }
    Some(RetryPolicy {
        initial: initial?,
        max: max?,
        max_age: max_age?,
        attempts: raw.attempts,
    })
}

fn log(raw: RawLog) -> LogConfig {
    LogConfig {
        output: match raw.output.as_str() {
            "stdout" => LogOutput::Stdout,
            "stderr" => LogOutput::Stderr,
            path => LogOutput::File(path.into()),
        },
        body: raw.body,
        body_bytes_max: raw.body_bytes_max,
    }
}
