//! One running command: its process group, its pipes, its end.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::output::Tail;

/// How long a process group may take to end after TERM.
const KILL_AFTER: Duration = Duration::from_secs(5);

/// How long the output of an ended command may stay open. Only a process that
/// it left behind still holds it then, and what the command itself wrote has
/// been read.
const OUTPUT_GRACE: Duration = Duration::from_millis(250);

/// How much longer than its timeout an attempt may take: TERM, KILL, the rest
/// of the output, and a machine that is slow with all of that.
pub(super) const OVERTIME: Duration = Duration::from_secs(10);

/// How often a group whose first process has ended is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A command that has started. Dropping it kills its process group.
pub(super) struct Running {
    // Dropped first: the number of the group is taken as long as the child has
    // not been waited for.
    group: Group,
    child: Child,
}

/// A command that has ended, and how.
#[derive(Debug)]
pub(super) struct Ran {
    /// Who asked it to end; `None` where it ended by itself.
    pub asked: Option<Asked>,
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    pub stdout: Tail,
    pub stderr: Tail,
    /// What was odd, one sentence each.
    pub remarks: Vec<String>,
}

/// Who asked a command to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    ByTimeout,
    ByStop,
}

/// How the first process ended.
struct Ending {
    status: ExitStatus,
    asked: Option<Asked>,
    killed: bool,
}

/// The process group of a command; killed when dropped before its end.
struct Group {
    id: Option<Pid>,
    ended: bool,
}

impl Running {
    /// `child` leads a process group, and its three streams are pipes.
    pub(super) fn new(child: Child) -> Self {
        Self {
            group: Group::led_by(&child),
            child,
        }
    }

    /// Feeds the command and reads what it writes until it has ended: by itself,
    /// or asked to at `deadline` or by `stop`.
    ///
    /// # Errors
    /// Where the system cannot say how it ended.
    pub(super) async fn finish(
        mut self,
        body: Bytes,
        deadline: Instant,
        stop: &CancellationToken,
    ) -> io::Result<Ran> {
        let feeding = self.child.stdin.take().map(|stdin| feed(stdin, body));
        let feeding = feeding.map(|feeding| AbortOnDropHandle::new(tokio::spawn(feeding)));
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let (mut out, mut err) = (Tail::default(), Tail::default());
        let reading = async {
            tokio::join!(out.read(stdout), err.read(stderr));
        };
        let (ending, held) = match select(pin!(self.end(deadline, stop)), pin!(reading)).await {
            Either::Left((ending, rest)) => (ending?, timeout(OUTPUT_GRACE, rest).await.is_err()),
            Either::Right(((), ending)) => (ending.await?, false),
        };
        drop(feeding);
        let mut remarks = Vec::new();
        if ending.killed {
            remarks.push(format!(
                "TERM was not enough, KILL followed after {KILL_AFTER:?}"
            ));
        }
        if held {
            let remark = "a process that the command left behind held its output open; what it wrote later is not kept";
            remarks.push(remark.to_owned());
        }
        Ok(Ran {
            asked: ending.asked,
            code: ending.status.code(),
            signal: ending.status.signal(),
            stdout: out,
            stderr: err,
            remarks,
        })
    }

    async fn end(&mut self, deadline: Instant, stop: &CancellationToken) -> io::Result<Ending> {
        let asked = tokio::select! {
            biased;
            status = self.child.wait() => {
                self.group.ended = true;
                return Ok(Ending { status: status?, asked: None, killed: false });
            }
            () = stop.cancelled() => Asked::ByStop,
            () = sleep_until(deadline) => Asked::ByTimeout,
        };
        self.group.signal(Signal::TERM);
        let killed = timeout(KILL_AFTER, self.all_gone()).await.is_err();
        if killed {
            self.group.signal(Signal::KILL);
        }
        let status = self.child.wait().await?;
        self.group.ended = true;
        Ok(Ending {
            status,
            asked: Some(asked),
            killed,
        })
    }

    /// Waits until no process of the group is left.
    async fn all_gone(&mut self) {
        // An error here comes back when the caller waits.
        let _ = self.child.wait().await;
        while !self.group.is_gone() {
            sleep(LOOK_AGAIN).await;
        }
    }
}

impl Group {
    fn led_by(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            id: id.and_then(Pid::from_raw),
            ended: false,
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // A group that has just ended, or has become another user's, gets none.
            let _ = kill_process_group(id, signal);
        }
    }

    fn is_gone(&self) -> bool {
        self.id
            .is_none_or(|id| test_kill_process_group(id) == Err(Errno::SRCH))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.ended {
            self.signal(Signal::KILL);
        }
    }
}

/// Gives `body` to the command, as fast as it reads. One that does not want it
/// may leave.
async fn feed(mut stdin: ChildStdin, body: Bytes) {
    let _ = stdin.write_all(&body).await;
}
