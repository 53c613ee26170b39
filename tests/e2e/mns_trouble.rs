use std::time::{Duration, Instant};

use serde_json::Value;

use crate::forward::own_authority;
use crate::harness::{Folder, Service, accepted, body, get, wait_at_most, wait_for};
use crate::mns::{QUEUE, complaints, drained, emulator, folder, logged};
use crate::mns_emulator::{Emulator, Fault, KEY_ID, KEY_SECRET, Key, Op};

/// How long a queue stays in trouble.
const TROUBLE: Duration = Duration::from_secs(60);

/// The longest pause between two polls, and a little.
const PAUSE_MAX: Duration = Duration::from_secs(47);

/// A service whose queue cannot be read.
struct Case {
    name: &'static str,
    emulator: Emulator,
    folder: Folder,
    service: Service,
    /// What the one complaint says; the first is on `/readyz` too.
    words: [&'static str; 2],
    /// How many polls there may be meanwhile.
    polls_max: u64,
}

fn case(name: &'static str, emulator: Emulator, words: [&'static str; 2], polls_max: u64) -> Case {
    let folder = folder(&emulator, "");
    let service = folder.start();
    Case {
        name,
        emulator,
        folder,
        service,
        words,
        polls_max,
    }
}

fn key(secret: &str) -> Key {
    Key {
        secret: secret.to_owned(),
        token: None,
        expires: None,
    }
}

/// Waits take a third of a minute and more: what is tried twice has backed off.
const SLOWLY: u64 = 4;

/// From half a second on each pause may be twice the one before it.
const PATIENTLY: u64 = 40;

fn cases() -> Vec<Case> {
    let gone = emulator();
    let misspelt = Emulator::start(&[]);
    let wrong_secret = emulator();
    wrong_secret.set_key(KEY_ID, key("another"));
    let unknown_key = emulator();
    unknown_key.remove_key(KEY_ID);
    let forbidden = emulator();
    let elsewhere = emulator();
    for op in [Op::Attributes, Op::Receive] {
        forbidden.fault(op, Fault::Refused(403, "AccessDenied"), 1000);
        elsewhere.fault(op, Fault::Html(404), 1000);
    }
    let (tls, _) = own_authority();
    let stranger = Emulator::start_with_tls(&[QUEUE], tls);
    vec![
        case("gone", gone, ["connection refused", "can be reached"], 1),
        case("misspelt", misspelt, ["QueueNotExist", "spelt"], SLOWLY),
        case(
            "wrong secret",
            wrong_secret,
            ["SignatureDoesNotMatch", "secret belongs"],
            SLOWLY,
        ),
        case(
            "unknown key",
            unknown_key,
            ["InvalidAccessKeyId", "enabled"],
            SLOWLY,
        ),
        case(
            "forbidden",
            forbidden,
            ["AccessDenied", "mns:BatchReceiveMessage"],
            SLOWLY,
        ),
        case(
            "elsewhere",
            elsewhere,
            ["<!DOCTYPE html>", "that of MNS"],
            PATIENTLY,
        ),
        case("stranger", stranger, ["unknown authority", "ca_file"], 0),
    ]
}

impl Case {
    fn complains_once(&self) {
        let name = self.name;
        let all = complaints(&self.service);
        assert_eq!(all.len(), 1, "{name}: {all:#?}");
        let line = all[0].to_string();
        for word in self.words {
            assert!(line.contains(word), "{name}: no {word:?} in {line}");
        }
        assert!(line.contains(&self.emulator.url()), "{name}: {line}");
        assert!(!line.contains(KEY_SECRET), "{name}: {line}");
        let polls = self.emulator.requests(Op::Receive);
        assert!(polls <= self.polls_max, "{name}: {polls} polls");
        let (status, text) = self.service.get("/readyz");
        assert_eq!(status, 200, "{name}: {text}");
        let queue = text
            .lines()
            .find(|line| line.starts_with("sources.queue: queue ice-callback-test cannot be read"));
        assert!(
            queue.is_some_and(|line| line.contains(self.words[0])),
            "{name}: {text}"
        );
        let health = get(self.service.ingest, "/healthz").expect("an answer");
        assert_eq!(health.0, 200, "{name}");
    }

    fn is_read_again(&self, since: Instant) {
        let name = self.name;
        wait_at_most(PAUSE_MAX, name, || {
            (self.emulator.left(QUEUE) == 0).then_some(())
        });
        assert!(since.elapsed() < PAUSE_MAX, "{name}");
        logged(&self.folder, 2);
        wait_for("the trouble is over", || {
            (self.service.get("/readyz") == (200, "ready\n".to_owned())).then_some(())
        });
        let again = |line: &&String| line.contains("is read again");
        assert_eq!(self.service.log().iter().filter(again).count(), 1, "{name}");
        assert_eq!(complaints(&self.service).len(), 1, "{name}");
    }
}

