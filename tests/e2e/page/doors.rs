//! Who is let in, and which forms are taken.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::browser::Browser;
use super::url;
use crate::harness::{Folder, PATIENCE, Service, accepted, body, exchange_whole};

const TOKEN: &str = "a-token-that-nobody-guesses";

/// A service whose admin listener wants a token.
fn guarded() -> (Folder, Service) {
    let folder = Folder::with_log();
    std::fs::write(folder.path("token"), TOKEN).expect("the token");
    let file = folder.path("token").display().to_string();
    let folder = folder.set("admin.token_file", file);
    let service = folder.start();
    (folder, service)
}

/// A request of the page; answers status, head in lower case, and body.
fn ask(
    service: &Service,
    method: &str,
    path: &str,
    lines: &str,
    form: &str,
) -> (u16, String, String) {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    exchange_whole(service.admin, request.as_bytes()).expect("an answer")
}

/// The token that the forms of a page carry.
fn form_token(page: &str) -> String {
    let rest = page.split_once(r#"name="csrf" value=""#).expect("a form").1;
    rest.split('"').next().expect("its value").to_owned()
}

#[test]
fn a_token_opens_the_page_until_the_reader_leaves() {
    let (_folder, service) = guarded();
    let browser = Browser::open();
    browser.go(&url(&service, "/nosuch"));
    assert!(browser.url().contains("/login"), "{}", browser.url());
    assert_eq!(ask(&service, "GET", "/nosuch", "", "").0, 401);
    browser.go(&url(&service, "/events?outcome=other"));
    assert!(browser.url().contains("/login"), "{}", browser.url());
    browser.write("input[name=token]", "a wrong one");
    browser.click("button");
    browser.wait_text(".notice", "not the token");
    browser.write("input[name=token]", TOKEN);
    browser.click("button");
    browser.wait("#rows");
    assert!(
        browser.url().ends_with("/events?outcome=other"),
        "{}",
        browser.url()
    );
    assert_eq!(
        browser.run("return document.cookie"),
        "",
        "no script can read it"
    );
    // The live tail and the downloads take the cookie, too.
    browser.wait("#tail.on");
    browser.click("form[action='/logout'] button");
    browser.wait("input[name=token]");
    browser.go(&url(&service, "/"));
    assert!(browser.url().contains("/login"), "{}", browser.url());
}

#[test]
fn a_link_on_another_site_leads_a_signed_in_reader_to_its_page() {
    let (_folder, service) = guarded();
    let browser = Browser::open();
    browser.go(&url(&service, "/login"));
    browser.write("input[name=token]", TOKEN);
    browser.click("button");
    browser.wait("#handlers");
    // Another host name is another site, whose pages bring no cookie along.
    let chat = url(&service, "/login").replace("localhost", "127.0.0.1");
    browser.go(&chat);
    let link = url(&service, "/events?outcome=failed");
    browser.run(&format!("location.href = {link:?}"));
    browser.wait("#table");
    assert_eq!(browser.url(), link);
}

#[test]
fn guessing_tokens_at_the_page_takes_its_time_and_is_counted() {
    let (_folder, service) = guarded();
    let began = Instant::now();
    let guesses = 8;
    for guess in 0..guesses {
        let (status, head, _) = ask(
            &service,
            "POST",
            "/login",
            "",
            &format!("token=guess-{guess}"),
        );
        assert_eq!(status, 401, "{head}");
        assert!(!head.contains("set-cookie"), "{head}");
    }
    // A few are free: people mistype.
    assert!(
        began.elapsed() >= Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    let right = Instant::now();
    let (status, ..) = ask(&service, "POST", "/login", "", &format!("token={TOKEN}"));
    assert_eq!(status, 303);
    assert!(
        right.elapsed() < Duration::from_secs(1),
        "the right one is not slowed down"
    );
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let (_, _, metrics) = ask(&service, "GET", "/metrics", &bearer, "");
    let counted = format!("ims_receiver_admin_denied_total{{reason=\"wrong_token\"}} {guesses}");
    assert!(metrics.contains(&counted), "{metrics}");
}

#[test]
fn a_session_reads_and_changes_nothing_without_its_forms() {
    let (_folder, service) = guarded();
    let (status, head, _) = ask(
        &service,
        "POST",
        "/login",
        "",
        &format!("token={TOKEN}&next=//evil.example/"),
    );
    assert_eq!(status, 303, "{head}");
    assert!(
        head.contains("location: /\r\n"),
        "it leads nowhere else: {head}"
    );
    let cookie = head.split_once("set-cookie: ").expect("a cookie").1;
    for part in ["httponly", "samesite=strict", "path=/"] {
        assert!(
            cookie
                .lines()
                .next()
                .is_some_and(|line| line.contains(part)),
            "{cookie}"
        );
    }
    let cookie = cookie.split(';').next().expect("its value");
    let cookie = format!("Cookie: {cookie}\r\n");
    let (status, _, page) = ask(&service, "GET", "/", &cookie, "");
    assert_eq!(status, 200);
    let token = form_token(&page);
    let pause = "/handlers/audit/pause";
    let good = format!("csrf={token}");
    for (what, lines, form) in [
        ("no session", String::new(), good.as_str()),
        ("no form token", cookie.clone(), ""),
        (
            "another form token",
            cookie.clone(),
            "csrf=0000000000000000000000000000000000000000000000000000000000000000",
        ),
        (
            "another origin",
            format!("{cookie}Origin: https://evil.example\r\n"),
            good.as_str(),
        ),
        (
            "another site",
            format!("{cookie}Sec-Fetch-Site: cross-site\r\n"),
            good.as_str(),
        ),
    ] {
        let (status, _, answer) = ask(&service, "POST", pause, &lines, form);
        assert!(
            matches!(status, 303 | 401 | 403),
            "{what}: {status} {answer}"
        );
        let (_, _, page) = ask(&service, "GET", "/", &cookie, "");
        assert!(
            !page.contains("audit was paused"),
            "{what} changed something"
        );
    }
    // The cookie alone opens no change of the API.
    let json = format!("{cookie}X-None: 1\r\n");
    let (status, _, _) = ask(&service, "POST", "/api/handlers/audit/pause", &json, "{}");
    assert!(matches!(status, 401 | 403 | 415), "{status}");
    let (status, head, _) = ask(
        &service,
        "POST",
        pause,
        &format!("{cookie}Origin: http://localhost\r\n"),
        &good,
    );
    assert_eq!(status, 303, "{head}");
    let (_, _, page) = ask(&service, "GET", "/", &cookie, "");
    assert!(page.contains("audit was paused"), "the real form works");
    let (status, ..) = ask(&service, "POST", "/logout", &cookie, &good);
    assert_eq!(status, 303);
    assert_eq!(
        ask(&service, "GET", "/", &cookie, "").0,
        303,
        "the session is over"
    );
}

/// Signs in; answers the line of the request head that carries the cookie.
fn signed_in(service: &Service) -> String {
    let (status, head, _) = ask(service, "POST", "/login", "", &format!("token={TOKEN}"));
    assert_eq!(status, 303, "{head}");
    let cookie = head.split_once("set-cookie: ").expect("a cookie").1;
    let cookie = cookie.split(';').next().expect("its value");
    format!("Cookie: {cookie}\r\n")
}

#[test]
fn who_signs_out_sees_nothing_more_in_the_live_tail() {
    let (_folder, service) = guarded();
    let leaves = signed_in(&service);
    let stays = signed_in(&service);
    let watch = |cookie: &str| {
        let mut tail = TcpStream::connect(service.admin).expect("a connection");
        tail.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let request = format!("GET /api/tail HTTP/1.1\r\nHost: localhost\r\n{cookie}\r\n");
        tail.write_all(request.as_bytes()).expect("it is sent");
        let mut seen = String::new();
        until(&mut tail, &mut seen, "\r\n\r\n");
        assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
        tail
    };
    let (mut left, mut stayed) = (watch(&leaves), watch(&stays));
    let (first, _) = accepted(service.ingest, &body(1));
    let (mut seen, mut seen_by_other) = (String::new(), String::new());
    until(&mut left, &mut seen, &first);
    until(&mut stayed, &mut seen_by_other, &first);

    let (_, _, page) = ask(&service, "GET", "/", &leaves, "");
    let form = format!("csrf={}", form_token(&page));
    assert_eq!(ask(&service, "POST", "/logout", &leaves, &form).0, 303);
    let (second, _) = accepted(service.ingest, &body(2));
    // The other reader has seen it, so there is nothing more to wait for.
    until(&mut stayed, &mut seen_by_other, &second);
    let mut rest = Vec::new();
    let end = left.read_to_end(&mut rest);
    let is_over = match &end {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    assert!(is_over, "the stream is still open: {end:?}");
    let rest = String::from_utf8_lossy(&rest);
    assert!(!rest.contains(&second), "{rest}");
    assert!(!rest.ends_with("0\r\n\r\n"), "cut off, not ended: {rest}");
}

/// Reads until `text` was there.
fn until(stream: &mut TcpStream, seen: &mut String, text: &str) {
    let mut piece = [0; 4096];
    while !seen.contains(text) {
        let read = stream.read(&mut piece).expect("it goes on");
        assert_ne!(read, 0, "it ended without {text:?}: {seen}");
        seen.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
}

#[test]
fn a_planted_cookie_locks_nobody_out() {
    let (_folder, service) = guarded();
    let cookie = signed_in(&service);
    let planted = cookie.replacen(
        "Cookie: ",
        &format!("Cookie: ims_receiver_session={:064}; ", 0),
        1,
    );
    let (status, _, page) = ask(&service, "GET", "/", &planted, "");
    assert_eq!(status, 200, "{page}");
    assert_eq!(ask(&service, "GET", "/api/events", &planted, "").0, 200);
}

#[test]
fn without_a_token_only_this_machine_and_its_own_forms_are_taken() {
    let folder = Folder::with_log();
    let service = folder.start();
    let (_, _, page) = ask(&service, "GET", "/", "", "");
    let good = format!("csrf={}", form_token(&page));
    let pause = "/handlers/audit/pause";
    for (what, lines, form) in [
        ("no form token", "", ""),
        (
            "another origin",
            "Origin: http://evil.example\r\n",
            good.as_str(),
        ),
        (
            "no origin that can be named",
            "Origin: null\r\n",
            good.as_str(),
        ),
    ] {
        let (status, ..) = ask(&service, "POST", pause, lines, form);
        assert_eq!(status, 403, "{what}");
    }
    let foreign = "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let (status, ..) = exchange_whole(service.admin, foreign.as_bytes()).expect("an answer");
    assert_eq!(status, 403);
    assert_eq!(ask(&service, "POST", pause, "", &good).0, 303);
}

#[test]
fn pages_carry_their_policy_and_load_only_what_never_changes() {
    let folder = Folder::with_log();
    let service = folder.start();
    let (id, _) = accepted(service.ingest, &body(1));
    for path in [
        "/",
        "/events",
        "/refusals",
        "/login",
        "/events/nothing",
        "/nosuch",
        &format!("/events/{id}"),
    ] {
        let (_, head, page) = ask(&service, "GET", path, "Accept: text/html\r\n", "");
        for field in [
            "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            "referrer-policy: same-origin",
            "x-frame-options: deny",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
        ] {
            assert!(head.contains(field), "{path} without {field}: {head}");
        }
        assert!(
            !page.contains(" style=") && !page.contains("<style"),
            "{path} has a style of its own"
        );
        assert!(
            !page.contains(" onclick="),
            "{path} has a script of its own"
        );
    }
    let (_, _, page) = ask(&service, "GET", "/", "", "");
    let sheet = page
        .split_once(r#"rel="stylesheet" href=""#)
        .expect("a sheet")
        .1;
    let sheet = sheet.split('"').next().expect("its address");
    let (status, head, _) = ask(&service, "GET", sheet, "", "");
    assert_eq!(status, 200);
    assert!(
        head.contains("cache-control: public, max-age=31536000, immutable"),
        "{head}"
    );
    let stale = sheet.replacen("/assets/", "/assets/0", 1);
    assert_eq!(ask(&service, "GET", &stale, "", "").0, 404);
}
