//! The series of the contract, and those that the files for Prometheus and
//! Grafana build on.

use std::collections::{BTreeMap, BTreeSet};

use crate::destination::free_port;
use crate::harness::{Folder, Post, accepted, body, wait_for};

/// Names with their labels, beside `le`, as the contract has them.
const CONTRACT: [(&str, &[&str]); 37] = [
    ("requests_total", &["source", "status"]),
    ("ack_seconds_bucket", &["source"]),
    ("events_total", &["outcome", "source", "type"]),
    ("duplicates_total", &["source"]),
    ("refusals_total", &["reason", "source"]),
    ("authentic_total", &["key", "source"]),
    ("signature_reuse_total", &["source"]),
    ("timestamp_skew_seconds", &["source"]),
    ("keys_unusable", &["source"]),
    ("last_event_timestamp_seconds", &["source"]),
    ("deliveries_total", &["handler", "result"]),
    ("delivery_seconds_bucket", &["handler"]),
    ("pending_deliveries", &["handler"]),
    ("oldest_pending_seconds", &["handler"]),
    ("dead_deliveries", &["handler"]),
    ("store_commit_seconds_bucket", &[]),
    ("store_commit_seconds_sum", &[]),
    ("store_commit_seconds_count", &[]),
    ("store_batch_size_bucket", &[]),
    ("store_batch_size_sum", &[]),
    ("store_batch_size_count", &[]),
    ("store_errors_total", &[]),
    ("store_bytes", &[]),
    ("early_purged_events_total", &["cause"]),
    ("wal_bytes", &[]),
    ("disk_free_bytes", &[]),
    ("dedup_window_seconds", &[]),
    ("log_lines_dropped_total", &[]),
    ("build_info", &["version"]),
    ("admin_denied_total", &["reason"]),
    ("queue_messages_total", &["result", "source"]),
    ("queue_polls_total", &["result", "source"]),
    ("queue_delete_failures_total", &["source"]),
    ("queue_received_too_often_total", &["source"]),
    ("queue_lag_seconds", &["source"]),
    ("trace_spans_exported_total", &[]),
    ("trace_spans_dropped_total", &[]),
];

const PREFIX: &str = "ims_receiver_";

/// The names on the page, each with the names of its labels.
fn series(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let name = name
            .strip_prefix(PREFIX)
            .unwrap_or_else(|| panic!("{line}"));
        let labels = labels.trim_end_matches('}').split("\",");
        let labels = labels.filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        found.entry(name.to_owned()).or_default().extend(labels);
    }
    found
}

/// A service that has seen everything once: an event, a copy, a stranger.
fn page() -> String {
    let closed = free_port();
    let endpoint = closed.local_addr().expect("it is bound");
    drop(closed);
    let folder = Folder::with_log().configured(&format!(
        "[sources.queue]\nkind = \"mns\"\nendpoint = \"http://{endpoint}\"\n\
         queue = \"ice-callback-events\"\n\
         credentials = {{ access_key_id = \"id-of-key\", access_key_secret = \"secret-of-key\" }}\n\
         [sources.keyed]\nkind = \"http\"\npath = \"/keyed\"\n\
         callback_urls = [\"https://callbacks.example.com/keyed\"]\n\
         auth = {{ scheme = \"ims\", keys_file = \"keys\" }}\n"
    ));
    std::fs::write(folder.path("keys"), "AKeyInAFile0000000001\n").expect("a file");
    let service = folder.start();
    let (id, _) = accepted(service.ingest, &body(1));
    accepted(service.ingest, &body(1));
    let forged = body(2);
    let forged = Post {
        key: "AnotherKey001AnotherKey001",
        ..Post::of(&forged)
    };
    let (status, _) = forged.send(service.ingest).expect("an answer");
    assert_eq!(status, 401);
    service.succeeded(&id);
    wait_for("the gauges are read", || {
        let room = service.metric("ims_receiver_disk_free_bytes");
        (room > Some(0.0)).then_some(())
    });
    let (status, page) = service.get("/metrics");
    assert_eq!(status, 200);
    page
}

