//! What one connection is doing, and until when it may.
//!
//! [`Connection`] is shared by the task that serves it, its requests, and the
//! accept loop that may have to close it. It holds no timer: it is asked when
//! the connection is due, so that a request costs a few relaxed stores and no
//! timer is moved for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::accept::ConnectionLimits;
use super::frames::Heads;

/// How long a peer may take nothing of what it asked for.
pub(super) const WRITE_STALL_MAX: Duration = Duration::from_secs(10);

/// One accepted connection.
#[derive(Debug)]
pub struct Connection {
    peer: SocketAddr,
    accepted: Instant,
    /// What the moments below are counted from; the same for all connections
    /// of a listener, so that they can be compared.
    epoch: Instant,
    /// When the head began that has not ended yet.
    head_since: Moment,
    /// When the last request was answered.
    idle_since: Moment,
    /// Since when the peer takes no bytes.
    blocked_since: Moment,
    /// Answers that the windows of an HTTP/2 peer hold back, and when it last
    /// took one or began to hold them back.
    untaken: AtomicU32,
    untaken_since: Moment,
    /// When the last verified request was answered.
    verified: Moment,
    /// Whether any head ended yet.
    head_seen: AtomicBool,
    /// Requests between the end of their head and their answer.
    in_flight: AtomicU32,
    /// Those of them whose sender was proved.
    working: AtomicU32,
    /// Answers that go on for as long as there is something to say.
    streams: AtomicU32,
    /// An answer was sent before the body was through.
    answered_early: AtomicBool,
    evicted: AtomicBool,
    closing: AtomicBool,
    signal: Notify,
}

impl Connection {
    pub(super) fn new(peer: SocketAddr, accepted: Instant, epoch: Instant) -> Self {
        Self {
            peer,
            accepted,
            epoch,
            head_since: Moment::default(),
            idle_since: Moment::default(),
            blocked_since: Moment::default(),
            untaken: AtomicU32::new(0),
            untaken_since: Moment::default(),
            verified: Moment::default(),
            head_seen: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
            working: AtomicU32::new(0),
            streams: AtomicU32::new(0),
            answered_early: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            signal: Notify::new(),
        }
    }

    /// The other end of the connection.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// When it was accepted.
    pub(super) fn accepted(&self) -> Instant {
        self.accepted
    }

    /// Notes that a request's sender was proved. Until the guard is dropped
    /// the connection is never closed to make room for another one.
    pub fn working(self: &Arc<Self>) -> Working {
        self.working.fetch_add(1, Relaxed);
        Working(Arc::clone(self))
    }

    /// Notes an answer that goes on for as long as there is something to say,
    /// and is nobody's to make room with. Until the guard is dropped the
    /// connection is not idle, and its peer has to take what comes, but may
    /// take as long as it lasts.
    pub fn streaming(self: &Arc<Self>) -> Streaming {
        self.streams.fetch_add(1, Relaxed);
        Streaming {
            _busy: self.begin_request(),
            working: self.working(),
        }
    }

    /// Notes that an answer goes out while the body may still come: when the
    /// connection closes, what comes is thrown away for a moment, so that the
    /// peer gets to read the answer.
    pub fn answered_early(&self) {
        self.answered_early.store(true, Relaxed);
    }

    /// Notes the end of a request's head; the guard is dropped at its answer.
    pub(super) fn begin_request(self: &Arc<Self>) -> Busy {
        self.in_flight.fetch_add(1, Relaxed);
        self.head_seen.store(true, Relaxed);
        Busy(Arc::clone(self))
    }

    /// Notes bytes that were read, and what they told of heads.
    pub(super) fn note_heads(&self, heads: Heads) {
        if heads.ended {
            self.head_since.clear();
        }
        if heads.open {
            self.head_since.set_once(self.now());
        }
    }

    /// Notes an HTTP/2 answer; the guard is dropped when the peer's windows
    /// have let it go.
    pub(super) fn hold_answer(self: &Arc<Self>) -> Untaken {
        if self.untaken.fetch_add(1, Relaxed) == 0 {
            self.untaken_since.set(self.now());
        }
        Untaken(Arc::clone(self))
    }

