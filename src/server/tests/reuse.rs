//! Bodies under a signature that was used before.

use std::time::Duration;

use super::harness::{PATIENCE, Server, signed};
use crate::server::refusal::RefusalView;
use crate::signature::{ReusePolicy, SchemeConfig};

const REUSES: &str = "ims_receiver_signature_reuse_total{source=\"default\"}";

fn body(number: u32) -> String {
    format!(r#"{{"EventType":"ProduceMediaComplete","N":{number}}}"#)
}

async fn status(server: &Server, number: u32) -> u16 {
    server.exchange(signed(&body(number))).await.status
}

async fn refusing() -> Server {
    Server::with(|setup| {
        let SchemeConfig::Ims(ims) = &mut setup.sources[0].auth else {
            panic!("the first source is one of IMS");
        };
        ims.reuse = ReusePolicy::Refuse;
    })
    .await
}

/// The only refusal of the list, once it is there.
async fn listed(server: &Server) -> RefusalView {
    let found = async {
        loop {
            if let Some(found) = server.refusals.list(9, &[], &[]).pop() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found);
    found.await.expect("the refusal is listed")
}

#[tokio::test]
async fn a_new_body_long_after_the_first_is_stored_with_a_note() {
    let server = Server::start().await;
    assert_eq!(status(&server, 1).await, 200);
    assert_eq!(status(&server, 2).await, 200, "of the same second");
    server.clock.advance(Duration::from_secs(15));
    assert_eq!(status(&server, 3).await, 200);
    assert!(
        !server
            .store
            .last()
            .notes
            .iter()
            .any(|n| n.contains("before"))
    );
    assert_eq!(
        server.metric(REUSES),
        Some(0.0),
        "it is there from the start"
    );

    server.clock.advance(Duration::from_secs(27));
    assert_eq!(status(&server, 2).await, 200, "a repeat, and a duplicate");
    assert_eq!(server.metric(REUSES), Some(0.0));
    assert_eq!(status(&server, 4).await, 200);
    let stored = server.store.last();
    let note = "the signature was used before, 42 s ago, for another body";
    assert_eq!(stored.notes[0], note, "{:?}", stored.notes);
    assert_eq!(server.metric(REUSES), Some(1.0));
    assert!(server.refusals.list(9, &[], &[]).is_empty());
}

#[tokio::test]
async fn it_is_refused_where_the_source_says_so() {
    let server = refusing().await;
    assert_eq!(status(&server, 1).await, 200);
    server.clock.advance(Duration::from_secs(15));
    assert_eq!(status(&server, 2).await, 200);
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(status(&server, 1).await, 200, "a repeat is no reuse");
    let answer = server.exchange(signed(&body(3))).await;
    answer.is_problem(401);
    assert_eq!(status(&server, 3).await, 401, "and stays refused");
    assert_eq!(server.store.stored(), 2);
    assert_eq!(server.metric(REUSES), Some(2.0));
    let refusals = "ims_receiver_refusals_total{source=\"default\",reason=\"reused\"}";
    assert_eq!(server.metric(refusals), Some(2.0));
    assert_eq!(server.refusals.totals()["reused"], 2);
    let listed = listed(&server).await;
    assert_eq!(listed.reason, "reused");
    let said = &listed.diagnosis[0];
    assert!(
        said.contains("used before, 16 s ago, for another body: somebody"),
        "{said}"
    );
    assert_eq!(listed.facts.host.as_deref(), Some("x"));
}

#[tokio::test]
async fn a_repeat_after_the_store_has_failed_is_taken() {
    let server = refusing().await;
    server.store.set(super::harness::Mode::Full);
    assert_eq!(status(&server, 1).await, 503);
    server.store.set(super::harness::Mode::Work);
    server.clock.advance(Duration::from_secs(60));
    assert_eq!(status(&server, 1).await, 200);
    assert!(
        !server
            .store
            .last()
            .notes
            .iter()
            .any(|n| n.contains("before"))
    );
    assert_eq!(server.metric(REUSES), Some(0.0));
}
