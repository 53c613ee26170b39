//! Work that goes on when nobody waits for it any more.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// A future that is finished in a task of its own when it is dropped before
/// its end.
///
/// hyper drops a request's future when the client hangs up. A task per request
/// would survive that too, at the price of a spawn and a switch for each; this
/// pays only for those that are dropped.
pub struct Detached<T: Send + 'static>(Option<Work<T>>);

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<T: Send + 'static> Detached<T> {
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Taken out meanwhile, so that work that panics is not spawned again.
        let Some(mut work) = self.0.take() else {
            return Poll::Pending;
        };
        let poll = work.as_mut().poll(cx);
        if poll.is_pending() {
            self.0 = Some(work);
        }
        poll
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        if let Some(work) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(work);
        }
    }
}

impl<T: Send + 'static> fmt::Debug for Detached<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Detached")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn dropped_work_is_finished() {
        let (go, wait) = oneshot::channel::<()>();
        let (done, seen) = oneshot::channel::<()>();
        let mut work = Box::pin(Detached::new(async move {
            wait.await.ok();
            done.send(()).ok();
        }));
        assert!(futures_util::poll!(work.as_mut()).is_pending());
        drop(work);
        go.send(()).unwrap();
        timeout(Duration::from_secs(5), seen)
            .await
            .unwrap()
            .unwrap();
    }
}
