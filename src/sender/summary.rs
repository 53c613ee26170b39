//! What became of many events, for people.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::latency::Latencies;
use super::{SendOutcome, TRIES};

/// Different failures that are told apart; further ones count as "other".
const FAILURES_MAX: usize = 16;

/// What became of the events of one [`send_many`](super::Sender::send_many).
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Acknowledged events by the try that did it: first, second, third.
    pub acked_by_try: [u64; TRIES],
    /// Acknowledged events that the receiver knew already.
    pub duplicates: u64,
    /// Events that no try could deliver.
    pub lost: u64,
    /// How often which failure was seen, over all tries.
    pub failures: BTreeMap<String, u64>,
    /// The times from the start of the successful try to its 200.
    pub latencies: Latencies,
    /// How late an event was against `rate` at the most: the sender's own
    /// slowness, or `concurrency` used up by a slow receiver.
    pub behind: Duration,
    /// From the first send to the last answer.
    pub elapsed: Duration,
}

impl Summary {
    /// Acknowledged events.
    pub fn acked(&self) -> u64 {
        self.acked_by_try.iter().sum()
    }

    /// Events that were sent, acknowledged or not.
    pub fn sent(&self) -> u64 {
        self.acked() + self.lost
    }

    /// Adds one event.
    pub fn add(&mut self, outcome: &SendOutcome) {
        for failure in &outcome.failures {
            let mut name = failure.to_string();
            if self.failures.len() >= FAILURES_MAX && !self.failures.contains_key(&name) {
                "other".clone_into(&mut name);
            }
            *self.failures.entry(name).or_default() += 1;
        }
        if outcome.acked {
            self.acked_by_try[outcome.failures.len().min(TRIES - 1)] += 1;
            self.duplicates += u64::from(outcome.duplicate());
            self.latencies.record(outcome.latency);
        } else {
            self.lost += 1;
        }
    }
}

/// Several lines, of which the first two are always there.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third] = self.acked_by_try;
        write!(
            f,
            "acked {} (first try {first}, second {second}, third {third}), lost {}",
            self.acked(),
            self.lost
        )?;
        if self.duplicates > 0 {
            write!(f, ", known already {}", self.duplicates)?;
        }
        let [p50, p99] = [0.5, 0.99].map(|q| Millis(self.latencies.quantile(q)));
        let max = Millis(self.latencies.max());
        write!(f, "\nack p50 {p50}, p99 {p99}, max {max}")?;
        for (failure, count) in &self.failures {
            write!(f, "\nfailed tries: {count} x {failure}")?;
        }
        Ok(())
    }
}

/// A time in milliseconds, to the microsecond.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ms", self.0.as_secs_f64() * 1e3)
    }
}
