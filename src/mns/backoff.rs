//! How long to wait before the next poll. Pure: chance is an argument.

use std::time::Duration;

/// Failures that pass by themselves: the first step, which doubles …
const PATIENCE_FIRST: Duration = Duration::from_millis(500);
/// … and empty answers that came too early, a cap on long polls being reached.
const EARLY_FIRST: Duration = Duration::from_secs(1);
/// No wait of either kind is longer.
const STEP_MAX: Duration = Duration::from_secs(30);
/// No wait after a failure is shorter, however chance has it.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// Where somebody has to change something first.
const SLOW: Duration = Duration::from_secs(30);

/// Counts what happened in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    early: u32,
}

impl Backoff {
    /// A message came, or an empty answer after the whole wait.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// How many polls in a row have failed.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// The wait after a failure that passes by itself.
    pub(super) fn after_failure(&mut self, chance: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let step = step(PATIENCE_FIRST, self.failures);
        step.mul_f64(chance.clamp(0.0, 1.0)).max(WAIT_MIN)
    }

    /// The wait after a failure that somebody has to mend.
    pub(super) fn after_refusal(&mut self, chance: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        SLOW + (SLOW / 2).mul_f64(chance.clamp(0.0, 1.0))
    }

    /// The wait after an empty answer that came much too early.
    pub(super) fn after_early_empty(&mut self, chance: f64) -> Duration {
        self.failures = 0;
        self.early = self.early.saturating_add(1);
        let step = step(EARLY_FIRST, self.early);
        step / 2 + (step / 2).mul_f64(chance.clamp(0.0, 1.0))
    }
}

fn step(first: Duration, times: u32) -> Duration {
    let doublings = times.saturating_sub(1).min(16);
    (first * (1 << doublings)).min(STEP_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_their_limit_and_begin_again() {
        let mut backoff = Backoff::default();
        let waits: Vec<f64> = (0..9)
            .map(|_| backoff.after_failure(1.0).as_secs_f64())
            .collect();
        assert_eq!(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
        assert_eq!(backoff.failures(), 9);
        backoff.reset();
        assert_eq!(backoff.after_failure(0.0), WAIT_MIN);
        let early: Vec<u64> = (0..7)
            .map(|_| backoff.after_early_empty(1.0).as_secs())
            .collect();
        assert_eq!(early, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.after_early_empty(0.0).as_secs(), 15);
        assert_eq!(backoff.after_refusal(0.0).as_secs(), 30);
        assert_eq!(backoff.after_refusal(1.0).as_secs(), 45);
    }
}