    /// Notes that the peer takes no bytes, or takes them again.
    pub(super) fn note_write(&self, blocked: bool) {
        if blocked {
            self.blocked_since.set_once(self.now());
        } else if self.blocked_since.get().is_some() {
            self.blocked_since.clear();
        }
    }

    /// When this connection has to be looked at again, or why it is over now.
    ///
    /// Never later than the shortest deadline from `now`: a deadline that
    /// begins after this call is then seen in time without moving the timer.
    pub(super) fn due(&self, limits: &ConnectionLimits, now: Instant) -> Due {
        let latest = now + limits.shortest();
        match self.deadline(limits) {
            Some((end, over)) if end <= now => Due::Over(over),
            Some((end, _)) => Due::At(end.min(latest)),
            None => Due::At(latest),
        }
    }

    fn deadline(&self, limits: &ConnectionLimits) -> Option<(Instant, Over)> {
        let asked = self.asking_deadline(limits);
        let taken = self.taking_deadline(limits);
        asked.into_iter().chain(taken).min_by_key(|(end, _)| *end)
    }

    /// Until when it has to ask for something.
    fn asking_deadline(&self, limits: &ConnectionLimits) -> Option<(Instant, Over)> {
        let answered = self.last_answer();
        if !self.head_seen.load(Relaxed) {
            Some((self.accepted + limits.head_deadline, Over::Head))
        } else if self.has_requests() {
            // The answer has a deadline of its own. No head can go on for ever
            // beside it: HTTP/1 reads none, and an unfinished HTTP/2 head
            // keeps every other frame out, so that nothing is in flight soon.
            None
        } else if let Some(since) = self.head_since.get() {
            // What came before the answer was not looked at until then.
            let since = self.instant(since).max(answered);
            Some((since + limits.head_deadline, Over::Head))
        } else {
            Some((answered + limits.keep_alive, Over::Idle))
        }
    }

    /// Until when it has to take what it asked for.
    fn taking_deadline(&self, limits: &ConnectionLimits) -> Option<(Instant, Over)> {
        let untaken = self.untaken.load(Relaxed) > 0;
        let untaken = self.untaken_since.get().filter(|_| untaken);
        let blocked = self.blocked_since.get();
        let since = blocked.into_iter().chain(untaken).min()?;
        let mut end = self.instant(since) + WRITE_STALL_MAX;
        if self.streams.load(Relaxed) == 0 {
            // Who takes a little now and then gets no more time in all than
            // who asks for nothing.
            end = end.min(self.last_answer() + limits.keep_alive);
        }
        Some((end, Over::Stalled))
    }

    /// How long it has waited without a verified request: connections that
    /// never had one come first, then the longest wait. `None` while a
    /// verified request is at work, or when it is being closed already.
    pub(super) fn eviction_rank(&self) -> Option<(bool, u64)> {
        if self.working.load(Relaxed) > 0
            || self.evicted.load(Relaxed)
            || self.closing.load(Relaxed)
        {
            return None;
        }
        let since = |instant: Instant| instant.duration_since(self.epoch).as_micros();
        Some(match self.verified.get() {
            None => (
                false,
                u64::try_from(since(self.accepted)).unwrap_or(u64::MAX),
            ),
            Some(verified) => (true, verified),
        })
    }

    /// Asks its task to close it at once, unless it has got work meanwhile.
    pub(super) fn evict(&self) {
        self.evicted.store(true, Relaxed);
        self.signal.notify_one();
    }

    /// Whether it was asked to make room and still may. Called by its own
    /// task, which is also the one that begins requests.
    pub(super) fn must_make_room(&self) -> bool {
        self.evicted.load(Relaxed) && {
            let free = self.working.load(Relaxed) == 0;
            self.evicted.store(free, Relaxed);
            free
        }
    }

