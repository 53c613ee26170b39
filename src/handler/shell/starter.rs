//! The thread that starts commands.
//!
//! Whoever starts a process waits until the new program is in place: too long
//! for the threads that answer callbacks. And a process inherits its priority
//! from the thread that starts it. This one has a lower priority than the rest
//! of the service, and so do the commands: however many there are, and however
//! hard they work, they only get the time that answering leaves them.

use std::io;
use std::sync::mpsc;

use rustix::process::{getpriority_process, setpriority_process};
use tokio::process::Command;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::process::Running;

/// How much nicer commands are than the service; it gets about ten times
/// their share of a processor that both want.
const NICER_BY: i32 = 10;

/// The nicest there is.
const NICE_MAX: i32 = 19;

/// Starts the commands of one handler, one after the other.
#[derive(Debug)]
pub(super) struct Starter {
    // Unbounded by type, bounded by the handler's concurrency: an order that
    // nobody waits for any more is skipped.
    orders: mpsc::Sender<Order>,
}

struct Order {
    command: Command,
    runtime: Handle,
    started: oneshot::Sender<io::Result<Running>>,
}

impl Starter {
    /// Starts the thread; it ends with the starter.
    ///
    /// # Errors
    /// Where the system allows no further thread.
    pub(super) fn new() -> io::Result<Self> {
        let (orders, taken) = mpsc::channel();
        std::thread::Builder::new()
            .name("shell-start".to_owned())
            .spawn(move || work(&taken))?;
        Ok(Self { orders })
    }

    /// Starts `command`, whose three streams are pipes and which leads a
    /// process group. Dropping what comes back, or this future, kills the group.
    ///
    /// # Errors
    /// What the system says.
    pub(super) async fn start(&self, command: Command) -> io::Result<Running> {
        let (started, running) = oneshot::channel();
        let order = Order {
            command,
            runtime: Handle::current(),
            started,
        };
        let gone = || io::Error::other("the thread that starts commands has ended");
        self.orders.send(order).map_err(|_| gone())?;
        running.await.map_err(|_| gone())?
    }
}

fn work(orders: &mpsc::Receiver<Order>) {
    // Where it is not to be had, commands compete with the service.
    if let Ok(nice) = getpriority_process(None) {
        let _ = setpriority_process(None, (nice + NICER_BY).min(NICE_MAX));
    }
    for mut order in orders {
        if order.started.is_closed() {
            continue;
        }
        // What watches over the command belongs to the runtime.
        let _inside = order.runtime.enter();
        let running = order.command.spawn().map(Running::new);
        // Not wanted any more: dropping it kills it.
        let _ = order.started.send(running);
    }
}
