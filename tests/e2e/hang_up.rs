//! Clients that are gone before their answer comes.

use std::collections::HashSet;
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};

use crate::destination::{Answer, Destination};
use crate::harness::{Folder, body, signed, wait_for};

const CLIENTS: u64 = 200;

#[test]
fn what_was_sent_whole_is_handled_once_whoever_waits_for_the_answer() {
    let destination = Destination::start(|_| Answer::status(200));
    let folder = Folder::new(&format!(
        "[handlers.cms]\nkind = \"forward\"\nurl = \"http://{}/\"\n",
        destination.address
    ));
    let service = folder.start();
    let mut kept = Vec::new();
    for number in 0..CLIENTS {
        let mut client = TcpStream::connect(service.ingest).expect("a connection");
        let request = signed(&body(number));
        // Some leave their last byte for a packet of its own.
        let cut = request.len() - usize::from(number % 3 == 0);
        client.write_all(&request[..cut]).expect("it is read");
        client.write_all(&request[cut..]).expect("it is read");
        match number % 2 {
            0 => drop(client),
            _ => {
                client.shutdown(Shutdown::Write).expect("it is open");
                kept.push(client);
            }
        }
    }
    wait_for("every event is handed over", || {
        (destination.answered().len() as u64 == CLIENTS).then_some(())
    });
    let received = destination.received();
    assert_eq!(received.len() as u64, CLIENTS, "each of them once");
    let bodies: HashSet<_> = received.iter().map(|one| one.body.clone()).collect();
    for number in 0..CLIENTS {
        assert!(bodies.contains(body(number).as_bytes()), "event {number}");
    }
    for one in &received {
        let event = service.succeeded(one.id());
        assert_eq!(event["deliveries"][0]["attempts"], 1, "{event:#}");
    }
    service.signal("-TERM");
    assert_eq!(service.wait(), Some(0));
    assert_eq!(folder.start().taken_over(), 0, "nothing stayed running");
}
