//! What the callback endpoint answered in each minute of the last day, for
//! people to look at: how many, how fast.
//!
//! Bounded memory, and a few relaxed additions for each answer: Prometheus keeps
//! the history of those who have one; this is for those who look right now.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use Ordering::{Acquire, Relaxed, Release};

/// How far back it remembers.
pub const MINUTES: usize = 24 * 60;

/// Latencies are told apart from this on, in microseconds; shorter ones are
/// one bucket.
const MICROS_MIN: u64 = 1 << MICROS_MIN_BITS;
const MICROS_MIN_BITS: u32 = 7;
/// Each doubling is cut into this many buckets: a bucket's middle is at most
/// about 3 % away from anything in it.
const STEPS: u64 = 1 << STEP_BITS;
const STEP_BITS: u32 = 4;
/// 17 doublings reach from 128 µs to 16 s; what takes longer is in the last.
const BUCKETS: usize = 1 + 17 * STEPS as usize;

/// What was answered, minute by minute.
pub struct Activity {
    minutes: Box<[Minute]>,
    /// Held while a minute's place is emptied for the next one.
    turning: Mutex<()>,
}

/// One minute's place, used again every [`MINUTES`].
struct Minute {
    /// Minutes since the epoch, counted from 1; 0 is none yet.
    number: AtomicI64,
    acked: AtomicU64,
    refused: AtomicU64,
    unavailable: AtomicU64,
    micros_max: AtomicU64,
    /// Made at the first latency of this place: a day of them is 1.6 MB.
    buckets: OnceLock<Box<[AtomicU32]>>,
}

/// What an answer of the callback endpoint was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// 200: the event is on disk.
    Acked,
    /// The sender was turned away.
    Refused,
    /// 503: the sender has to come again.
    Unavailable,
}

/// What was answered in one minute.
#[derive(Debug, Clone, PartialEq)]
pub struct MinuteActivity {
    /// When the minute began.
    pub minute: Timestamp,
    /// Requests answered with 200.
    pub acked: u64,
    /// Requests turned away because of their sender.
    pub refused: u64,
    /// Requests answered with 503.
    pub unavailable: u64,
    /// The latency of verified requests that half of them kept; `None` where
    /// there was none.
    pub p50: Option<Duration>,
    /// The latency that 99 % of them kept.
    pub p99: Option<Duration>,
    /// The longest.
    pub max: Option<Duration>,
}

impl Activity {
    /// Nothing answered yet.
    pub fn new() -> Self {
        Self {
            minutes: (0..MINUTES).map(|_| Minute::new()).collect(),
            turning: Mutex::new(()),
        }
    }

    /// Counts an answer.
    pub fn count(&self, now: Timestamp, answered: Answered) {
        let minute = self.minute(now);
        let counter = match answered {
            Answered::Acked => &minute.acked,
            Answered::Refused => &minute.refused,
            Answered::Unavailable => &minute.unavailable,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Notes how long a verified request took, from the end of its head to its
    /// answer.
    pub fn observe(&self, now: Timestamp, took: Duration) {
        let minute = self.minute(now);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        minute.buckets()[bucket(micros)].fetch_add(1, Relaxed);
        minute.micros_max.fetch_max(micros, Relaxed);
    }

    /// The last `minutes`, the current one last; at most `MINUTES`.
    pub fn last(&self, now: Timestamp, minutes: usize) -> Vec<MinuteActivity> {
        let current = number(now);
        let minutes = i64::try_from(minutes.min(MINUTES)).unwrap_or(0);
        (current - minutes + 1..=current)
            .map(|number| self.place(number).read(number))
            .collect()
    }

    fn place(&self, number: i64) -> &Minute {
        let at = number.rem_euclid(MINUTES as i64);
        &self.minutes[usize::try_from(at).unwrap_or(0)]
    }

    /// The place of the minute that `now` is in.
    fn minute(&self, now: Timestamp) -> &Minute {
        let number = number(now);
        let minute = self.place(number);
        if minute.number.load(Acquire) != number {
            // Only the first answer of a minute comes here; one that raced
            // ahead of the clock by a day would too, and loses its count.
            let _turning = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
            if minute.number.load(Relaxed) != number {
                minute.clear();
                minute.number.store(number, Release);
            }
        }
        minute
    }
}

impl Default for Activity {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Activity")
    }
}

impl Minute {
    fn new() -> Self {
        Self {
            number: AtomicI64::new(0),
            acked: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unavailable: AtomicU64::new(0),
            micros_max: AtomicU64::new(0),
            buckets: OnceLock::new(),
        }
    }

    fn buckets(&self) -> &[AtomicU32] {
        let made = || (0..BUCKETS).map(|_| AtomicU32::new(0)).collect();
        self.buckets.get_or_init(made)
    }

    fn clear(&self) {
        for counter in [
            &self.acked,
            &self.refused,
            &self.unavailable,
            &self.micros_max,
        ] {
            counter.store(0, Relaxed);
        }
        for bucket in self.buckets.get().into_iter().flatten() {
            bucket.store(0, Relaxed);
        }
    }

