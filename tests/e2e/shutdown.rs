//! Stops.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::destination::{Answer, Destination};
use crate::harness::{Folder, accepted, body, get, output, wait_for};

#[test]
fn sigterm_ends_with_zero_and_leaves_nothing_to_take_over() {
    let folder = Folder::with_log();
    let service = folder.start();
    for number in 0..50 {
        assert_eq!(service.send(&body(number)).expect("an answer").0, 200);
    }
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    let service = folder.start();
    assert_eq!(service.taken_over(), 0);
    wait_for("all are delivered", || {
        (folder.logged().len() == 50).then_some(())
    });
}

#[test]
fn a_second_start_beside_a_running_one_is_refused() {
    let folder = Folder::with_log();
    let service = folder.start();
    let (code, _, stderr) = output(folder.command().arg("serve"));
    assert_eq!(code, 64);
    assert!(
        stderr.contains("events.db") && stderr.contains("in use"),
        "{stderr}"
    );
    assert_eq!(service.send(&body(1)).expect("an answer").0, 200);
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    folder.start();
}

#[test]
fn sighup_ends_nothing() {
    let folder = Folder::with_log();
    let service = folder.start();
    std::fs::rename(folder.path("events.log"), folder.path("events.log.1")).expect("a rename");
    service.signal("-HUP");
    wait_for("the file is reopened", || {
        folder.path("events.log").exists().then_some(())
    });
    assert_eq!(service.send(&body(1)).expect("an answer").0, 200);
    wait_for("the line is in the new file", || {
        (folder.logged().len() == 1).then_some(())
    });
}

/// A folder that forwards to a destination which takes this long, `places` at a
/// time.
fn forwarding(work: Duration, places: usize, drain: &str) -> (Folder, Destination) {
    let destination = Destination::start(move |_| Answer::after(work));
    let folder = Folder::new(&format!(
        "[handlers.cms]\nkind = \"forward\"\nurl = \"http://{}/\"\nconcurrency = {places}\n",
        destination.address
    ))
    .set("dispatch.drain", drain);
    (folder, destination)
}

#[test]
fn a_stop_drains_what_is_at_work_and_goes_on_accepting() {
    const PLACES: usize = 8;
    let (folder, destination) = forwarding(Duration::from_secs(3), PLACES, "20s");
    let service = folder.start();
    let mut ids: HashSet<String> = (0..20)
        .map(|number| accepted(service.ingest, &body(number)).0)
        .collect();
    wait_for("every place is at work", || {
        (destination.received().len() == PLACES).then_some(())
    });
    service.signal("-TERM");
    wait_for("it says that it is stopping", || {
        let (status, reasons) = service.get("/readyz");
        (status == 503 && reasons.contains("stopping")).then_some(())
    });
    for number in 20..30 {
        ids.insert(accepted(service.ingest, &body(number)).0);
    }
    let (_, known) = accepted(service.ingest, &body(0));
    assert!(known, "copies are recognised to the end");
    assert_eq!(get(service.ingest, "/healthz").map(|it| it.0), Some(503));
    assert_eq!(service.get("/livez").0, 200);
    let refused = folder.try_start().err().expect("the other still runs");
    assert_eq!(refused.code, Some(64));
    for word in ["events.db", "in use", "stop that process"] {
        assert!(refused.output.contains(word), "{refused:?}");
    }
    assert_eq!(
        destination.answers(),
        0,
        "all that happened while they work"
    );
    assert_eq!(service.wait(), Some(0));
    assert_eq!(destination.answers(), PLACES, "what was begun was finished");
    assert_eq!(
        destination.received().len(),
        PLACES,
        "and nothing was begun"
    );

    let service = folder.start();
    assert_eq!(service.taken_over(), 0);
    wait_for("the rest is delivered", || {
        (destination.answered() == ids).then_some(())
    });
    assert_eq!(destination.received().len(), ids.len(), "each of them once");
    for id in &ids {
        let event = service.succeeded(id);
        assert_eq!(event["deliveries"][0]["attempts"], 1, "{event:#}");
    }
}

#[test]
fn what_outlasts_the_drain_is_cut_short_and_repeated_at_once() {
    let (folder, destination) = forwarding(Duration::from_secs(2), 8, "500ms");
    let service = folder.start();
    let ids: HashSet<String> = (0..8)
        .map(|number| accepted(service.ingest, &body(number)).0)
        .collect();
    wait_for("all are at work", || {
        (destination.received().len() == ids.len()).then_some(())
    });
    let began = Instant::now();
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    let took = began.elapsed();
    assert!(
        took < Duration::from_millis(1900),
        "the drain is bounded: {took:?}"
    );
    assert_eq!(destination.answers(), 0);

    let service = folder.start();
    assert_eq!(service.taken_over(), 0, "the stop wrote what it cut short");
    wait_for("all are delivered", || {
        (destination.answered() == ids).then_some(())
    });
    for id in &ids {
        let delivery = &service.succeeded(id)["deliveries"][0];
        assert_eq!(delivery["history"][0]["result"], "stopped");
        assert_eq!(delivery["history"][1]["result"], "succeeded");
        assert_eq!(delivery["attempts"], 2);
    }
}

#[test]
fn a_second_signal_ends_at_once_and_loses_nothing() {
    let (folder, destination) = forwarding(Duration::from_secs(2), 8, "20s");
    let service = folder.start();
    let ids: HashSet<String> = (0..20)
        .map(|number| accepted(service.ingest, &body(number)).0)
        .collect();
    wait_for("some are at work", || {
        (destination.received().len() == 8).then_some(())
    });
    service.signal("-TERM");
    wait_for("it is stopping", || {
        (service.get("/readyz").0 == 503).then_some(())
    });
    service.signal("-INT");
    assert_eq!(service.wait(), Some(1));
    let service = folder.start();
    // The eight at work, and what was handed over but not begun where the second
    // signal came before that was given back.
    let taken_over = service.taken_over();
    assert!((8..=20).contains(&taken_over), "{taken_over}");
    wait_for("all are delivered", || {
        (destination.answered() == ids).then_some(())
    });
    for id in &ids {
        service.succeeded(id);
    }
}
