use serde_json::{Value, json};

use super::*;
use crate::cli::doctor::facts::{Public, StoreFile};
use crate::store::archive::StoreSize;

const NOW: &str = "2026-11-24T17:00:00Z";

/// A service where all is well.
fn api() -> Value {
    json!({
        "stats": {
            "now": NOW, "started_at": "2026-11-24T10:00:00Z", "version": "1.2.3",
            "acks": [{ "unavailable": 0, "max_ms": 12.0 }],
            "sources": [{ "name": "default", "last_event_at": "2026-11-24T16:50:00Z" }],
            "store": { "file_bytes": 4096, "used_bytes": 4096, "wal_bytes": 0, "disk_free_bytes": 50_000_000_000_u64 },
        },
        "handlers": [{ "name": "cms", "configured": true, "pending": 2, "dead": 0,
                       "oldest_pending_at": "2026-11-24T16:59:00Z" }],
        "refusals": [],
        "dead": [],
        "newest": { "id": "x", "source": "default", "type": "T", "outcome": "other",
                    "received_at": "2026-11-24T16:50:00Z" },
    })
}

fn facts(api: &Value, metrics: &str) -> Facts {
    fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
        serde_json::from_value(value.clone()).unwrap()
    }
    Facts {
        now: NOW.parse().unwrap(),
        configuration: Configuration::Good {
            path: "r.toml".into(),
            warnings: vec!["warning: x".to_owned()],
        },
        admin: Some("http://127.0.0.1:9090".to_owned()),
        live: Ok(()),
        ready: Some((true, vec!["ready".to_owned()])),
        public: Some(Public {
            url: "http://127.0.0.1:8080/healthz".to_owned(),
            answer: Ok(200),
        }),
        api: Ok(Api {
            stats: read(&api["stats"]),
            handlers: read(&api["handlers"]),
            refusals: read(&api["refusals"]),
            dead: read(&api["dead"]),
            newest: read(&api["newest"]),
            metrics: metrics.to_owned(),
        }),
        file: None,
        disk_free_min: 1 << 30,
    }
}

/// What needs somebody: state, text and advice of each.
fn attention(facts: &Facts) -> Vec<(State, String)> {
    let findings = examine(facts).into_iter();
    let urgent = findings.filter(Finding::needs_attention);
    urgent
        .map(|found| {
            let advice = found.advice.expect("whoever is called is told what to do");
            (
                found.state,
                format!("{}: {} | {advice}", found.part, found.text),
            )
        })
        .collect()
}

fn only(api: &Value, metrics: &str, state: State, said: &str) {
    let found = attention(&facts(api, metrics));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].0, state, "{found:#?}");
    assert!(found[0].1.contains(said), "no {said} in {found:#?}");
}

#[test]
fn nobody_is_called_where_all_is_well() {
    let found = attention(&facts(
        &api(),
        "ims_receiver_timestamp_skew_seconds{source=\"default\"} -3\n",
    ));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn each_trouble_is_seen_and_no_other() {
    let change = |path: &str, value: Value| {
        let mut api = api();
        *api.pointer_mut(path).expect("it is there") = value;
        api
    };
    let free = "/stats/store/disk_free_bytes";
    only(
        &change(free, json!(500 << 20)),
        "",
        State::Broken,
        "store compact",
    );
    only(
        &change(free, json!(1 << 20)),
        "",
        State::Critical,
        "1.00 MiB free",
    );
    only(
        &change("/stats/acks/0/unavailable", json!(3)),
        "",
        State::Broken,
        "3 callbacks were answered 503",
    );
    only(
        &change("/stats/acks/0/max_ms", json!(2900)),
        "",
        State::Look,
        "2900 ms",
    );
    only(
        &change("/handlers/0/dead", json!(4)),
        "",
        State::Broken,
        "events redeliver --handler cms --status dead",
    );
    let old = json!("2026-11-24T15:00:00Z");
    only(
        &change("/handlers/0/oldest_pending_at", old),
        "",
        State::Broken,
        "the oldest since 2 h ago",
    );
    only(
        &change("/handlers/0/configured", json!(false)),
        "",
        State::Look,
        "handlers discard cms",
    );
    let paused =
        json!([{ "name": "cms", "configured": true, "pending": 0, "dead": 0, "paused_at": NOW }]);
    only(
        &change("/handlers", paused),
        "",
        State::Look,
        "handlers resume cms",
    );
    let skew = "ims_receiver_timestamp_skew_seconds{source=\"default\"} 240.0\n";
    only(&api(), skew, State::Broken, "240 s ahead of the sender's");
    let lag = "ims_receiver_queue_lag_seconds{source=\"q\"} 4000\n";
    only(&api(), lag, State::Broken, "4000 s behind");
}

#[test]
fn refusals_count_where_nothing_got_through_since() {
    let refusal = |at: &str, reason: &str| {
        json!({ "at": at, "source": "default", "path": "/x", "reason": reason,
                "diagnosis": ["matches with a trailing slash"], "count": 2 })
    };
    let with = |refusals: Value| {
        let mut api = api();
        api["refusals"] = refusals;
        api
    };
    let before = refusal("2026-11-24T16:40:00Z", "mismatch");
    let after = refusal("2026-11-24T16:55:00Z", "mismatch");
    assert!(attention(&facts(&with(json!([before])), "")).is_empty());
    only(
        &with(json!([after, before])),
        "",
        State::Broken,
        "default: 4 refused as mismatch (last: 5 min ago): matches with a trailing slash",
    );
    let strangers = refusal("2026-11-24T16:55:00Z", "missing");
    only(
        &with(json!([strangers])),
        "",
        State::Look,
        "refused as missing",
    );
    let history = refusal("2026-11-22T16:55:00Z", "mismatch");
    let mut never = with(json!([history]));
    never["stats"]["sources"][0]["last_event_at"] = Value::Null;
    assert!(attention(&facts(&never, "")).is_empty());
}

#[test]
fn invented_paths_are_one_finding_and_what_answers_slowly_is_bad() {
    let mut api = api();
    let refusal = |number: u32| {
        json!({ "at": format!("2026-11-24T16:{number}:00Z"), "source": null,
                "path": format!("/{number}"), "reason": "no_source",
                "diagnosis": ["no source has this path"], "count": 1 })
    };
    api["refusals"] = (10..50).map(refusal).collect();
    let said = "no source: 40 refused as no_source at /49 (last: 11 min ago)";
    only(&api, "", State::Look, said);
    api["refusals"] = json!([]);
    api["stats"]["acks"] = json!([{ "p99_ms": 1500.0, "max_ms": 1600.0 }]);
    only(&api, "", State::Broken, "1500 ms or more");
    api["stats"]["acks"] = json!([{ "p99_ms": 20.0, "max_ms": 30.0 }]);
    api["handlers"][0]["failed"] = json!(9);
    only(&api, "", State::Look, "none of 9 attempts");
    api["handlers"][0]["succeeded"] = json!(1);
    assert!(attention(&facts(&api, "")).is_empty());
    // The service's own setting counts, wherever one asks from.
    api["stats"]["store"]["disk_free_min_bytes"] = json!(60_000_000_000_u64);
    only(&api, "", State::Broken, "Make room");
    let keys = format!("sources.a: {} since 2026: x", crate::key_files::TROUBLE);
    let mut of_keys = facts(&self::api(), "");
    of_keys.ready = Some((true, vec!["ready".to_owned(), keys]));
    let found = attention(&of_keys);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].0, State::Broken);
    assert!(found[0].1.starts_with("keys: sources.a: "), "{found:#?}");
}

