//! What is said about requests that were turned away: by the list, by
//! `explain`, and by nobody what is secret.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use ims_receiver::signature::hmac_sha256::{self, Encoding};
use ims_receiver::signature::ims::sign;
use serde_json::Value;

use crate::harness::{
    Folder, KEY, Post, Service, URL, body, exchange, output, wait_at_most, wait_for,
};

const RELAY_KEY: &str = "RelayKey001RelayKey001";
const STAGING_KEY: &str = "StagingKey1StagingKey1";
const STAGING_URL: &str = "https://staging.example.com/staging";
const OTHER_KEY: &str = "OtherKey001OtherKey001";
/// What a query may hold.
const TOKEN: &str = "t0ps3cretToken";

fn folder() -> Folder {
    Folder::new(&format!(
        r#"
[sources.relay]
kind = "http"
path = "/relay"
auth = {{ scheme = "hmac_sha256", keys = ["{RELAY_KEY}"], header = "X-Signature" }}
[sources.closed]
kind = "http"
path = "/closed"
callback_urls = ["{URL}"]
auth = {{ scheme = "ims", keys = ["{KEY}"] }}
allow_from = ["192.0.2.0/24"]
[sources.staging]
kind = "http"
path = "/staging"
callback_urls = ["{STAGING_URL}"]
auth = {{ scheme = "ims", keys = ["{STAGING_KEY}"] }}
[handlers.audit]
kind = "log"
output = "events.log"
"#
    ))
}

fn now() -> u64 {
    UNIX_EPOCH.elapsed().expect("after 1970").as_secs()
}

/// A request with these header lines.
fn request(target: &str, fields: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nHost: callbacks.example.com\r\nUser-Agent: probe/1\r\n\
         Connection: close\r\n{fields}Content-Length: 2\r\n\r\n{{}}"
    )
}

/// The header lines of IMS.
fn fields(url: &str, key: &str, sent: u64) -> String {
    let sent = sent.to_string();
    let signature = sign(url, &sent, key);
    format!("X-ICE-TIMESTAMP: {sent}\r\nX-ICE-SIGNATURE: {signature}\r\n")
}

fn refusals(service: &Service, query: &str) -> Value {
    let (status, answer) = service.get(&format!("/api/refusals{query}"));
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).expect("it is JSON")
}

/// What is listed for this source and reason, all sentences in one.
fn diagnoses(service: &Service, source: &str, reason: &str) -> String {
    let found = refusals(
        service,
        &format!("?source={source}&reason={reason}&limit=1000"),
    );
    let list = found["refusals"].as_array().expect("a list").iter();
    let sentences = list.flat_map(|one| one["diagnosis"].as_array().expect("a list"));
    let sentences: Vec<&str> = sentences.filter_map(Value::as_str).collect();
    sentences.join("; ")
}