/// The names of ours that a text holds.
fn named(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for part in text.split(PREFIX).skip(1) {
        let of_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let end = part.find(|c| !of_name(c)).unwrap_or(part.len());
        names.insert(part[..end].to_owned());
    }
    names
}

#[test]
fn every_series_of_the_contract_is_there_and_those_that_monitoring_builds_on() {
    let page = page();
    let found = series(&page);
    for (name, labels) in CONTRACT {
        let has = found
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not in {page}"));
        let has: Vec<&str> = has
            .iter()
            .map(String::as_str)
            .filter(|label| *label != "le")
            .collect();
        assert_eq!(has, labels, "{name}");
    }
    for name in [
        "config/prometheus-alerts.yml",
        "config/grafana-dashboard.json",
        "docs/monitoring.md",
    ] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let text = std::fs::read_to_string(path).expect("the file is there");
        let names = named(&text);
        assert!(names.len() > 15, "{name}: {names:?}");
        for used in names {
            let known = found.contains_key(&used)
                // The page of the manual calls a histogram by its name alone.
                || name.ends_with(".md") && found.contains_key(&format!("{used}_bucket"));
            assert!(known, "{name} uses {used}, which the service does not have");
        }
    }
}

/// Nothing is shown that the manual does not explain.
#[test]
fn every_series_is_in_the_manual() {
    let manual = include_str!("../../docs/monitoring.md");
    let manual = named(manual);
    for name in series(&page()).into_keys() {
        let histogram = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| name.strip_suffix(part));
        let known = manual.contains(&name) || histogram.is_some_and(|own| manual.contains(own));
        assert!(known, "{name} is not in docs/monitoring.md");
    }
}

#[test]
fn a_source_is_known_to_be_silent_after_a_restart() {
    let folder = Folder::with_log();
    let service = folder.start();
    let series = r#"ims_receiver_last_event_timestamp_seconds{source="default"}"#;
    assert_eq!(service.metric(series), None, "nothing has come yet");
    let (id, _) = accepted(service.ingest, &body(1));
    service.succeeded(&id);
    let last = service.metric(series).expect("it is shown");
    service.kill();
    let service = folder.start();
    let again = wait_for("it is shown again", || {
        service.metric(series).filter(|at| *at > 0.0)
    });
    // The store keeps milliseconds.
    assert!((again - last).abs() < 1.0, "{again} {last}");
}

/// How a series begins matters to rates: zeros are there from the start.
#[test]
fn counters_begin_at_zero_and_help_is_there() {
    let page = Folder::with_log().start().get("/metrics").1;
    for zero in [
        r#"requests_total{source="default",status="503"} 0"#,
        r#"refusals_total{source="default",reason="mismatch"} 0"#,
        r#"duplicates_total{source="default"} 0"#,
        r#"authentic_total{source="default",key="1"} 0"#,
        r#"deliveries_total{handler="audit",result="dead"} 0"#,
        r#"ack_seconds_bucket{le="3.0",source="default"} 0"#,
        "store_errors_total 0",
        "log_lines_dropped_total 0",
        "trace_spans_dropped_total 0",
    ] {
        let line = format!("{PREFIX}{zero}");
        assert!(
            page.lines().any(|one| one == line),
            "{line} is not in {page}"
        );
    }
    let mut buckets = page
        .lines()
        .filter(|line| line.contains("ack_seconds_bucket"));
    let last = buckets.rfind(|line| !line.contains("+Inf"));
    assert!(
        last.is_some_and(|line| line.contains(r#"le="3.0""#)),
        "{last:?}"
    );
    for line in page.lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).expect("a name");
        assert!(page.contains(&format!("# HELP {name} ")), "{name}");
    }
}
