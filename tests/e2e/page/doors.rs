//! Who is let in, and which forms are taken.

use std::time::{Duration, Instant};

use super::browser::Browser;
use super::url;
use crate::harness::{Folder, Service, accepted, body, exchange_whole};

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
        &format!("/events/{id}"),
    ] {
        let (_, head, page) = ask(&service, "GET", path, "", "");
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
