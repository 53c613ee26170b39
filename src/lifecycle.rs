//! What the system holds over the process: signals, which ask it to end or
//! only to look again, and the number of files it may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

/// Descriptors that are kept for all but the public listener's connections:
/// the store, the admin listener, and what handlers open.
const DESCRIPTORS_BESIDE: u64 = 1024;

/// The signals that the service listens for.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reopen,
}

impl Signals {
    /// Listens from now on. SIGHUP never ends the process any more.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn listen() -> std::io::Result<Self> {
        // Whoever started us may ignore SIGCHLD, and so would we: then nobody
        // could say how a command ended. Listening once is enough.
        drop(signal(SignalKind::child())?);
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reopen,
        }
    }
}

/// How many of `connections` the process may have open at once.
///
/// The limit is raised as far as that needs and the system lets it: many
/// services are started with room for 1024 files, and without a free
/// descriptor neither the store nor a handler can work, and nobody can be
/// asked to make room.
pub fn room_for(connections: usize) -> usize {
    let needed = (connections as u64).saturating_add(DESCRIPTORS_BESIDE);
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    let mut open_max = limit.current.unwrap_or(u64::MAX);
    if open_max < needed.min(most) {
        let raised = Rlimit {
            current: Some(needed.min(most)),
            maximum: limit.maximum,
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            open_max = needed.min(most);
        }
    }
    let beside = DESCRIPTORS_BESIDE.min(open_max / 2);
    let room = usize::try_from(open_max - beside).unwrap_or(usize::MAX);
    if room < connections {
        warn!(
            open_files_max = open_max,
            connections_max = room,
            "server.connections_max is more than the limit of open files allows and is lowered: raise that limit (`ulimit -n`, LimitNOFILE)"
        );
    }
    connections.min(room)
}
