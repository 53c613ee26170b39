//! Destinations that are dead, busy, gone, elsewhere, or behind TLS.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;

use crate::destination::{Answer, Destination, free_port};
use crate::harness::{Folder, Post, accepted, body, wait_for};

/// A folder whose handler `cms` forwards to `url`, with these further lines.
fn forwarding(url: &str, lines: &str) -> Folder {
    Folder::new(&format!(
        "[handlers.cms]\nkind = \"forward\"\nurl = \"{url}\"\n{lines}\n"
    ))
}

fn to(destination: &Destination, lines: &str) -> Folder {
    forwarding(&format!("http://{}/hook", destination.address), lines)
}

/// Enough failures in a row for the service to take a destination for down.
const BACKLOG: u64 = 200;

#[test]
fn a_dead_destination_harms_no_other_and_gets_everything_when_it_is_back() {
    let closed = free_port();
    let address = closed.local_addr().expect("it is bound");
    drop(closed);
    let healthy = Destination::start(|_| Answer::status(200));
    let folder = forwarding(
        &format!("http://{address}/"),
        &format!(
            "retry = {{ initial = \"100ms\", max = \"1s\" }}\n\
             [handlers.search]\nkind = \"forward\"\nurl = \"http://{}/\"",
            healthy.address
        ),
    );
    let service = folder.start();
    let ids: HashSet<String> = (0..BACKLOG)
        .map(|number| accepted(service.ingest, &body(number)).0)
        .collect();
    wait_for(
        "the healthy one has everything while the other is dead",
        || (healthy.answered() == ids).then_some(()),
    );
    let dead = wait_for("the dead one was tried again", || {
        let event = service.event(ids.iter().next().expect("one of many"));
        let deliveries = event["deliveries"].as_array().expect("a list").clone();
        let cms = deliveries.into_iter().find(|one| one["handler"] == "cms");
        cms.filter(|cms| cms["attempts"].as_u64() >= Some(2))
    });
    let reason = dead["history"][0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("refused"), "{reason}");
    wait_for("the backlog is shown", || {
        let waiting = service.metric(r#"ims_receiver_pending_deliveries{handler="cms"}"#);
        (waiting == Some(BACKLOG as f64)).then_some(())
    });

    let listener = std::net::TcpListener::bind(address).expect("the port is still free");
    let back = Destination::on(listener, |_| Answer::status(200));
    wait_for("the one that was dead has everything", || {
        (back.answered() == ids).then_some(())
    });
    for id in &ids {
        service.succeeded(id);
    }
    assert_eq!(back.received().len() as u64, BACKLOG, "each of them once");
    assert_eq!(
        healthy.received().len() as u64,
        BACKLOG,
        "each of them once"
    );
}

#[test]
fn a_busy_destination_is_asked_again_when_it_says() {
    let destination = Destination::start(|received| match received.attempt() {
        1 => Answer::with(503, "retry-after", "2"),
        // Longer than `retry.max`, which holds then.
        2 => Answer::with(429, "retry-after", "3600"),
        _ => Answer::status(200),
    });
    let folder = to(&destination, r#"retry = { initial = "50ms", max = "3s" }"#);
    let service = folder.start();
    let (id, _) = accepted(service.ingest, &body(1));
    wait_for("the third attempt", || {
        (destination.answers() == 1).then_some(())
    });
    let event = service.succeeded(&id);
    assert_eq!(event["deliveries"][0]["history"][0]["reason"], "status 503");
    assert_eq!(event["deliveries"][0]["history"][1]["reason"], "status 429");
    let received = destination.received();
    let waits: Vec<Duration> = received
        .windows(2)
        .map(|pair| pair[1].at.duration_since(pair[0].at))
        .collect();
    // Times are kept to the millisecond.
    for (wait, asked) in waits.iter().zip([2000, 3000]) {
        assert!(*wait >= Duration::from_millis(asked - 2), "{waits:?}");
        assert!(*wait < Duration::from_millis(asked + 1500), "{waits:?}");
    }
    assert_eq!(waits.len(), 2);
}

#[test]
fn a_destination_that_is_gone_ends_the_delivery() {
    let destination = Destination::start(|_| Answer::with(410, "retry-after", "1"));
    let folder = to(
        &destination,
        r#"retry = { initial = "10ms", max = "20ms" }"#,
    );
    let service = folder.start();
    let (id, _) = accepted(service.ingest, &body(1));
    let event = service.finished(&id);
    let delivery = &event["deliveries"][0];
    assert_eq!(delivery["status"], "dead", "{event:#}");
    assert_eq!(delivery["reason"], "status 410");
    assert_eq!(delivery["attempts"], 1);
    assert_eq!(delivery["history"][0]["report"]["status"], 410);
    wait_for("the dead one is counted", || {
        let dead = service.metric(r#"ims_receiver_dead_deliveries{handler="cms"}"#);
        (dead == Some(1.0)).then_some(())
    });
    assert_eq!(destination.received().len(), 1);
}

#[test]
fn attempts_and_age_end_a_delivery_with_its_last_reason() {
    let destination = Destination::start(|_| Answer::status(500));
    let folder = to(
        &destination,
        &format!(
            "retry = {{ initial = \"10ms\", max = \"20ms\", attempts = 3 }}\n\
             [handlers.aged]\nkind = \"forward\"\nurl = \"http://{}/\"\n\
             retry = {{ initial = \"100ms\", max = \"200ms\", max_age = \"1s\" }}",
            destination.address
        ),
    );
    let service = folder.start();
    let (id, _) = accepted(service.ingest, &body(1));
    let event = service.finished(&id);
    let of = |name: &str| {
        let deliveries = event["deliveries"].as_array().expect("a list");
        let found = deliveries.iter().find(|one| one["handler"] == name);
        found.expect("a delivery").clone()
    };
    assert_eq!(of("cms")["status"], "dead");
    assert_eq!(of("cms")["attempts"], 3);
    assert_eq!(of("aged")["status"], "dead");
    let reason = of("aged")["reason"].to_string();
    assert!(reason.contains("status 500"), "{reason}");
    assert!(reason.contains("older than retry.max_age"), "{reason}");
    assert!(of("aged")["attempts"].as_u64() >= Some(3), "{event:#}");
}

#[test]
fn a_redirect_is_not_followed_and_tried_again() {
    let elsewhere = Destination::start(|_| Answer::status(200));
    let target = format!("http://{}/", elsewhere.address);
    let destination = Destination::start(move |received| match received.attempt() {
        1 => Answer::with(307, "location", &target),
        2 => Answer::with(302, "location", &target),
        _ => Answer::status(200),
    });
    let folder = to(
        &destination,
        r#"retry = { initial = "50ms", max = "100ms" }"#,
    );
    let service = folder.start();
    let (id, _) = accepted(service.ingest, &body(1));
    let event = service.succeeded(&id);
    let history = &event["deliveries"][0]["history"];
    assert_eq!(
        history[0]["reason"],
        "status 307 (redirects are not followed)"
    );
    assert_eq!(
        history[1]["reason"],
        "status 302 (redirects are not followed)"
    );
    assert_eq!(destination.received().len(), 3);
    assert!(elsewhere.received().is_empty(), "nobody configured it");
}

/// A certificate for `localhost`, and the PEM text of its authority.
pub fn own_authority() -> (TlsAcceptor, String) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("a key");
    let authority = rcgen::CertifiedIssuer::self_signed(authority, key).expect("a certificate");
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::new(vec!["localhost".into()])
        .expect("a name")
        .signed_by(&key, &authority)
        .expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .expect("the key fits");
    (TlsAcceptor::from(Arc::new(config)), authority.pem())
}

#[test]
fn an_own_authority_is_trusted_by_who_names_its_file() {
    let (tls, authority) = own_authority();
    let destination = Destination::with_tls(tls, |_| Answer::status(200));
    let url = format!("https://localhost:{}/", destination.address.port());
    let folder = forwarding(
        &url,
        &format!(
            "ca_file = \"ca.pem\"\n\
             [handlers.stranger]\nkind = \"forward\"\nurl = \"{url}\"\nretry = {{ attempts = 1 }}"
        ),
    );
    std::fs::write(folder.path("ca.pem"), authority).expect("a file");
    let service = folder.start();
    let body = body(1);
    let (id, _) = accepted(service.ingest, &body);
    let event = service.finished(&id);
    let deliveries = event["deliveries"].as_array().expect("a list");
    for delivery in deliveries {
        if delivery["handler"] == "cms" {
            assert_eq!(delivery["status"], "succeeded", "{event:#}");
        } else {
            assert_eq!(delivery["status"], "dead", "{event:#}");
            let reason = delivery["reason"].as_str().expect("a reason");
            assert!(reason.contains("unknown authority"), "{reason}");
        }
    }
    assert_eq!(deliveries.len(), 2);
    let received = destination.received();
    assert_eq!(received.len(), 1, "who does not trust it sends nothing");
    assert_eq!(received[0].body, body);
}

/// What a sender writes must not become a header field of its own.
#[test]
fn fields_that_are_no_visible_ascii_arrive_encoded_and_are_noted() {
    let destination = Destination::start(|_| Answer::status(200));
    let folder = to(&destination, "");
    let service = folder.start();
    let body = r#"{"EventType":"Done\r\nX-Evil: 1\u0000\u007f 100% für","UserId":1,"EventTime":"t","MessageBody":{}}"#;
    let post = Post {
        content_type: "text/plain; name=\"für\"",
        ..Post::of(body)
    };
    let (status, answer) = post.send(service.ingest).expect("an answer");
    assert_eq!(status, 200);
    let event = service.succeeded(answer["id"].as_str().expect("an id"));
    let received = destination.received();
    assert_eq!(received.len(), 1);
    assert_eq!(
        received[0].header("x-ims-event-type"),
        Some("Done%0D%0AX-Evil:%201%00%7F%20100%25%20f%C3%BCr")
    );
    assert!(received[0].headers.get("x-evil").is_none());
    assert_eq!(received[0].body, body, "the body stays as it is");
    let notes = &event["deliveries"][0]["history"][0]["report"]["notes"];
    assert_eq!(
        notes[0], "x-ims-event-type was percent-encoded",
        "{event:#}"
    );
}
