//! The admin listener.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::archive::{FakeArchive, FakeLanes};
use super::harness::{Answer, Client, FakeStore, Mode, Server, signed};
use crate::clock::ManualClock;
use crate::delivery::{Attempt, AttemptResult, Reason, Report, Status};
use crate::dispatch::DispatchMetrics;
use crate::event::Event;
use crate::ingest::IngestMetrics;
use crate::mns::QueueMetrics;
use crate::request::{HandlerName, SourceName};
use crate::server::{
    Admin, AdminConfig, AdminMetrics, AdminParts, HandlerInfo, Readiness, ServerMetrics,
    SourceInfo, Unready, run,
};
use crate::store::{DeliveryHistory, History, Store};

/// A running admin listener. Dropping it closes it.
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) readiness: Arc<Readiness>,
    pub(super) archive: Arc<FakeArchive>,
    pub(super) lanes: Arc<FakeLanes>,
    pub(super) registry: Arc<Registry>,
    close: CancellationToken,
}

impl Listener {
    pub(super) async fn start(token: Option<&str>, metrics_token: Option<&str>) -> Self {
        let config = AdminConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            token: token.map(Into::into),
            metrics_token: metrics_token.map(Into::into),
        };
        let mut registry = Registry::with_prefix("ims_receiver");
        registry.register("things", "Things", Counter::<u64>::default());
        let metrics = AdminMetrics::new();
        metrics.register(&mut registry);
        let registry = Arc::new(registry);
        let readiness = Arc::new(Readiness::new());
        let info = |name: &str| HandlerInfo {
            name: HandlerName::new(name).unwrap(),
            kind: "log",
        };
        let handlers = vec![info("audit"), info("cms")];
        let parts = AdminParts {
            readiness: Arc::clone(&readiness),
            refusals: Arc::default(),
            registry: Arc::clone(&registry),
            clock: Arc::new(ManualClock::new(now())),
            server: ServerMetrics::new(),
            ingest: IngestMetrics::default(),
            queues: QueueMetrics::default(),
            dispatch: DispatchMetrics::new(handlers.iter().map(|one| &one.name)),
            metrics,
            handlers,
            sources: vec![SourceInfo {
                name: SourceName::new("default").unwrap(),
                kind: "http",
            }],
            disk_free_min: 1 << 30,
        };
        let admin = Admin::new(&config, parts);
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let close = CancellationToken::new();
        tokio::spawn(run(listener, admin, Admin::LIMITS, close.clone()));
        Self {
            address,
            readiness,
            archive: Arc::default(),
            lanes: Arc::default(),
            registry,
            close,
        }
    }

    /// A listener with everything behind it, and no token.
    pub(super) async fn open_all() -> Self {
        let listener = Self::start(None, None).await;
        listener.open();
        listener
    }

    /// POSTs JSON.
    pub(super) async fn post(&self, path: &str, lines: &str, body: &str) -> Answer {
        let length = body.len();
        self.ask(&format!(
            "POST {path} HTTP/1.1\r\nContent-Type: application/json\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    /// A GET that has to succeed, as JSON.
    pub(super) async fn json(&self, path: &str) -> Value {
        let answer = self.get(path, LOCAL).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        serde_json::from_str(&answer.body).unwrap()
    }

    pub(super) fn open(&self) -> Arc<FakeStore> {
        let store = FakeStore::new();
        let opened = Arc::clone(&store) as Arc<dyn Store>;
        self.readiness.store_opened(opened);
        self.readiness
            .archive_opened(Arc::clone(&self.archive) as _);
        self.readiness.lanes_started(Arc::clone(&self.lanes) as _);
        store
    }

    pub(super) async fn get(&self, path: &str, lines: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\n{lines}\r\n"))
            .await
    }

    pub(super) async fn ask(&self, request: &str) -> Answer {
        let mut client = Client::connect(self.address).await;
        client.send(request).await;
        client.answer().await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close.cancel();
    }
}

pub(super) const LOCAL: &str = "Host: localhost\r\n";

/// The time of these tests.
pub(super) fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

#[tokio::test]
async fn before_the_store_is_open_only_livez_answers() {
    let admin = Listener::start(None, None).await;
    assert_eq!(admin.get("/livez", "").await.status, 200);
    for path in ["/readyz", "/metrics", "/api/events/x", "/nothing"] {
        assert_eq!(admin.get(path, LOCAL).await.status, 503, "{path}");
    }
    admin.open();
    assert_eq!(admin.get("/metrics", LOCAL).await.status, 200);
    admin.get("/nothing", LOCAL).await.is_problem(404);
}

#[tokio::test]
async fn readyz_gives_the_reasons() {
    let admin = Listener::start(Some("t"), None).await;
    let store = admin.open();
    let ready = admin.get("/readyz", "").await;
    assert_eq!((ready.status, &*ready.body), (503, "starting\n"));
    admin.readiness.clear(Unready::Starting);
    assert_eq!(admin.get("/readyz", "Host: any\r\n").await.status, 200);
    store.set(Mode::Fail);
    admin.readiness.set(Unready::Stopping);
    let ready = admin.get("/readyz", "").await;
    assert_eq!(ready.status, 503);
    let reasons = "stopping\nthe store does not commit: no space left on device\n";
    assert_eq!(ready.body, reasons);
    assert_eq!(admin.get("/livez", "").await.status, 200);
}

#[tokio::test]
async fn a_token_is_asked_for_where_there_is_one() {
    let admin = Listener::start(Some("t0ken"), Some("scrape")).await;
    admin.open();
    let denied = admin.get("/metrics", LOCAL).await;
    denied.is_problem(401);
    assert_eq!(denied.header("www-authenticate"), Some("Bearer"));
    for (path, token, status) in [
        ("/metrics", "t0ken", 200),
        ("/metrics", "scrape", 200),
        ("/metrics", "other", 401),
        ("/api/events/x", "t0ken", 404),
        ("/api/events/x", "scrape", 401),
        ("/nothing", "scrape", 401),
    ] {
        let line = format!("Host: any\r\nAuthorization: Bearer {token}\r\n");
        let answer = admin.get(path, &line).await;
        assert_eq!(answer.status, status, "{path} {token}");
    }
}

#[tokio::test]
async fn without_a_token_only_local_hosts_are_served() {
    let admin = Listener::start(None, None).await;
    admin.open();
    let port = admin.address.port();
    for host in [
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
        "[::1]".into(),
    ] {
        let line = format!("Host: {host}\r\n");
        assert_eq!(admin.get("/metrics", &line).await.status, 200, "{host}");
    }
    admin
        .get("/metrics", "Host: evil.example\r\n")
        .await
        .is_problem(403);
    admin.get("/metrics", "").await.is_problem(403);
}

#[tokio::test]
async fn metrics_are_openmetrics_text() {
    let admin = Listener::start(None, None).await;
    admin.open();
    let page = admin.get("/metrics", LOCAL).await;
    let kind = page.header("content-type").unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert!(
        page.body.contains("ims_receiver_things_total 0\n"),
        "{page:?}"
    );
    assert!(page.body.ends_with("# EOF\n"));
}

#[tokio::test]
async fn other_methods_are_not_allowed() {
    let admin = Listener::start(None, None).await;
    admin.open();
    for path in ["/livez", "/readyz", "/metrics", "/api/events/x"] {
        let request = format!(
            "POST {path} HTTP/1.1\r\n{LOCAL}Content-Type: application/json\r\nContent-Length: 9\r\n\r\n"
        );
        let answer = admin.ask(&request).await;
        answer.is_problem(405);
        assert!(answer.header("allow").unwrap().contains("GET"), "{path}");
        assert_eq!(answer.header("connection"), Some("close"));
    }
}

/// An event with every field, made by the real line and the real parser.
pub(super) async fn history(body: &str) -> History {
    let server = Server::start().await;
    assert_eq!(server.exchange(signed(body)).await.status, 200);
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    History {
        event: Event {
            id: "0199aa00-0000-7000-8000-000000000001".parse().unwrap(),
            row: 1,
            received_at: at("2026-11-24T06:31:06.123987Z"),
            content: server.store.last(),
        },
        duplicates: 2,
        deliveries: vec![DeliveryHistory {
            handler: HandlerName::new("cms").unwrap(),
            status: Status::Pending,
            attempts: 1,
            failed: 1,
            age_from: None,
            next_at: Some(at("2026-11-24T06:31:08Z")),
            reason: Some(Reason::new("status 500")),
            history: vec![Attempt {
                attempt: 1,
                started_at: at("2026-11-24T06:31:06.2Z"),
                ended_at: None,
                result: AttemptResult::Failed,
                reason: None,
                report: Report(Some(json!({"status": 500}))),
            }],
        }],
    }
}

#[tokio::test]
async fn an_event_is_shown_with_all_that_became_of_it() {
    let body = r#"{"EventType":"ProduceMediaComplete","UserId":1.50,
        "MessageBody":{"JobId":"j","Status":"Success","n":1e400}}"#;
    let admin = Listener::start(None, None).await;
    let history = history(body).await;
    let id = history.event.id;
    admin.open().histories.lock().unwrap().insert(id, history);
    let answer = admin.get(&format!("/api/events/{id}"), LOCAL).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(
        answer.body.contains(body),
        "no number is rewritten: {answer:?}"
    );
    let shown: serde_json::Value =
        serde_json::from_str(&answer.body.replace("1e400", "1")).unwrap();
    assert_eq!(shown["id"], id.to_string());
    assert_eq!(shown["source"], "default");
    assert_eq!(shown["type"], "ProduceMediaComplete");
    assert_eq!(shown["outcome"], "succeeded");
    assert_eq!(shown["job_id"], "j");
    assert_eq!(shown["media_id"], json!(null));
    assert_eq!(shown["received_at"], "2026-11-24T06:31:06.123Z");
    assert_eq!(shown["duplicates"], 2);
    assert_eq!(
        shown["verified"],
        json!({"scheme": "ims", "key": 1, "url": 1})
    );
    assert_eq!(shown["query"], json!(null));
    assert_eq!(shown["headers"], json!({"x-ice-timestamp": "1519375990"}));
    assert!(shown.get("body_base64").is_none());
    let expected = json!([{
        "handler": "cms", "status": "pending", "attempts": 1,
        "next_at": "2026-11-24T06:31:08.000Z", "reason": "status 500",
        "history": [{
            "attempt": 1, "started_at": "2026-11-24T06:31:06.200Z", "ended_at": null,
            "result": "failed", "reason": null, "report": {"status": 500},
        }],
    }]);
    assert_eq!(shown["deliveries"], expected);
    let order = ["id", "source", "type", "verified", "body", "deliveries"];
    let at = order.map(|key| answer.body.find(&format!("\"{key}\":")).unwrap());
    assert!(at.is_sorted(), "in the contract's order");
}

#[tokio::test]
async fn a_body_that_is_no_json_is_shown_in_base64() {
    let admin = Listener::start(None, None).await;
    let history = history("no json").await;
    let id = history.event.id;
    admin.open().histories.lock().unwrap().insert(id, history);
    let answer = admin.get(&format!("/api/events/{id}"), LOCAL).await;
    let shown: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(shown["body_base64"], "bm8ganNvbg==");
    assert_eq!(shown["type"], "malformed");
    assert!(shown.get("body").is_none());
}

#[tokio::test]
async fn an_event_that_is_not_there_is_404() {
    let admin = Listener::start(None, None).await;
    let history = history("{}").await;
    let id = history.event.id;
    admin.open().histories.lock().unwrap().insert(id, history);
    for other in [
        "0199aa00-0000-7000-8000-000000000002".to_owned(),
        "no-id".to_owned(),
        "%ff".to_owned(),
        id.to_string().to_uppercase(),
        format!("%7B{id}%7D"),
        format!("{id}/"),
    ] {
        let answer = admin.get(&format!("/api/events/{other}"), LOCAL).await;
        answer.is_problem(404);
    }
}