    /// Asks its task to finish what was read and close it.
    pub(super) fn close(&self) {
        self.closing.store(true, Relaxed);
        self.signal.notify_one();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    pub(super) fn has_requests(&self) -> bool {
        self.in_flight.load(Relaxed) > 0
    }

    /// When the last request was answered; the accept where none was.
    pub(super) fn last_answer(&self) -> Instant {
        let answered = self.idle_since.get();
        answered.map_or(self.accepted, |since| self.instant(since))
    }

    pub(super) fn has_answered_early(&self) -> bool {
        self.answered_early.load(Relaxed)
    }

    /// Resolves when its task should look at it again.
    pub(super) async fn signalled(&self) {
        self.signal.notified().await;
    }

    fn instant(&self, moment: u64) -> Instant {
        self.epoch + Duration::from_micros(moment)
    }

    fn now(&self) -> u64 {
        let micros = self.epoch.elapsed().as_micros();
        u64::try_from(micros).unwrap_or(u64::MAX)
    }
}

/// Whether a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Look at it again then.
    At(Instant),
    /// A deadline has passed.
    Over(Over),
}

/// Which deadline a connection missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// No head in `head_deadline`.
    Head,
    /// No request in `keep_alive`.
    Idle,
    /// Nothing of an answer taken in [`WRITE_STALL_MAX`], or not all of them
    /// in `keep_alive`.
    Stalled,
}

/// A request between the end of its head and its answer.
#[derive(Debug)]
pub(super) struct Busy(Arc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        let connection = &self.0;
        connection.idle_since.set(connection.now());
        let last = connection.in_flight.fetch_sub(1, Relaxed) == 1;
        if last && connection.is_closing() {
            connection.signal.notify_one();
        }
    }
}

/// An answer that waits for the windows of an HTTP/2 peer.
#[derive(Debug)]
pub(super) struct Untaken(Arc<Connection>);

impl Drop for Untaken {
    fn drop(&mut self) {
        self.0.untaken_since.set(self.0.now());
        self.0.untaken.fetch_sub(1, Relaxed);
    }
}

/// A verified request at work.
#[derive(Debug)]
pub struct Working(Arc<Connection>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.verified.set(self.0.now());
        self.0.working.fetch_sub(1, Relaxed);
    }
}

/// An answer that goes on for as long as there is something to say.
#[derive(Debug)]
pub struct Streaming {
    _busy: Busy,
    working: Working,
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.working.0.streams.fetch_sub(1, Relaxed);
    }
}

/// A moment in microseconds after the epoch, or none.
#[derive(Debug, Default)]
struct Moment(AtomicU64);

impl Moment {
    fn get(&self) -> Option<u64> {
        self.0.load(Relaxed).checked_sub(1)
    }

    fn set(&self, moment: u64) {
        self.0.store(moment.saturating_add(1), Relaxed);
    }

    fn set_once(&self, moment: u64) {
        if self.get().is_none() {
            self.set(moment);
        }
    }