#[test]
fn what_is_wrong_is_said_by_the_list_and_by_explain_and_no_secret_is() {
    let folder = folder();
    let service = folder.start();
    let query = format!("/ims/callback?job=7&token={TOKEN}");
    let in_zone = fields(URL, KEY, now() - 8 * 3600);
    let with_query = fields(&format!("{URL}?job=7&token={TOKEN}"), KEY, now());
    let hex = hmac_sha256::sign(RELAY_KEY, None, b"{}\n", Encoding::Hex);
    let cases = [
        (
            "default",
            "missing",
            request("/ims/callback", ""),
            "no signature at all",
        ),
        (
            "default",
            "missing",
            request("/ims/callback", "Via: 1.1 edge\r\n"),
            "it came through a proxy (via is there)",
        ),
        (
            "default",
            "missing",
            request("/ims/callback", "X-VOD-SIGNATURE: 0\r\n"),
            "those of ApsaraVideo VOD",
        ),
        (
            "default",
            "mismatch",
            request(
                "/ims/callback",
                &fields(&URL.replace("https", "http"), KEY, now()),
            ),
            "callback URL 1 with http instead of https (http://callbacks.example.com/ims/callback)",
        ),
        (
            "default",
            "mismatch",
            request("/ims/callback", &fields(&format!("{URL}/"), KEY, now())),
            "callback URL 1 with a slash at its end",
        ),
        (
            "default",
            "mismatch",
            request(&query, &with_query),
            "callback URL 1 with the query string of the request",
        ),
        (
            "default",
            "mismatch",
            request("/ims/callback", &fields(URL, STAGING_KEY, now())),
            "with a key of source staging",
        ),
        (
            "default",
            "mismatch",
            request("/ims/callback", &fields(STAGING_URL, STAGING_KEY, now())),
            "source staging would let it in",
        ),
        (
            "default",
            "mismatch",
            request("/ims/callback", &fields(URL, OTHER_KEY, now())),
            "no key that is known gives this signature",
        ),
        (
            "default",
            "stale",
            request("/ims/callback", &in_zone),
            "8 h behind ours",
        ),
        (
            "default",
            "future",
            request("/ims/callback", &fields(URL, KEY, now() * 1000)),
            "in milliseconds, not in seconds",
        ),
        (
            "default",
            "repeated_header",
            request(
                "/ims/callback",
                &fields(URL, KEY, now()).replace("X-ICE-S", "X-ICE-SIGNATURE: 0\r\nX-ICE-S"),
            ),
            "came 2 times, and not the same each time",
        ),
        (
            "relay",
            "mismatch",
            request("/relay", &format!("X-Signature: {hex}\r\n")),
            "over the body with a line end",
        ),
        (
            "closed",
            "peer",
            request(
                "/closed",
                &format!("X-Forwarded-For: 192.0.2.9\r\n{}", fields(URL, KEY, now())),
            ),
            "127.0.0.1 is not in server.trusted_proxies: if that is your proxy, add it; the address that it forwards is in allow_from; its signature is right",
        ),
    ];
    let mut told = String::new();
    for (source, reason, request, words) in &cases {
        let (status, _) = exchange(service.ingest, request.as_bytes()).expect("an answer");
        assert_eq!(
            status,
            if *reason == "peer" { 403 } else { 401 },
            "{request}"
        );
        let said = wait_for(words, || {
            let said = diagnoses(&service, source, reason);
            said.contains(words).then_some(said)
        });
        told.push_str(&said);
        // There is no connection in a capture, so nobody knows the peer.
        if *reason != "peer" {
            let file = folder.path("capture.http");
            fs::write(&file, request).expect("a file");
            let mut command = folder.command();
            command.args(["explain", "--source", source, "--request"]);
            let (code, said, _) = output(command.arg(file));
            assert_eq!(code, 1, "{said}");
            let line = said.lines().find(|line| line.contains(words));
            let line = line.unwrap_or_else(|| panic!("{words}: {said}"));
            assert!(line.starts_with("diagnosis   "), "{said}");
            // `explain` repeats the request's target, which the user has.
            told.push_str(&said.replace(&query, "").replace(URL, ""));
        }
    }
    let list = refusals(&service, "?limit=1000");
    let totals = &list["totals"];
    for (reason, count) in [("missing", 3), ("mismatch", 7), ("peer", 1), ("reused", 0)] {
        assert_eq!(totals[reason], count, "{totals}");
    }
    let listed = list["refusals"].as_array().expect("a list");
    let with_query = listed
        .iter()
        .find(|one| one["facts"]["parameters"][0] == "job");
    let with_query = with_query.expect("the one with a query");
    assert_eq!(with_query["facts"]["parameters"][1], "token");
    assert_eq!(with_query["facts"]["host"], "callbacks.example.com");
    assert_eq!(with_query["facts"]["user_agent"], "probe/1");
    assert_eq!(with_query["path"], "/ims/callback");
    assert_eq!(with_query["peer"], "127.0.0.1");

    told.push_str(&list.to_string());
    told.push_str(&service.log().join("\n"));
    told.push_str(&service.get("/metrics").1);
    let mut secrets = vec![KEY, RELAY_KEY, STAGING_KEY, TOKEN, &hex];
    let sent: Vec<&str> = cases
        .iter()
        .flat_map(|(_, _, request, _)| request.lines())
        .filter_map(|line| line.strip_prefix("X-ICE-SIGNATURE: "))
        .filter(|signature| signature.len() == 32)
        .collect();
    secrets.extend(&sent);
    let expected = sign(URL, &now().to_string(), KEY);
    secrets.push(&expected);
    for secret in secrets {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

/// A wrong path at IMS loses every event, and its answer is but a 404.
#[test]
fn signed_requests_to_no_sources_path_are_listed_and_told() {
    let folder = folder();
    let service = folder.start();
    let lost = "ims_receiver_refusals_total{source=\"\",reason=\"no_source\"}";
    assert_eq!(service.metric(lost), Some(0.0));
    let doctor = || {
        let mut command = folder.command();
        let url = format!("http://{}", service.admin);
        output(command.args(["doctor", "--admin", &url]))
    };
    let status = |path: &str, fields: &str| {
        let request = request(path, fields);
        exchange(service.ingest, request.as_bytes())
            .expect("an answer")
            .0
    };
    // Whoever does not sign is not worth a line.
    for path in ["/wp-login.php", "/ims/callback/"] {
        assert_eq!(status(path, ""), 404);
    }
    assert_eq!(service.metric(lost), Some(0.0));
    assert_eq!(doctor().0, 0);

    let misspelt = "https://callbacks.example.com/ims/calback";
    let cases = [
        (
            "/ims/callback/",
            fields(URL, KEY, now()),
            "its signature is right for source default",
            "did you mean /ims/callback, the path of source default?",
        ),
        (
            "/ims/calback",
            fields(misspelt, KEY, now()),
            "the signature matches with key 1, over",
            "did you mean /ims/callback, the path of source default?",
        ),
        (
            "/quite/elsewhere",
            fields(URL, "StrangersKey00000000", now()),
            "no key that is known gives this signature",
            "there are /",
        ),
    ];
    for (number, (path, fields, signature, meant)) in (1..).zip(&cases) {
        assert_eq!(status(path, fields), 404);
        let one = wait_for("it is listed", || {
            let list = refusals(&service, "?reason=no_source");
            let list = list["refusals"].as_array()?.clone();
            list.into_iter().find(|one| one["path"] == *path)
        });
        assert_eq!(one["source"], Value::Null, "{one}");
        let said = one["diagnosis"].to_string();
        assert!(said.contains(signature) && said.contains(meant), "{said}");
        assert_eq!(service.metric(lost), Some(f64::from(number)));
    }
    assert_eq!(
        refusals(&service, "?source=default")["refusals"],
        serde_json::json!([])
    );
    let (code, told, _) = doctor();
    assert_eq!(code, 1, "{told}");
    for part in [
        "refused as no_source at /ims/calback",
        "Their events are lost",
    ] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    let overview = service.get("/").1;
    assert!(
        overview.contains("no source: 3 refused as no_source"),
        "{overview}"
    );
    let page = service.get("/refusals").1;
    assert!(page.contains("To no source, at "), "{page}");
    let told = format!("{told}{overview}{page}{:?}", service.log());
    for secret in [KEY, &sign(URL, &now().to_string(), KEY)] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

#[test]
fn a_key_that_was_taken_away_is_remembered_and_those_alike_are_counted() {
    let folder = Folder::new(
        "[sources.keyed]\nkind = \"http\"\npath = \"/keyed\"\n\
         callback_urls = [\"https://callbacks.example.com/keyed\"]\n\
         auth = { scheme = \"ims\", keys_file = \"keys\" }\n",
    );
    fs::write(folder.path("keys"), OTHER_KEY).expect("a file");
    let service = folder.start();
    let status = |key| {
        let body = body(1);
        let post = Post {
            path: "/keyed",
            url: "https://callbacks.example.com/keyed",
            key,
            ..Post::of(&body)
        };
        post.send(service.ingest).expect("an answer").0
    };
    assert_eq!(status(OTHER_KEY), 200);
    fs::write(folder.path("keys"), KEY).expect("a file");
    wait_for("the key is not in force", || {
        (status(OTHER_KEY) == 401).then_some(())
    });
    let words = "with a key that was removed at 20";
    let one = wait_for("it is listed twice as one", || {
        status(OTHER_KEY);
        let list = refusals(&service, "?source=keyed");
        let list = list["refusals"].as_array()?.clone();
        assert!(list.len() <= 1, "{list:#?}");
        let one = list.into_iter().next()?;
        (one["count"].as_u64()? > 1).then_some(one)
    });
    assert!(
        one["diagnosis"][0].as_str().expect("text").contains(words),
        "{one}"
    );
    assert!(one["first_at"].as_str() <= one["at"].as_str(), "{one}");
    assert!(!format!("{one} {:?}", service.log()).contains(OTHER_KEY));
}

#[test]
fn the_list_is_asked_as_agreed() {
    let folder = folder();
    let service = folder.start();
    for (query, words) in [
        ("?limit=0", "`limit`: write a number from 1 to 1000"),
        ("?limit=many", "`limit`: write a number"),
        ("?reason=bad", "`reason`: "),
        (
            "?reasons=peer",
            "`reasons`: is no parameter here; there are ",
        ),
    ] {
        let (status, answer) = service.get(&format!("/api/refusals{query}"));
        assert_eq!(status, 400, "{answer}");
        let problem: Value = serde_json::from_str(&answer).expect("it is JSON");
        let detail = problem["detail"].as_str().expect("text");
        assert!(detail.contains(words), "{detail}");
        assert_eq!(
            (&problem["status"], &problem["type"]),
            (&400.into(), &"about:blank".into())
        );
    }
    let empty = refusals(
        &service,
        "?limit=5&reason=peer,stale&reason=missing&source=default,relay",
    );
    assert_eq!(empty["refusals"], serde_json::json!([]));
}

/// Forged requests of which no two are alike, with heads as large as there may
/// be.
#[test]
fn a_flood_of_forgeries_keeps_the_list_small() {
    const FORGED: u64 = 3000;
    let folder = folder();
    let service = folder.start();
    let before = service.resident();
    let padding = "x".repeat(12_000);
    for number in 0..FORGED {
        let fields = format!(
            "X-ICE-TIMESTAMP: {}\r\nX-ICE-SIGNATURE: {number:032x}\r\nX-Forwarded-Host: h{number}\r\nX-Padding: {padding}\r\n",
            now()
        );
        let target = format!("/ims/callback?{number}=1&b={number}");
        let (status, _) =
            exchange(service.ingest, request(&target, &fields).as_bytes()).expect("an answer");
        assert_eq!(status, 401);
    }
    let list = wait_for("some of them are listed", || {
        let list = refusals(&service, "?limit=1000");
        let some = !list["refusals"].as_array()?.is_empty();
        some.then_some(list)
    });
    assert_eq!(list["totals"]["mismatch"], FORGED);
    assert!(
        list.to_string().len() < 2 << 20,
        "{}",
        list.to_string().len()
    );
    let after = service.resident();
    println!("resident {before} MiB, after {FORGED} forgeries {after} MiB");
    assert!(after < before + 30, "{before} MiB, then {after} MiB");
}

/// Two requests with the same signature and other bodies.
struct Pair {
    fields: String,
    path: &'static str,
}

impl Pair {
    fn send(&self, service: &Service, number: u64) -> (u16, Value) {
        let body = body(number);
        let (path, fields) = (self.path, &self.fields);
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (status, answer) = exchange(service.ingest, request.as_bytes()).expect("an answer");
        (status, serde_json::from_str(&answer).expect("it is JSON"))
    }
}

#[test]
fn a_signature_that_is_used_again_is_noted_or_refused() {
    let folder = Folder::new(&format!(
        "[sources.strict]\nkind = \"http\"\npath = \"/strict\"\ncallback_urls = [\"{URL}\"]\n\
         auth = {{ scheme = \"ims\", keys = [\"{KEY}\"], reuse = \"refuse\" }}\n"
    ));
    let service = folder.start();
    let fields = fields(URL, KEY, now());
    let pair = |path| Pair {
        fields: fields.clone(),
        path,
    };
    let (lax, strict) = (pair("/ims/callback"), pair("/strict"));
    assert_eq!(lax.send(&service, 1).0, 200);
    let mut number = 1000;
    let started = std::time::Instant::now();
    // The clock is the system's, so the 15 s have to pass.
    wait_at_most(Duration::from_secs(60), "another body is refused", || {
        number += 1;
        let (status, _) = strict.send(&service, number);
        std::thread::sleep(Duration::from_millis(50));
        (status == 401).then_some(())
    });
    assert!(
        started.elapsed() > Duration::from_secs(14),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(
        strict.send(&service, 1001).0,
        200,
        "what was known stays so"
    );
    let (status, answer) = lax.send(&service, 2);
    assert_eq!(status, 200);
    let event = service.event(answer["id"].as_str().expect("an id"));
    let note = event["notes"][0].as_str().expect("a note");
    assert!(
        note.starts_with("the signature was used before, 1"),
        "{event}"
    );
    assert!(note.ends_with(" s ago, for another body"), "{event}");
    let reuses = |source: &str| {
        let series = format!("ims_receiver_signature_reuse_total{{source=\"{source}\"}}");
        service.metric(&series)
    };
    assert_eq!(
        (reuses("default"), reuses("strict")),
        (Some(1.0), Some(1.0))
    );
    let said = wait_for("it is listed", || {
        let said = diagnoses(&service, "strict", "reused");
        (!said.is_empty()).then_some(said)
    });
    assert!(said.contains("somebody has seen that request"), "{said}");
}