#[test]
fn reasons_of_the_dead_are_counted_for_each_handler() {
    let mut api = api();
    api["handlers"][0]["dead"] = json!(3);
    let event = |reason: &str| {
        json!({ "id": "x", "source": "s", "type": "T", "outcome": "other", "received_at": NOW,
                "deliveries": [{ "handler": "cms", "status": "dead", "reason": reason },
                               { "handler": "other", "status": "dead", "reason": "else" }] })
    };
    api["dead"] = json!([
        event("status 410"),
        event("status 500"),
        event("status 500")
    ]);
    let said = "cms: 3 dead deliveries: 2 \u{d7} status 500; 1 \u{d7} status 410";
    only(&api, "", State::Broken, said);
}

#[test]
fn a_service_that_is_down_comes_first_and_the_rest_is_still_seen() {
    let mut facts = facts(&api(), "");
    facts.live = Err("connection refused".to_owned());
    facts.ready = None;
    facts.api = Err("connection refused".to_owned());
    facts.public = Some(Public {
        url: "http://127.0.0.1:8080/healthz".to_owned(),
        answer: Err("connection refused".to_owned()),
    });
    facts.file = Some(StoreFile {
        path: "events.db".into(),
        glance: Ok(Glance {
            size: StoreSize {
                file_bytes: 1 << 20,
                used_bytes: 1 << 19,
                wal_bytes: 0,
                disk_free_bytes: 1 << 20,
            },
            newest: Some("2026-11-24T16:00:00Z".parse().unwrap()),
            pending: [("cms".to_owned(), 3)].into(),
            dead: [("cms".to_owned(), 2)].into(),
        }),
    });
    let found = attention(&facts);
    let states: Vec<State> = found.iter().map(|(state, _)| *state).collect();
    let expected = [State::Critical, State::Critical, State::Look];
    assert_eq!(states, expected, "{found:#?}");
    assert!(found[0].1.contains("Start the service"), "{found:#?}");
    assert!(
        found[1].1.contains("1.00 MiB (512.00 KiB in use), log 0 B"),
        "{found:#?}"
    );
    assert!(found[2].1.contains("cms: 2 dead deliveries"), "{found:#?}");
    let all = examine(&facts);
    for seen in ["the newest came 1 h ago", "cms: 3 deliveries wait"] {
        assert!(
            all.iter().any(|found| found.text.contains(seen)),
            "no {seen} in {all:#?}"
        );
    }

    facts.live = Ok(());
    facts.ready = Some((
        false,
        vec!["stopping".to_owned(), "sources.q: denied".to_owned()],
    ));
    let found = attention(&facts);
    assert!(found[0].1.contains("not ready: stopping"), "{found:#?}");
    assert!(found[1].1.contains("sources.q: denied"), "{found:#?}");
}
