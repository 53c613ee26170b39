//! Killed at random moments under load: what was acknowledged is there, is
//! delivered, and nothing is stuck.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::{Folder, body, send, wait_for};

/// Kills in one run of the tests.
const KILLS: u32 = 100;

#[test]
fn a_hundred_kills_lose_no_acknowledged_event() {
    let folder = Folder::with_log();
    let acked: Arc<Mutex<HashSet<String>>> = Arc::default();
    let numbers = Arc::new(AtomicU64::new(0));
    for round in 0..KILLS {
        let service = folder.start();
        let stop = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let (acked, numbers, stop) = (acked.clone(), numbers.clone(), stop.clone());
                let to = service.ingest;
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let number = numbers.fetch_add(1, Ordering::Relaxed);
                        if let Some((200, answer)) = send(to, &body(number))
                            && let Some(id) = answer["id"].as_str()
                        {
                            acked.lock().expect("plain insert").insert(id.to_owned());
                        }
                    }
                })
            })
            .collect();
        // The moment is random enough: the machine's own noise decides it.
        std::thread::sleep(Duration::from_millis(u64::from(20 + (round * 37) % 130)));
        service.kill();
        stop.store(true, Ordering::Relaxed);
        for sender in senders {
            sender.join().expect("a sender does not panic");
        }
    }
    let service = folder.start();
    let acked = acked.lock().expect("plain read").clone();
    assert!(
        acked.len() > 1000,
        "too little load to prove anything: {}",
        acked.len()
    );
    wait_for("every acknowledged event is delivered", || {
        let delivered: HashSet<String> = folder.logged().into_iter().collect();
        acked.is_subset(&delivered).then_some(())
    });
    wait_for("nothing is left unfinished", || {
        let (_, metrics) = service.get("/metrics");
        let idle = |name: &str| metrics.contains(&format!("{name}{{handler=\"audit\"}} 0\n"));
        (idle("ims_receiver_pending_deliveries") && idle("ims_receiver_dead_deliveries"))
            .then_some(())
    });
    for id in acked.iter().take(50) {
        assert_eq!(service.event(id)["deliveries"][0]["status"], "succeeded");
    }
}
