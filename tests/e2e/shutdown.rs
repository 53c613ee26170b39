//! Stops.

use crate::harness::{Folder, body, output, wait_for};

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
