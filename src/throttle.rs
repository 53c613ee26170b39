//! Keeps what others can trigger, a stranger's flood or a dead destination,
//! from burying everything else in the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets a number of lines through in each span of time and counts the rest.
#[derive(Debug)]
pub struct Throttle {
    lines_max: u32,
    span: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    began: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl Throttle {
    /// Lets `lines_max` lines through in each `span`.
    pub fn new(lines_max: u32, span: Duration) -> Self {
        Self {
            lines_max,
            span,
            state: Mutex::default(),
        }
    }

    /// Whether there is room for a line at `now`, and how many had none since
    /// the line before it.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.began.is_none_or(|began| now >= began + self.span) {
            state.began = Some(now);
            state.lines = 0;
        }
        if state.lines >= self.lines_max {
            state.suppressed += 1;
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_lines_in_a_span_and_the_rest_counted() {
        let span = Duration::from_secs(1);
        let throttle = Throttle::new(10, span);
        let start = Instant::now();
        for _ in 0..10 {
            assert_eq!(throttle.admit(start), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(throttle.admit(start + span / 2), None);
        }
        assert_eq!(throttle.admit(start + span), Some(7));
        assert_eq!(throttle.admit(start + span), Some(0));
    }
}
