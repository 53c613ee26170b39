//! Wrong tokens are answered slowly, so that guessing takes its time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::server::error::Rejection;

/// This many wrong tokens in each [`SPAN`] are answered at once: people
/// mistype, and a program with an old token is told so.
const FREE: u32 = 5;
const SPAN: Duration = Duration::from_secs(60);
/// How long each of the others waits for its answer.
const DELAY: Duration = Duration::from_secs(1);
/// How many may wait at the same time: what waits costs a connection. The
/// others are not answered with care but with 429.
const WAITING_MAX: usize = 16;

/// Counts wrong tokens, whoever sends them. Right ones never come here.
#[derive(Debug)]
pub(super) struct Slowdown {
    span: Mutex<Span>,
    waiting: Semaphore,
}

#[derive(Debug)]
struct Span {
    began: Instant,
    wrong: u32,
}

impl Slowdown {
    pub(super) fn new() -> Self {
        Self {
            span: Mutex::new(Span {
                began: Instant::now(),
                wrong: 0,
            }),
            waiting: Semaphore::new(WAITING_MAX),
        }
    }

    /// Returns when a wrong token may be answered.
    ///
    /// # Errors
    /// [`Rejection::TooManyWrongTokens`] at once, where too many wait already.
    pub(super) async fn wrong_token(&self) -> Result<(), Rejection> {
        if self.is_free(Instant::now()) {
            return Ok(());
        }
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(Rejection::TooManyWrongTokens);
        };
        sleep(DELAY).await;
        Ok(())
    }

    fn is_free(&self, now: Instant) -> bool {
        let mut span = self.span.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(span.began) >= SPAN {
            *span = Span {
                began: now,
                wrong: 0,
            };
        }
        span.wrong = span.wrong.saturating_add(1);
        span.wrong <= FREE
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_few_are_free_and_the_rest_wait_or_are_turned_away() {
        let slowdown = Slowdown::new();
        let start = Instant::now();
        for _ in 0..FREE {
            assert_eq!(slowdown.wrong_token().await, Ok(()));
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        let many = (0..WAITING_MAX + 3).map(|_| slowdown.wrong_token());
        let answers = join_all(many).await;
        let turned_away = answers.iter().filter(|answer| answer.is_err()).count();
        assert_eq!(turned_away, 3);
        assert_eq!(start.elapsed(), DELAY, "they wait beside each other");
        tokio::time::advance(SPAN).await;
        let start = Instant::now();
        assert_eq!(slowdown.wrong_token().await, Ok(()));
        assert_eq!(start.elapsed(), Duration::ZERO, "forgiven after a while");
    }
}
