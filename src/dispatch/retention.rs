//! Removes events that were kept long enough, in small steps.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::store::{Purge, Store};

/// Between two sweeps; an event goes within 30 s of its time.
const SWEEP: Duration = Duration::from_secs(10);

/// Between two steps of one sweep, for everybody else's commits.
const BREATH: Duration = Duration::from_millis(20);

/// Events removed in one step.
const STEP: u32 = 256;

/// How long events are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Those that are finished, counted from their arrival.
    pub finished: Duration,
    /// Those with a dead delivery.
    pub dead: Duration,
}

/// Sweeps until the stop.
pub async fn run(
    retention: Retention,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    loop {
        let sweep = async {
            let removed = sweep(retention, &*store, &*clock).await;
            if removed > 0 {
                tracing::info!(removed, "removed events that were kept long enough");
            }
            tokio::time::sleep(SWEEP).await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sweep => {}
        }
    }
}

/// Removes everything that is past its retention now; answers how much it was.
pub async fn sweep(retention: Retention, store: &dyn Store, clock: &dyn Clock) -> u64 {
    let now = clock.now();
    let before = |kept: Duration| now.checked_sub(kept).unwrap_or(jiff::Timestamp::MIN);
    let purge = Purge {
        finished_before: before(retention.finished),
        dead_before: before(retention.dead),
    };
    let mut removed = 0;
    loop {
        match store.purge(purge, STEP).await {
            Ok(purged) => {
                removed += u64::from(purged.removed);
                if !purged.more {
                    return removed;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "retention goes on later");
                return removed;
            }
        }
        tokio::time::sleep(BREATH).await;
    }
}
