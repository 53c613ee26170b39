//! Signals: what asks the service to end, and what only asks it to look again.

use tokio::signal::unix::{Signal, SignalKind, signal};

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
