//! When a failed attempt is repeated. Pure: time and chance are arguments.

use std::time::Duration;

use jiff::Timestamp;

use crate::delivery::{Delivery, Reason, Verdict};
use crate::handler::Retry;

/// The `retry` of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The first step of the back-off.
    pub initial: Duration,
    /// The largest step, and the longest `Retry-After` that is honoured.
    pub max: Duration,
    /// How old a delivery may get before a failed attempt is its last.
    pub max_age: Duration,
    /// How many attempts of a round may fail; not limited by default.
    pub attempts: Option<u32>,
}

impl RetryPolicy {
    /// The step after `failed` failed attempts: `initial`, doubled with each
    /// further failure, up to `max`.
    pub fn step(&self, failed: u32) -> Duration {
        let doublings = failed.saturating_sub(1).min(63);
        let millis = self.initial.as_millis().saturating_mul(1 << doublings);
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        Duration::from_millis(millis).min(self.max)
    }

    /// The wait after `failed` failed attempts: between half and the whole of
    /// the step, as `chance` (0 up to 1) has it, so that what failed together
    /// does not come back together.
    pub fn wait(&self, failed: u32, chance: f64) -> Duration {
        let step = self.step(failed);
        step / 2 + (step / 2).mul_f64(chance.clamp(0.0, 1.0))
    }

    /// What becomes of `delivery`, whose attempt failed at `now`.
    pub fn after_failure(
        &self,
        delivery: &Delivery,
        retry: Retry,
        reason: Reason,
        now: Timestamp,
        chance: f64,
    ) -> (Verdict, Reason) {
        let failed = delivery.failed.saturating_add(1);
        if retry == Retry::Never {
            return (Verdict::Dead, reason);
        }
        if self.attempts.is_some_and(|attempts| failed >= attempts) {
            let reason = reason.and(&format!("retry.attempts ({failed}) used up"));
            return (Verdict::Dead, reason);
        }
        let age = now.duration_since(delivery.age_from);
        if Duration::try_from(age).is_ok_and(|age| age >= self.max_age) {
            let reason = reason.and("older than retry.max_age");
            return (Verdict::Dead, reason);
        }
        let wait = match retry {
            // Not at once, whatever the destination says: that would be a loop.
            Retry::After(asked) => asked.clamp((self.initial / 2).min(self.max), self.max),
            _ => self.wait(failed, chance),
        };
        let at = now.checked_add(wait).unwrap_or(Timestamp::MAX);
        (Verdict::RetryAt(at), reason)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::handler::testing;

    const POLICY: RetryPolicy = RetryPolicy {
        initial: Duration::from_secs(1),
        max: Duration::from_mins(15),
        max_age: Duration::from_hours(72),
        attempts: None,
    };

    #[test]
    fn the_step_doubles_up_to_its_limit() {
        let steps: Vec<u64> = (1..=12).map(|n| POLICY.step(n).as_secs()).collect();
        assert_eq!(steps, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        assert_eq!(POLICY.step(u32::MAX), Duration::from_mins(15));
    }

    #[test]
    fn a_dead_delivery_says_why_however_long_its_last_failure_is() {
        let failure = Reason::new("ü".repeat(Reason::BYTES_MAX));
        let delivery = testing::delivery(b"{}");
        let later = delivery.age_from + POLICY.max_age;
        let (verdict, reason) =
            POLICY.after_failure(&delivery, Retry::WithBackoff, failure.clone(), later, 0.5);
        assert_eq!(verdict, Verdict::Dead);
        assert!(
            reason.as_str().ends_with("ü; older than retry.max_age"),
            "{reason}"
        );
        assert!(reason.as_str().len() <= Reason::BYTES_MAX);
        let policy = RetryPolicy {
            attempts: Some(3),
            ..POLICY
        };
        let now = delivery.age_from;
        let (verdict, reason) =
            policy.after_failure(&delivery, Retry::WithBackoff, failure, now, 0.5);
        assert_eq!(verdict, Verdict::Dead);
        assert!(
            reason.as_str().ends_with("ü; retry.attempts (3) used up"),
            "{reason}"
        );
    }

    proptest! {
        #[test]
        fn a_wait_is_bounded_by_its_step(failed in 1u32.., chance in 0.0f64..1.0) {
            let step = POLICY.step(failed);
            let wait = POLICY.wait(failed, chance);
            prop_assert!(wait >= step / 2 && wait <= step);
        }

        #[test]
        fn steps_never_shrink(failed in 1u32..1000) {
            prop_assert!(POLICY.step(failed + 1) >= POLICY.step(failed));
        }
    }
}