    fn read(&self, number: i64) -> MinuteActivity {
        let mut activity = MinuteActivity {
            minute: Timestamp::from_second((number - 1) * 60).unwrap_or_default(),
            acked: 0,
            refused: 0,
            unavailable: 0,
            p50: None,
            p99: None,
            max: None,
        };
        if self.number.load(Acquire) != number {
            return activity;
        }
        activity.acked = self.acked.load(Relaxed);
        activity.refused = self.refused.load(Relaxed);
        activity.unavailable = self.unavailable.load(Relaxed);
        let counts: Vec<u64> = self
            .buckets
            .get()
            .into_iter()
            .flatten()
            .map(|bucket| u64::from(bucket.load(Relaxed)))
            .collect();
        let observed: u64 = counts.iter().sum();
        if observed > 0 {
            let max = self.micros_max.load(Relaxed);
            let quantile = |percent: u64| {
                let rank = (observed * percent).div_ceil(100).max(1);
                Duration::from_micros(middle_of_rank(&counts, rank).min(max))
            };
            activity.p50 = Some(quantile(50));
            activity.p99 = Some(quantile(99));
            activity.max = Some(Duration::from_micros(max));
        }
        activity
    }
}

/// Minutes since the epoch, counted from 1.
fn number(now: Timestamp) -> i64 {
    now.as_second().div_euclid(60) + 1
}

/// The bucket of a latency.
fn bucket(micros: u64) -> usize {
    if micros < MICROS_MIN {
        return 0;
    }
    let octave = micros.ilog2();
    let step = (micros >> (octave - STEP_BITS)) & (STEPS - 1);
    let at = 1 + u64::from(octave - MICROS_MIN_BITS) * STEPS + step;
    usize::try_from(at).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The middle of a bucket, in microseconds.
fn middle(bucket: usize) -> u64 {
    let Some(at) = (bucket as u64).checked_sub(1) else {
        return MICROS_MIN / 2;
    };
    let (octave, step) = (at / STEPS, at % STEPS);
    let width = (MICROS_MIN << octave) / STEPS;
    (MICROS_MIN << octave) + step * width + width / 2
}

/// The middle of the bucket that holds the observation of this rank.
fn middle_of_rank(counts: &[u64], rank: u64) -> u64 {
    let mut seen = 0;
    let holds = counts.iter().position(|count| {
        seen += count;
        seen >= rank
    });
    middle(holds.unwrap_or(BUCKETS - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_middle_is_near_everything_in_its_bucket() {
        for micros in (MICROS_MIN..20_000).chain((20_000..16_000_000).step_by(997)) {
            let found = middle(bucket(micros));
            let off = found.abs_diff(micros) as f64 / micros as f64;
            assert!(off < 0.035, "{micros} µs is told as {found}");
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket(16_000_000), BUCKETS - 2, "16 s has its own bucket");
    }

    #[test]
    fn quantiles_are_told_within_five_percent() {
        let activity = Activity::new();
        for millis in 1..=1_000 {
            activity.observe(at(60), Duration::from_millis(millis));
            activity.count(at(60), Answered::Acked);
        }
        activity.count(at(60), Answered::Unavailable);
        activity.count(at(119), Answered::Refused);
        let told = activity.last(at(119), 1).remove(0);
        assert_eq!(told.minute, at(60));
        assert_eq!((told.acked, told.refused, told.unavailable), (1_000, 1, 1));
        for (found, expected) in [(told.p50, 0.5), (told.p99, 0.99), (told.max, 1.0)] {
            let found = found.unwrap().as_secs_f64();
            assert!((found / expected - 1.0).abs() < 0.05, "{found}");
        }
        assert_eq!(told.max, Some(Duration::from_secs(1)), "exactly");
    }

    #[test]
    fn a_place_is_empty_when_its_turn_comes_again() {
        let activity = Activity::new();
        activity.count(at(0), Answered::Acked);
        activity.observe(at(0), Duration::from_secs(2));
        let day = 24 * 60 * 60;
        let before = activity.last(at(day - 60), MINUTES);
        assert_eq!(before.len(), MINUTES);
        assert_eq!(before[0].acked, 1, "the oldest minute is still there");
        assert_eq!(activity.last(at(day), 2)[1].acked, 0, "not this minute's");
        activity.count(at(day), Answered::Acked);
        let told = activity.last(at(day), MINUTES + 5);
        assert_eq!(told.len(), MINUTES);
        let last = told.last().unwrap();
        assert_eq!((last.minute, last.acked, last.max), (at(day), 1, None));
        assert!(told[..MINUTES - 1].iter().all(|minute| minute.acked == 0));
    }

    #[test]
    fn nothing_is_lost_among_threads() {
        let activity = Activity::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        activity.count(at(60), Answered::Acked);
                    }
                });
            }
        });
        assert_eq!(activity.last(at(60), 1)[0].acked, 40_000);
    }
}
