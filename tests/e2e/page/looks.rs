//! Every page, wide and narrow, light and dark: quiet, of our origin only,
//! and within its window. `PAGE_SHOTS=folder` keeps a picture of each.

use std::process::Command;

use super::browser::{Browser, LOOKS};
use super::url;
use super::work::service_with_a_failing_handler;
use crate::harness::{KEY, Post, URL, accepted, body, output, wait_for};

/// Samples of several types, sent as IMS does.
const SENT: [(&str, u32); 5] = [
    ("ProduceMediaComplete", 24),
    ("TranscodeComplete", 12),
    ("MediaConvertComplete", 9),
    ("SnapshotComplete", 5),
    ("FileUploadComplete", 17),
];

#[test]
fn every_page_is_quiet_and_within_its_window() {
    let (_folder, service, _cms) = service_with_a_failing_handler(500);
    let target = format!("http://{}/ims/callback", service.ingest);
    for (event, count) in SENT {
        let mut send = Command::new(env!("CARGO_BIN_EXE_ims-receiver"));
        send.args(["send", &target, "--callback-url", URL, "--key", KEY])
            .args(["--event", event, "--count", &count.to_string()]);
        let (code, _, stderr) = output(&mut send);
        assert_eq!(code, 0, "{stderr}");
    }
    let failed = r#"{"EventType":"DeleteMediaComplete","UserId":1,"MessageBody":{"Status":"Fail","MediaId":"media-1","UserData":"{\"order\":[1,{\"a\":null}]}"}}"#;
    let (id, _) = accepted(service.ingest, &body(1));
    accepted(service.ingest, &body(1));
    accepted(service.ingest, failed);
    for wrong in [
        Post {
            key: "another-key-of-16-or-more",
            ..Post::of("{}")
        },
        Post {
            url: "http://callbacks.example.com/ims/callback",
            ..Post::of("{}")
        },
    ] {
        assert_eq!(wrong.send(service.ingest).expect("an answer").0, 401);
    }
    wait_for("the failing attempt is in the history", || {
        let event = service.event(&id);
        let deliveries = event["deliveries"].as_array()?.clone();
        let cms = deliveries.into_iter().find(|one| one["handler"] == "cms")?;
        (cms["status"] == "pending").then_some(())
    });
    let pages = [
        ("overview", "/".to_owned()),
        ("events", "/events".to_owned()),
        ("search", "/events?outcome=failed".to_owned()),
        ("nothing", "/events?media_id=none".to_owned()),
        ("mistake", "/events?since=yesterday".to_owned()),
        ("event", format!("/events/{id}")),
        ("media", "/media/media-1".to_owned()),
        ("job", "/job/job-1".to_owned()),
        ("refusals", "/refusals".to_owned()),
        ("again", "/redeliver?status=pending".to_owned()),
    ];
    let browser = Browser::open();
    for (name, path) in &pages {
        for look in LOOKS {
            browser.look(look);
            browser.go(&url(&service, path));
            browser.wait("main h1");
            let width = browser
                .run("return document.documentElement.scrollWidth")
                .as_u64();
            assert!(
                width <= Some(u64::from(look.width)),
                "{path} is {width:?} wide at {}",
                look.width
            );
            browser.picture(name, look);
            assert_eq!(browser.complaints(), Vec::<String>::new(), "{path}");
            let own = url(&service, "/");
            for asked in browser.requests() {
                assert!(
                    asked.starts_with(&own) || asked.starts_with("data:"),
                    "{path} asks {asked}"
                );
            }
        }
    }
    let unnamed = browser.run(
        "return [...document.querySelectorAll('input:not([type=hidden]), select, button')]\
         .filter(e => !e.labels?.length && !e.ariaLabel && !e.textContent.trim()).length",
    );
    assert_eq!(unnamed, 0, "every control has a name");
}

#[test]
fn a_keyboard_is_enough() {
    let (_folder, service, _cms) = service_with_a_failing_handler(200);
    let (id, _) = accepted(service.ingest, &body(1));
    service.succeeded(&id);
    let browser = Browser::open();
    browser.go(&url(&service, "/events?job_id=job-1"));
    // WebDriver's key for the tabulator and for Enter.
    const TAB: &str = "\u{E004}";
    const ENTER: &str = "\u{E007}";
    browser.press(TAB);
    assert_eq!(
        browser.run("return document.activeElement.textContent"),
        "Skip to the content"
    );
    browser.press(ENTER);
    assert!(browser.url().ends_with("#main"), "{}", browser.url());
    let reached = (0..40).any(|_| {
        browser.press(TAB);
        browser.run("return document.activeElement.className") == "type"
    });
    assert!(reached, "the event can be reached");
    let ring = browser.run("return getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(ring, "solid", "the focus can be seen");
    browser.press(ENTER);
    browser.wait_text("h1", "ProduceMediaComplete");
    let explained = (0..60).any(|_| {
        browser.press(TAB);
        browser
            .run("return document.activeElement.querySelector('.tip')?.checkVisibility() ?? false")
            == true
    });
    assert!(explained, "the meaning of a field can be reached");
}
