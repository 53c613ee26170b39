//! What people do with the page.

use std::time::{Duration, Instant};

use super::browser::{Browser, LOOKS};
use super::url;
use crate::destination::{Answer, Destination};
use crate::harness::{Folder, Service, accepted, body, send, wait_for};

/// A service with a handler that works and one whose destination fails.
pub fn service_with_a_failing_handler(status: u16) -> (Folder, Service, Destination) {
    let destination = Destination::start(move |_| Answer::status(status));
    let folder = Folder::with_log().configured(&format!(
        "[handlers.cms]\nkind = \"forward\"\nurl = \"http://{}/hook\"\nretry = {{ initial = \"1h\", max = \"1h\" }}\n",
        destination.address
    ));
    let service = folder.start();
    (folder, service, destination)
}

#[test]
fn an_event_is_found_opened_and_delivered_again() {
    let (_folder, service, _cms) = service_with_a_failing_handler(410);
    let (id, _) = accepted(service.ingest, &body(7));
    accepted(service.ingest, &body(8));
    service.finished(&id);
    let browser = Browser::open();
    browser.go(&url(&service, "/events"));
    browser.write("input[name=media_id]", "media-7");
    browser.click("main form[role=search] button");
    browser.wait(&format!("#e-{id}"));
    assert!(
        browser.url().ends_with("/events?media_id=media-7"),
        "{}",
        browser.url()
    );
    assert_eq!(
        browser.run("return document.querySelectorAll('#rows > tr').length"),
        1
    );
    assert!(browser.text(&format!("#e-{id} .states")).contains("cms"));
    browser.click(&format!("#e-{id} a.type"));
    browser.wait_text("h1", "ProduceMediaComplete");
    browser.wait_text("#became", "status 410");
    assert!(browser.text(".json").contains("media-7"));
    let tip = browser.run("return [...document.querySelectorAll('.field')].find(f => f.firstChild.data === '\"MediaId\"').querySelector('.tip').textContent");
    assert!(tip.as_str().is_some_and(|tip| tip.len() > 20), "{tip}");

    let attempts = |handler: &str| {
        let event = service.event(&id);
        let deliveries = event["deliveries"].as_array().expect("a list").clone();
        let delivery = deliveries.into_iter().find(|one| one["handler"] == handler);
        delivery.expect("it is for this handler")["attempts"].as_u64()
    };
    assert_eq!(attempts("cms"), Some(1));
    // What IMS says of its job is not how the deliveries stand.
    assert!(browser.text(".head").contains("IMS says"));
    assert!(browser.text("#again").contains("1 of 2 delivered"));
    assert!(browser.text("#again").contains("status 410"));
    // Done already, and not ticked: it would run twice.
    assert!(!browser.has("input[name=handler][value=audit]:checked"));
    assert!(browser.has("input[name=handler][value=cms]:checked"));
    browser.click("form[action$='/redeliver'] button");
    browser.wait_text(".notice", "1 delivery");
    wait_for("the second attempt", || {
        (attempts("cms") == Some(2)).then_some(())
    });
    assert_eq!(attempts("audit"), Some(1), "it was not asked for");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_delivery_that_was_given_up_is_told_in_few_words() {
    let destination = Destination::start(|_| Answer::status(500));
    let folder = Folder::with_log().configured(&format!(
        "[handlers.cms]\nkind = \"forward\"\nurl = \"http://{}/hook\"\nretry = {{ initial = \"10ms\", max = \"10ms\", attempts = 4 }}\n",
        destination.address
    ));
    let service = folder.start();
    let (id, _) = accepted(service.ingest, &body(1));
    service.finished(&id);
    let browser = Browser::open();
    for look in [LOOKS[0], LOOKS[2]] {
        browser.look(look);
        browser.go(&url(&service, &format!("/events/{id}")));
        browser.wait_text("#again", "1 of 2 delivered");
        let bottom = browser
            .run("return document.querySelector('#again button').getBoundingClientRect().bottom");
        let fold = f64::from(look.height);
        assert!(
            bottom.as_f64().is_some_and(|bottom| bottom < fold),
            "{bottom}"
        );
        let standing = browser.text(".standing");
        assert!(standing.contains("dead") && standing.contains("status 500"));
        assert!(!standing.contains("used up"), "{standing}");
        let became = browser.text("#became");
        assert_eq!(became.matches("status 500").count(), 1, "{became}");
        assert!(became.contains("Attempts 2–4, same reason"), "{became}");
        let end = "retry.attempts (4) used up";
        assert_eq!(became.matches(end).count(), 1, "{became}");
        browser.run("document.querySelectorAll('details').forEach(d => d.open = true)");
        assert_eq!(browser.text("#became").matches("status 500").count(), 4);
        // What is opened keeps its distance from the edge of its card.
        let close = browser.run(
            "return [...document.querySelectorAll('.card > details > :not(summary)')]\
             .filter(e => parseFloat(getComputedStyle(e).paddingLeft) < 12).length",
        );
        assert_eq!(close, 0);
        browser.picture("given-up", look);
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn an_id_leads_to_its_event_its_media_and_its_job() {
    let folder = Folder::with_log();
    let service = folder.start();
    let (id, _) = accepted(service.ingest, &body(1));
    let browser = Browser::open();
    for (asked, led) in [
        (id.as_str(), format!("/events/{id}")),
        ("media-1", "/media/media-1".to_owned()),
        ("job-1", "/job/job-1".to_owned()),
        ("nobody", "/events?q=nobody".to_owned()),
        // As people read it to each other.
        (&id[..13], format!("/events/{id}")),
        (&id[..7], format!("/events?q={}", &id[..7])),
        ("ffffffff", "/events?q=ffffffff".to_owned()),
    ] {
        browser.go(&url(&service, "/"));
        // A slash leads to the field from anywhere.
        browser.press("/");
        browser.press(asked);
        browser.click(".find button");
        wait_for("the page of the id", || {
            browser.url().ends_with(&led).then_some(())
        });
    }
    browser.go(&url(&service, "/media/media-1"));
    assert!(!browser.has(".chart"), "one event is on no axis");
    accepted(service.ingest, &body(1).replace("job-1", "job-2"));
    browser.go(&url(&service, "/media/media-1"));
    assert!(browser.has(".chart svg circle"), "an axis");
    assert!(browser.has(&format!("main a[href='/events/{id}']")));
    assert!(browser.has("main a[href='/job/job-1']"));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_handler_is_held_back_and_let_go_on() {
    let folder = Folder::with_log();
    let service = folder.start();
    let browser = Browser::open();
    browser.go(&url(&service, "/"));
    browser.click("#handler-audit button");
    browser.wait_text("#handler-audit", "paused");
    browser.wait_text("#attention", "audit was paused");
    let (id, _) = accepted(service.ingest, &body(1));
    // The page reads itself again.
    browser.wait_text("#handler-audit td[data-label=Unfinished]", "1");
    assert_eq!(service.event(&id)["deliveries"][0]["attempts"], 0);
    browser.click("#handler-audit button");
    browser.wait_text("#handler-audit", "at work");
    service.succeeded(&id);
    browser.wait_text("#attention", "All is well");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn the_live_tail_shows_an_event_within_a_second_and_can_be_paused() {
    let folder = Folder::with_log();
    let service = folder.start();
    let browser = Browser::open();
    browser.go(&url(&service, "/events?type=Produce*"));
    browser.wait("#tail.on");
    let other = r#"{"EventType":"SnapshotComplete","MessageBody":{"Status":"Success"}}"#;
    accepted(service.ingest, other);
    let mut slowest = Duration::ZERO;
    for number in 0..5 {
        let (id, _) = accepted(service.ingest, &body(number));
        let acked = Instant::now();
        browser.wait_within(Duration::from_secs(1), &format!("#e-{id}"));
        slowest = slowest.max(acked.elapsed());
    }
    println!("slowest of five events in the live tail: {slowest:?} after their ack");
    assert_eq!(
        browser.run("return document.querySelectorAll('#rows > tr').length"),
        5,
        "only what was searched for"
    );
    // What became of it is shown without a reload.
    browser
        .wait("#rows > tr:first-child .state.good + *, #rows > tr:first-child .states .state.good");
    browser.click("#tail button");
    browser.wait_text("#tail", "Paused");
    let (missed, _) = accepted(service.ingest, &body(99));
    service.succeeded(&missed);
    assert!(!browser.has(&format!("#e-{missed}")), "it is paused");
    // What came in between is no hole in the list.
    browser.click("#tail button");
    browser.wait(&format!("#rows > tr:first-child#e-{missed}"));
    let (seen, _) = accepted(service.ingest, &body(100));
    browser.wait(&format!("#e-{seen} + #e-{missed}"));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_hostile_body_is_inert() {
    let folder = Folder::with_log().configured("body = false\n");
    let service = folder.start();
    let attack =
        "<script>document.title='owned'</script><img src=x onerror=\\\"document.title='owned'\\\">";
    let large = "x".repeat(1_000_000);
    let bodies = [
        format!(
            r#"{{"EventType":"{attack}","MessageBody":{{"Status":"{attack}","MediaId":"{attack}","JobId":"javascript:alert(1)","{attack}":"{large}"}}}}"#
        ),
        format!("no json {} {large}", attack.replace('\\', "")),
    ];
    let browser = Browser::open();
    browser.go(&url(&service, "/events"));
    browser.wait("#tail.on");
    let ids: Vec<String> = bodies
        .iter()
        .map(|body| {
            let (status, answer) = send(service.ingest, body).expect("an answer");
            assert_eq!(status, 200, "{answer}");
            answer["id"].as_str().expect("an id").to_owned()
        })
        .collect();
    for id in &ids {
        browser.wait(&format!("#e-{id}"));
    }
    let inert = |browser: &Browser| {
        assert_ne!(browser.run("return document.title"), "owned");
        assert_eq!(
            browser
                .run("return document.querySelectorAll('main script, main img, [onerror]').length"),
            0
        );
        assert_eq!(browser.complaints(), Vec::<String>::new());
    };
    inert(&browser);
    let mut pages = vec!["/events".to_owned(), "/".to_owned()];
    pages.extend(ids.iter().map(|id| format!("/events/{id}")));
    let media = attack.replace('\\', "");
    let media: String = media.bytes().map(|byte| format!("%{byte:02x}")).collect();
    pages.push(format!("/media/{media}"));
    for page in pages {
        let (status, text) = service.get(&page);
        assert_eq!(status, 200, "{page}: {text}");
        assert!(text.len() < 200_000, "{page} has {} bytes", text.len());
        browser.go(&url(&service, &page));
        inert(&browser);
    }
    browser.go(&url(&service, &format!("/events/{}", ids[0])));
    assert!(
        browser.text(".json").contains("<script>"),
        "it is shown as it is"
    );
}

#[test]
fn everything_reads_and_every_form_works_without_a_script() {
    let (_folder, service, _cms) = service_with_a_failing_handler(410);
    let (id, _) = accepted(service.ingest, &body(1));
    service.finished(&id);
    let browser = Browser::open();
    browser.scripts(false);
    browser.go(&url(&service, "/"));
    browser.wait_text("#handlers", "cms");
    browser.click("#handler-cms button");
    browser.wait_text("#handler-cms", "paused");
    browser.click("#handler-cms button");
    browser.wait_text("#handler-cms", "at work");
    browser.click("nav a[href='/events']");
    browser.write("input[name=job_id]", "job-1");
    browser.click("main form[role=search] button");
    browser.wait(&format!("#e-{id}"));
    browser.click("main a[href^='/redeliver']");
    browser.wait_text("#count", "2 deliveries of 1 event");
    browser.click("input[name=to][value=cms]");
    browser.click("form[action='/redeliver'] button");
    browser.wait_text(".notice", "1 delivery");
    wait_for("the second attempt", || {
        let event = service.event(&id);
        let all = event["deliveries"]
            .as_array()?
            .iter()
            .map(|one| one["attempts"].as_u64());
        (all.sum::<Option<u64>>() == Some(3)).then_some(())
    });
    browser.go(&url(&service, "/refusals"));
    browser.wait_text("main", "Nothing was refused");
}

#[test]
fn what_waits_for_a_handler_that_is_gone_is_given_up() {
    let (folder, service, _cms) = service_with_a_failing_handler(500);
    let (id, _) = accepted(service.ingest, &body(1));
    wait_for("the first attempt failed", || {
        let event = service.event(&id);
        let deliveries = event["deliveries"].as_array()?.clone();
        let cms = deliveries.into_iter().find(|one| one["handler"] == "cms")?;
        (cms["status"] == "pending").then_some(())
    });
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    let config = folder.path("receiver.toml");
    let text = std::fs::read_to_string(&config).expect("the configuration");
    let without = text
        .split("[handlers.cms]")
        .next()
        .expect("what stands before it");
    std::fs::write(&config, without).expect("the configuration");
    let service = folder.start();
    let browser = Browser::open();
    browser.go(&url(&service, "/"));
    browser.wait_text(
        "#attention",
        "cms is no longer configured, and 1 delivery waits for it",
    );
    browser.click("#handler-cms a.button");
    browser.wait_text(
        "main",
        "1 delivery waits for a handler that is no longer configured",
    );
    assert_eq!(
        service.event(&id)["deliveries"][1]["status"],
        "pending",
        "it asks first"
    );
    browser.click("form[action='/handlers/cms/discard'] button");
    browser.wait_text(".notice", "1 delivery was given up");
    let given_up = service.event(&id);
    assert_eq!(given_up["deliveries"][1]["status"], "dead");
    assert_eq!(given_up["deliveries"][1]["reason"], "discarded");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// What turns the text around it, drives a terminal, or ends a line.
const HOSTILE: &str = "\u{202e}\u{61c}\u{9b}\u{2028}\u{feff}\u{2066}";

#[test]
fn nothing_of_a_body_turns_the_page_around() {
    let folder = Folder::with_log().configured("body = false\n");
    let service = folder.start();
    let long = format!("m{}", "x".repeat(400));
    let of = |id: &str| {
        format!(
            r#"{{"EventType":"{HOSTILE}t","UserId":"u{HOSTILE}","EventTime":"e{HOSTILE}","MessageBody":{{"MediaId":"{id}","JobId":"j{HOSTILE}","{HOSTILE}":"{HOSTILE}"}}}}"#
        )
    };
    let media = format!("m{HOSTILE}");
    let (old, _) = accepted(service.ingest, &of(&media));
    let encoded =
        |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02x}")).collect() };
    let hostile = encoded(HOSTILE);
    for path in [
        "/".to_owned(),
        "/events".to_owned(),
        format!("/events/{old}"),
        format!("/media/{}", encoded(&media)),
        format!("/job/j{hostile}"),
        format!("/redeliver?q={hostile}"),
        format!("/redeliver?{hostile}={hostile}"),
        format!("/events?status={hostile}"),
        format!("/events?since={hostile}"),
        format!("/refusals?source={hostile}"),
    ] {
        let (status, page) = service.get(&path);
        assert_eq!(status, 200, "{path}");
        // A field holds what it was given, so that it can be sent again.
        let mut shown = page.split("value=\"");
        let mut texts = vec![shown.next().expect("a first part")];
        texts.extend(shown.filter_map(|part| Some(part.split_once('"')?.1)));
        for text in texts {
            let raw = HOSTILE.chars().find(|c| text.contains(*c));
            assert_eq!(raw, None, "{path}: {text}");
        }
    }
    let browser = Browser::open();
    browser.go(&url(&service, "/events?type=*"));
    browser.wait("#tail.on");
    let (id, _) = accepted(service.ingest, &of(&media).replace("{", "{ "));
    let (long_id, _) = accepted(service.ingest, &of(&long));
    for (id, media) in [(id, "m\\u{202e}\\u{61c}\\u{9b}"), (long_id, "mxxx")] {
        browser.wait(&format!("#e-{id}"));
        // Live, and as the server shows it.
        for _ in 0..2 {
            let row = browser.text(&format!("#e-{id}"));
            assert!(!row.contains(|c| HOSTILE.contains(c)), "{row:?}");
            assert!(
                row.contains("\\u{202e}\\u{61c}\\u{9b}\\u{2028}\\u{feff}\\u{2066}t"),
                "{row:?}"
            );
            let shown = browser.run(&format!(
                "return document.querySelector('#e-{id} .ids dd').textContent"
            ));
            let shown = shown.as_str().expect("its media").to_owned();
            assert!(shown.starts_with(media) && shown.len() < 200, "{shown}");
            browser.go(&url(&service, "/events"));
        }
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_search_is_folded_where_there_is_little_room() {
    let folder = Folder::with_log();
    let service = folder.start();
    accepted(service.ingest, &body(1));
    let browser = Browser::open();
    browser.scripts(false);
    let seen = |css: &str| {
        browser.run(&format!(
            "return document.querySelector({css:?}).checkVisibility()"
        )) == true
    };
    let (wide, narrow) = (LOOKS[0], LOOKS[2]);
    browser.look(wide);
    browser.go(&url(&service, "/events"));
    assert!(seen("input[name=media_id]") && !seen(".filters"));
    browser.look(narrow);
    browser.go(&url(&service, "/events"));
    assert!(!seen("input[name=media_id]"));
    browser.click(".filters summary");
    assert!(seen("input[name=media_id]"));
    browser.go(&url(&service, "/events?media_id=media-1"));
    assert!(
        seen("input[name=media_id]"),
        "it is open where it is in use"
    );
    let small = browser.run(
        "return [...document.querySelectorAll('main a, main input[type=checkbox]')]\
         .filter(e => e.checkVisibility())\
         .filter(e => e.getBoundingClientRect().height < 24).map(e => e.outerHTML)",
    );
    assert_eq!(small, serde_json::json!([]), "a finger hits them");
}

#[test]
fn who_looks_for_nothing_gets_a_page() {
    let folder = Folder::with_log();
    let service = folder.start();
    let browser = Browser::open();
    browser.go(&url(&service, "/nosuch"));
    browser.wait_text("h1", "Not Found");
    let (status, text) = service.get("/nosuch");
    assert_eq!(status, 404);
    assert!(text.contains(r#""status":404"#), "{text}");
}

#[test]
fn what_was_sent_again_and_is_gone_from_the_search_is_no_failure() {
    let (_folder, service, _cms) = service_with_a_failing_handler(410);
    let (id, _) = accepted(service.ingest, &body(1));
    service.finished(&id);
    let browser = Browser::open();
    // So that it is not dead again at once.
    browser.go(&url(&service, "/"));
    browser.click("#handler-cms button");
    browser.wait_text("#handler-cms", "paused");
    browser.go(&url(&service, "/redeliver?status=dead&handler=cms"));
    browser.wait_text("form[action='/redeliver']", "Only to cms");
    assert!(!browser.has("input[name=to]"));
    browser.click("form[action='/redeliver'] button");
    browser.wait_text(".notice", "1 delivery begins");
    browser.wait_text("#nothing", "None is left that is like that");
}