/// One minute for all of them, which is what is promised of a queue service
/// that is gone for so long.
#[test]
fn a_minute_of_trouble_is_one_line_and_ends_by_itself() {
    let mut cases = cases();
    cases[0].emulator.stop();
    let began = Instant::now();
    for case in &cases {
        // The other source works, whatever becomes of the queue.
        let (id, _) = accepted(case.service.ingest, &body(1));
        case.service.succeeded(&id);
        wait_for(case.name, || complaints(&case.service).pop());
    }
    std::thread::sleep(TROUBLE.saturating_sub(began.elapsed()));
    cases.iter().for_each(Case::complains_once);

    let since = Instant::now();
    cases[0].emulator.start_again();
    cases[1].emulator.add_queue(QUEUE);
    cases[2].emulator.set_key(KEY_ID, key(KEY_SECRET));
    cases[3].emulator.set_key(KEY_ID, key(KEY_SECRET));
    cases[4].emulator.calm();
    cases[5].emulator.calm();
    let (stranger, mended) = cases.split_last().expect("there are some");
    for case in mended {
        case.emulator.send(QUEUE, &body(2));
    }
    for case in mended {
        case.is_read_again(since);
    }
    stranger.complains_once();
    // Whose queue goes again is told again.
    mended[1].emulator.remove_queue(QUEUE);
    wait_for("it complains again", || {
        (complaints(&mended[1].service).len() == 2).then_some(())
    });
}

#[test]
fn the_endpoint_of_another_region_loses_nothing() {
    let here = emulator();
    for number in 0..20 {
        here.send(QUEUE, &body(number));
    }
    let elsewhere = Emulator::start(&["ice-callback-of-another-region"]);
    let wrong = folder(&elsewhere, "");
    let service = wrong.start();
    let line = wait_for("it complains", || complaints(&service).pop());
    for words in ["QueueNotExist", "that of its region", &elsewhere.url()] {
        assert!(line.to_string().contains(words), "no {words:?} in {line}");
    }
    drop(service);
    assert_eq!(here.left(QUEUE), 20);
    let right = folder(&here, "");
    let _service = right.start();
    drained(&here);
    assert_eq!(logged(&right, 20).len(), 20);
}

#[test]
fn an_https_endpoint_of_ones_own_is_trusted_by_its_ca_file() {
    let (tls, authority) = own_authority();
    let emulator = Emulator::start_with_tls(&[QUEUE], tls);
    emulator.strict();
    emulator.visibility(QUEUE, 1);
    let folder = folder(&emulator, "ca_file = \"ca.pem\"");
    std::fs::write(folder.path("ca.pem"), authority).expect("the file");
    let service = folder.start();
    for number in 0..40 {
        emulator.send(QUEUE, &body(number));
    }
    drained(&emulator);
    assert_eq!(logged(&folder, 40).len(), 40);
    assert_eq!(complaints(&service), Vec::<Value>::new());
}

#[test]
fn a_policy_that_forbids_to_delete_is_said_once_and_loses_nothing() {
    let emulator = emulator();
    emulator.visibility(QUEUE, 1);
    emulator.fault(Op::Delete, Fault::Refused(403, "AccessDenied"), 1000);
    let folder = folder(&emulator, "max_receives = 1000");
    let service = folder.start();
    emulator.send(QUEUE, &body(1));
    wait_for("it has come again and again", || {
        (emulator.receives_of(&body(1)) >= 4).then_some(())
    });
    let lines = complaints(&service);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    for words in ["cannot be emptied", "AccessDenied", "mns:DeleteMessage"] {
        assert!(lines[0].to_string().contains(words), "{}", lines[0]);
    }
    let (status, text) = service.get("/readyz");
    assert_eq!(status, 200, "{text}");
    let told = "sources.queue: queue ice-callback-test cannot be emptied";
    assert!(text.contains(told), "{text}");
    let failures = "ims_receiver_queue_delete_failures_total{source=\"queue\"}";
    assert!(service.metric(failures) >= Some(3.0));
    emulator.calm();
    drained(&emulator);
    assert_eq!(logged(&folder, 1).len(), 1, "one event, handed over once");
    wait_for("the trouble is over", || {
        (service.get("/readyz") == (200, "ready\n".to_owned())).then_some(())
    });
}
