//! Request bodies: read within limits, and counted together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    /// Larger than one body may be.
    #[error("the body is too large")]
    TooLarge,
    /// The bodies of all requests together are larger than they may be.
    #[error("too many bodies are in flight")]
    TooManyInFlight,
    /// Not there within the deadline.
    #[error("the body did not come in time")]
    Late,
    /// Cut short, or against the protocol.
    #[error("the body was cut short")]
    Broken,
    /// The listener closed before the body was there.
    #[error("the listener closed before the body was there")]
    Closing,
}

/// The bytes of all bodies in memory between their arrival and the store's
/// answer.
#[derive(Debug)]
pub(super) struct BodyBudget {
    used: AtomicUsize,
    max: usize,
}

impl BodyBudget {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            max,
        })
    }

    /// A share of nothing yet.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share {
            budget: Arc::clone(self),
            bytes: 0,
        }
    }
}

/// One body's share of the budget; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<BodyBudget>,
    bytes: usize,
}

impl Share {
    fn grow(&mut self, bytes: usize) -> Result<(), BodyError> {
        let before = self.budget.used.fetch_add(bytes, Relaxed);
        self.bytes += bytes;
        if before.saturating_add(bytes) > self.budget.max {
            return Err(BodyError::TooManyInFlight);
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Relaxed);
    }
}

/// Reads a whole body of at most `max` bytes, counting in `share`.
///
/// The bytes are copied out of the connection's buffer: they are kept for as
/// long as the event waits somewhere, and a slice would keep the whole buffer.
pub(super) async fn read(
    body: &mut Incoming,
    max: usize,
    share: &mut Share,
    http2: bool,
) -> Result<Bytes, BodyError> {
    let announced = body.size_hint().exact();
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            // An HTTP/2 connection that closes right after the last byte
            // shows as an error even where the body is complete.
            return if announced == Some(whole.len() as u64) {
                Ok(Bytes::from(whole))
            } else {
                Err(BodyError::Broken)
            };
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if whole.len() + data.len() > max {
            return Err(BodyError::TooLarge);
        }
        share.grow(data.len())?;
        whole.extend_from_slice(&data);
    }
    if cut_short(body, announced, whole.len(), http2) {
        return Err(BodyError::Broken);
    }
    Ok(Bytes::from(whole.into_boxed_slice()))
}

/// Whether the end that hyper reported is none: it takes an HTTP/2 stream that
/// the client resets without an error for a whole body.
fn cut_short(body: &Incoming, announced: Option<u64>, length: usize, http2: bool) -> bool {
    match announced {
        Some(announced) => announced != length as u64,
        None => http2 && !body.is_end_stream(),
    }
}
