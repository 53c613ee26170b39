//! Behind nginx and HAProxy, as the files in `config/` set them up.
//!
//! The receiver listens on IPv6 and the proxies on IPv4, so that the client's
//! address and the proxy's differ on one machine.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use ims_receiver::clock::SystemClock;
use ims_receiver::handler::tls::{Trust, client_config};
use ims_receiver::sender::{Bodies, Load, Sender, SenderConfig, SenderRule, Summary, TryFailure};
use reqwest::Client;
use tokio_util::sync::CancellationToken;

use crate::harness::{Folder, KEY, Service, URL, body, exchange, signed, wait_for};
use crate::proxy::{Proxy, free_address};

/// A receiver that believes the proxy and wants its client to be 127.0.0.1.
fn folder(handlers: &str) -> (Folder, SocketAddr) {
    let folder = Folder::new(handlers);
    let path = folder.path("receiver.toml");
    let text = std::fs::read_to_string(&path).expect("the configuration");
    let address = free_address(Ipv6Addr::LOCALHOST.into());
    let server = format!("[server]\nlisten = \"{address}\"\ntrusted_proxies = [\"::1\"]\n");
    let text = text
        .replacen("[server]\nlisten = \"127.0.0.1:0\"\n", &server, 1)
        .replacen(
            "path = \"/ims/callback\"\n",
            "path = \"/ims/callback\"\nallow_from = [\"127.0.0.1\"]\n",
            1,
        );
    std::fs::write(path, text).expect("the configuration");
    (folder, address)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn sender(proxy: &Proxy, key: Option<&str>, rule: SenderRule) -> Sender {
    Sender::new(SenderConfig {
        target: proxy.url(),
        callback_url: Some(URL.into()),
        key: key.map(Into::into),
        ca_file: Some(proxy.ca_file.clone()),
        rule,
        clock: Arc::new(SystemClock),
    })
    .expect("a sender")
}

/// A client that can send what the sender would not.
fn client(proxy: &Proxy) -> Client {
    let trust = Trust::System(Some(&proxy.ca_file));
    Client::builder()
        .tls_backend_preconfigured(client_config(trust, &[b"h2", b"http/1.1"]).expect("TLS"))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .expect("a client")
}

/// The receiver's ends of TCP connections to its port, whatever their state.
fn connections(to: SocketAddr) -> usize {
    let port = format!(":{:04X}", to.port());
    let table = std::fs::read_to_string("/proc/net/tcp6").expect("the kernel's table");
    let ends = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    let listening = |line: &str| line.split_whitespace().nth(3) == Some("0A");
    table
        .lines()
        .filter(|line| !listening(line))
        .filter_map(ends)
        .filter(|end| end.ends_with(&port))
        .count()
}

/// What every proxy has to do.
fn passes_all_of_it_on(start: impl FnOnce(SocketAddr) -> Proxy) {
    let (folder, address) = folder("[handlers.audit]\nkind = \"log\"\noutput = \"/dev/null\"\n");
    let service = folder.start();
    assert_eq!(service.ingest, address);
    // Whoever comes from elsewhere is not let in: what follows got in by the
    // address that the proxy passed on.
    let (status, _) = exchange(address, &signed(&body(0))).expect("an answer");
    assert_eq!(status, 403);

    let proxy = start(address);
    let runtime = runtime();
    runtime.block_on(async {
        genuine_events_arrive_over_few_connections(&proxy, &service).await;
        a_forged_request_gets_its_401(&proxy, &service).await;
        limits_agree(&proxy).await;
        only_the_callbacks_go_through(&proxy).await;
    });
    // The next instance listens on the same address, and the connections that
    // the proxy kept are dead.
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    let service = folder.start();
    let sender = sender(&proxy, Some(KEY), SenderRule::default());
    let outcome = runtime.block_on(sender.send_one(body(1000).into()));
    assert!(outcome.acked, "{:?}: {}", outcome.failures, proxy.log());
    assert_eq!(outcome.failures, [], "a dead connection costs a try");
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
}

async fn genuine_events_arrive_over_few_connections(proxy: &Proxy, service: &Service) {
    const EVENTS: usize = 50;
    let before = connections(service.ingest);
    let sender = sender(proxy, Some(KEY), SenderRule::default());
    for number in 1..=EVENTS {
        let outcome = sender.send_one(body(number as u64).into()).await;
        assert!(outcome.acked, "{:?}: {}", outcome.failures, proxy.log());
        assert_eq!(outcome.failures, []);
        assert!(!outcome.duplicate());
    }
    // Closed ones are listed for a minute, health checks among them.
    let used = connections(service.ingest) - before;
    assert!(
        (1..EVENTS / 4).contains(&used),
        "{used} connections for {EVENTS} events"
    );
}

async fn a_forged_request_gets_its_401(proxy: &Proxy, service: &Service) {
    let rule = SenderRule {
        pause: Duration::from_millis(10),
        ..SenderRule::default()
    };
    let unauthorized = TryFailure::Status(StatusCode::UNAUTHORIZED);
    let outcome = sender(proxy, None, rule).send_one(body(1).into()).await;
    assert!(outcome.failures.iter().all(|f| *f == unauthorized));
    assert_eq!(outcome.failures.len(), 3);
    // Refused before it is through; the receiver takes the rest for a while,
    // so that proxy and client get to read the answer.
    let wrong = sender(proxy, Some("AnotherKey0AnotherKey0"), rule);
    let outcome = wrong.send_one(vec![b'x'; 200_000].into()).await;
    let refused = |f: &TryFailure| *f == unauthorized;
    assert!(outcome.failures.iter().all(refused), "{outcome:?}");
    assert_eq!(outcome.failures.len(), 3);
    // Beyond that while the connection breaks, and what the proxy makes of it
    // is its own affair, as long as it is no success.
    let outcome = wrong.send_one(vec![b'x'; 900_000].into()).await;
    assert!(!outcome.acked);

    // What a client claims about itself does not count.
    let answer = client(proxy)
        .post(proxy.url())
        .header("X-Forwarded-For", "203.0.113.9")
        .body("{}")
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    wait_for("the refusals are logged", || {
        let log = service.log();
        let refusals = log.iter().filter(|line| line.contains(r#""reason":""#));
        let refusals: Vec<_> = refusals.filter(|line| !line.contains("::1")).collect();
        let client = |line: &&String| line.contains(r#""peer":"127.0.0.1""#);
        assert!(refusals.iter().all(client), "{refusals:#?}");
        (refusals.len() >= 7).then_some(())
    });
}

async fn limits_agree(proxy: &Proxy) {
    let sender = sender(proxy, Some(KEY), SenderRule::default());
    let largest = sender.send_one(vec![b' '; 1 << 20].into()).await;
    assert_eq!(largest.failures, [], "{}", proxy.log());
    let rule = SenderRule {
        pause: Duration::from_millis(10),
        ..SenderRule::default()
    };
    let sender = self::sender(proxy, Some(KEY), rule);
    let larger = sender.send_one(vec![b' '; (1 << 20) + 1].into()).await;
    // The answer comes before the body is through, and a sender that is still
    // writing may find the connection closed instead.
    let refused = |failure: &TryFailure| match failure {
        TryFailure::Status(status) => *status == StatusCode::PAYLOAD_TOO_LARGE,
        TryFailure::Unreachable(_) => true,
        TryFailure::TimedOut => false,
    };
    assert!(larger.failures.iter().all(refused), "{larger:?}");
    assert!(!larger.acked);
}

async fn only_the_callbacks_go_through(proxy: &Proxy) {
    let client = client(proxy);
    for path in [
        "/",
        "/healthz",
        "/metrics",
        "/ims/callback/",
        "/api/events/x",
    ] {
        let url = format!("https://{}{path}", proxy.address);
        let answer = client.get(url).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[test]
fn nginx_passes_callbacks_on() {
    passes_all_of_it_on(Proxy::nginx);
}

#[test]
fn haproxy_passes_callbacks_on() {
    passes_all_of_it_on(Proxy::haproxy);
}

/// Sends 50 events a second through the proxy until it is told to stop.
fn steady_load(proxy: &Proxy, stop: &CancellationToken) -> std::thread::JoinHandle<Summary> {
    let sender = sender(proxy, Some(KEY), SenderRule::default());
    let stop = stop.clone();
    std::thread::spawn(move || {
        let load = Load {
            count: None,
            rate: Some(50.0),
            concurrency: 1000,
        };
        let bodies = Bodies::of_all_types();
        runtime().block_on(sender.send_many(load, &bodies, &stop, |_| {}))
    })
}

#[test]
fn haproxy_holds_callbacks_while_the_receiver_is_replaced() {
    // A destination that never answers, so that the stop takes all of its
    // drain, during which the receiver calls itself not ready and accepts.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (folder, address) = folder(&format!(
        "[handlers.cms]\nkind = \"forward\"\nurl = \"http://{}/\"\nconcurrency = 200\n",
        silent.local_addr().expect("it is bound")
    ));
    let service = folder.start();
    let proxy = Proxy::haproxy(address);
    let stop = CancellationToken::new();
    let load = steady_load(&proxy, &stop);
    std::thread::sleep(Duration::from_secs(1));
    service.signal("-TERM");
    // The drain is 3 s, of which HAProxy thinks the receiver down for one.
    assert_eq!(service.wait(), Some(0));
    std::thread::sleep(Duration::from_millis(1500));
    let service = folder.start();
    std::thread::sleep(Duration::from_secs(2));
    stop.cancel();
    let summary = load.join().expect("the sender does not panic");
    assert!(summary.sent() > 300, "too little load: {summary}");
    assert_eq!(summary.lost, 0, "{summary}");
    let refused = summary.failures.keys().any(|name| name.contains("status"));
    assert!(!refused, "it did not hold them: {summary}: {}", proxy.log());
    // The sender's patience is longer than this replacement.
    assert!(
        summary.latencies.max() > Duration::from_secs(1),
        "{summary}"
    );
    let (status, metrics) = service.get("/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains(r#"handler="cms""#));
}