    fn clear(&self) {
        self.0.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(75);
    const LIMITS: ConnectionLimits = ConnectionLimits {
        head_deadline: HEAD,
        keep_alive: IDLE,
        connections_max: 8,
    };

    /// More than these tests take.
    const SLACK: Duration = Duration::from_secs(5);

    fn connection() -> (Arc<Connection>, Instant) {
        let start = Instant::now();
        let peer = "192.0.2.1:1".parse().unwrap();
        (Arc::new(Connection::new(peer, start, start)), start)
    }

    const OPEN: Heads = Heads {
        ended: false,
        open: true,
    };
    const ENDED: Heads = Heads {
        ended: true,
        open: false,
    };

    #[track_caller]
    fn is_soon_after(due: Due, expected: Instant) {
        let Due::At(at) = due else {
            panic!("{due:?}");
        };
        assert!((expected..expected + SLACK).contains(&at), "{due:?}");
    }

    #[test]
    fn the_first_head_has_its_time_from_the_accept() {
        let (connection, start) = connection();
        connection.note_heads(OPEN);
        let due = connection.due(&LIMITS, start + HEAD / 2);
        assert_eq!(due, Due::At(start + HEAD));
        let due = connection.due(&LIMITS, start + HEAD);
        assert_eq!(due, Due::Over(Over::Head));
    }

    #[test]
    fn a_later_head_has_its_time_from_its_first_byte() {
        let (connection, start) = connection();
        drop(connection.begin_request());
        assert_eq!(
            connection.due(&LIMITS, start),
            Due::At(start + HEAD),
            "looked at again before a head that begins now is over"
        );
        connection.note_heads(OPEN);
        is_soon_after(connection.due(&LIMITS, start + SLACK), start + HEAD);
        let due = connection.due(&LIMITS, start + HEAD + SLACK);
        assert_eq!(due, Due::Over(Over::Head));
        connection.note_heads(ENDED);
        let _busy = connection.begin_request();
        let later = start + HEAD + SLACK;
        let due = connection.due(&LIMITS, later);
        assert_eq!(
            due,
            Due::At(later + HEAD),
            "the answer has its own deadline"
        );
    }

    #[test]
    fn http2_control_frames_neither_keep_nor_kill() {
        let (connection, start) = connection();
        connection.note_heads(OPEN);
        drop(connection.begin_request());
        connection.note_heads(ENDED);
        let due = connection.due(&LIMITS, start + HEAD * 2);
        assert_eq!(due, Due::At(start + HEAD * 3), "still idle");
        let due = connection.due(&LIMITS, start + IDLE + SLACK);
        assert_eq!(due, Due::Over(Over::Idle));
    }

    #[test]
    fn a_peer_that_takes_no_bytes_is_over() {
        let (connection, start) = connection();
        let _busy = connection.begin_request();
        connection.note_write(true);
        let late = start + WRITE_STALL_MAX + SLACK;
        assert_eq!(connection.due(&LIMITS, late), Due::Over(Over::Stalled));
        connection.note_write(false);
        assert!(matches!(connection.due(&LIMITS, late), Due::At(_)));
        connection.note_write(true);
        let much_later = start + IDLE + SLACK;
        let due = connection.due(&LIMITS, much_later);
        assert_eq!(due, Due::Over(Over::Stalled), "a little now and then");
    }

    #[test]
    fn a_peer_whose_windows_stay_shut_is_over() {
        let (connection, start) = connection();
        drop(connection.begin_request());
        let (held, taken) = (connection.hold_answer(), connection.hold_answer());
        drop(taken);
        is_soon_after(connection.due(&LIMITS, start), start + WRITE_STALL_MAX);
        let late = start + WRITE_STALL_MAX + SLACK;
        assert_eq!(connection.due(&LIMITS, late), Due::Over(Over::Stalled));
        drop(held);
        assert!(matches!(connection.due(&LIMITS, late), Due::At(_)));
    }

    #[test]
    fn a_stream_lasts_while_its_peer_takes_it() {
        let (connection, start) = connection();
        let stream = connection.streaming();
        let late = start + IDLE * 10;
        assert!(matches!(connection.due(&LIMITS, late), Due::At(_)));
        assert_eq!(connection.eviction_rank(), None);
        connection.note_write(true);
        assert!(matches!(connection.due(&LIMITS, start), Due::At(_)));
        let stalled = start + WRITE_STALL_MAX + SLACK;
        assert_eq!(connection.due(&LIMITS, stalled), Due::Over(Over::Stalled));
        connection.note_write(false);
        drop(stream);
        assert_eq!(connection.due(&LIMITS, late), Due::Over(Over::Idle));
        assert!(connection.eviction_rank().is_some());
    }

    #[test]
    fn stalls_are_seen_in_time_where_other_deadlines_are_long() {
        let (connection, start) = connection();
        let limits = ConnectionLimits {
            head_deadline: IDLE,
            ..LIMITS
        };
        drop(connection.begin_request());
        let due = connection.due(&limits, start);
        assert_eq!(due, Due::At(start + WRITE_STALL_MAX));
    }

    #[test]
    fn room_is_made_by_those_without_a_verified_request() {
        let (never, start) = connection();
        let later = start + Duration::from_micros(1);
        let other = Arc::new(Connection::new(never.peer(), later, start));
        assert!(never.eviction_rank() < other.eviction_rank());

        let working = never.working();
        assert_eq!(never.eviction_rank(), None);
        never.evict();
        assert!(!never.must_make_room(), "it has got work meanwhile");
        drop(working);
        assert!(never.eviction_rank() > other.eviction_rank());
        never.evict();
        assert!(never.must_make_room());
    }
}
