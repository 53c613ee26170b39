//! Who the admin listener lets in, and how it answers the others.

use prometheus_client::encoding::text::encode;
use tokio::time::{Duration, Instant};

use super::admin::{LOCAL, Listener};

const PAUSE: &str = "/api/handlers/cms/pause";

fn denied(admin: &Listener, reason: &str) -> f64 {
    let mut page = String::new();
    encode(&mut page, &admin.registry).unwrap();
    let series = format!("ims_receiver_admin_denied_total{{reason=\"{reason}\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_change_from_another_origin_or_by_a_form_is_refused_and_counted() {
    let admin = Listener::open_all().await;
    let own = format!("{LOCAL}Origin: http://localhost\r\n");
    assert_eq!(admin.post(PAUSE, &own, "").await.status, 200);
    for (lines, reason) in [
        ("Host: evil.example\r\n".to_owned(), "foreign_host"),
        (
            format!("{LOCAL}Origin: http://evil.example\r\n"),
            "cross_origin",
        ),
        (format!("{LOCAL}Origin: null\r\n"), "cross_origin"),
        (
            format!("{LOCAL}Sec-Fetch-Site: cross-site\r\n"),
            "cross_origin",
        ),
    ] {
        let before = denied(&admin, reason);
        let answer = admin.post(PAUSE, &lines, "{}").await;
        answer.is_problem(403);
        assert!(answer.body.contains("\"detail\":"), "{answer:?}");
        assert_eq!(denied(&admin, reason), before + 1.0, "{lines}");
    }
    for kind in [
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: text/plain\r\n",
        "Content-Type: multipart/form-data; boundary=x\r\n",
        "",
    ] {
        let request =
            format!("POST {PAUSE} HTTP/1.1\r\n{LOCAL}{kind}Content-Length: 2\r\n\r\n{{}}");
        admin.ask(&request).await.is_problem(415);
    }
    assert_eq!(denied(&admin, "not_json"), 4.0);
    assert_eq!(*admin.lanes.0.lock().unwrap(), ["pause cms"], "only ours");
}

#[tokio::test]
async fn wrong_tokens_are_counted_and_slowed_down_and_right_ones_never_are() {
    let admin = Listener::start(Some("t0ken"), None).await;
    admin.open();
    let with = |token: &str| format!("{LOCAL}Authorization: Bearer {token}\r\n");
    let start = Instant::now();
    for _ in 0..5 {
        admin
            .get("/api/stats", &with("wrong"))
            .await
            .is_problem(401);
    }
    assert!(
        start.elapsed() < Duration::from_millis(900),
        "a few are free"
    );
    let wrong = with("wrong");
    let slow = admin.get("/api/stats", &wrong);
    let right = async {
        let start = Instant::now();
        let answer = admin.get("/api/stats", &with("t0ken")).await;
        assert_eq!(answer.status, 200);
        start.elapsed()
    };
    let start = Instant::now();
    let (slow, right) = tokio::join!(slow, right);
    slow.is_problem(401);
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert!(right < Duration::from_millis(900), "{right:?}");
    admin.get("/api/stats", LOCAL).await.is_problem(401);
    assert_eq!(denied(&admin, "wrong_token"), 6.0);
    assert_eq!(denied(&admin, "no_token"), 1.0);
}

#[tokio::test]
async fn everything_asks_for_the_token() {
    let admin = Listener::start(Some("t0ken"), None).await;
    admin.open();
    let right = format!("{LOCAL}Authorization: Bearer t0ken\r\n");
    let described: serde_json::Value =
        serde_json::from_str(&admin.get("/openapi.json", &right).await.body).unwrap();
    let paths = described["paths"].as_object().unwrap();
    assert!(paths.len() >= 13, "{paths:?}");
    for (path, operations) in paths {
        for method in operations.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let request = format!(
                "{method} {path} HTTP/1.1\r\n{LOCAL}Content-Type: application/json\r\nContent-Length: 0\r\n\r\n"
            );
            let answer = admin.ask(&request).await;
            assert_eq!(answer.status, 401, "{method} {path}");
        }
    }
}
