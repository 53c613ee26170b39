//! Removes events that were kept long enough, in small steps; and some before
//! that, where the store grows too large or its disk too small.
//!
//! A file does not shrink by what is removed from it: its pages are used again.
//! So the store's size is that of the pages in use, and what it may still grow
//! by is what the disk has free together with the pages that it does not use.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::disk::{DiskWatch, Turn};
use crate::clock::Clock;
use crate::store::archive::StoreSize;
use crate::store::metrics::EarlyPurged;
use crate::store::{Archive, Opened, Purge, Store};

/// Between two sweeps; an event goes within 30 s of its time.
const SWEEP: Duration = Duration::from_secs(10);

/// Between two steps of one sweep, for everybody else's commits.
const BREATH: Duration = Duration::from_millis(20);

/// Events removed in one step.
const STEP: u32 = 256;

/// Events removed in the first step of an early purge, when it is not known
/// yet how large they are.
const FIRST_STEP: u32 = 16;

/// However little room the disk has, finished events stay this long.
const SPARED: Duration = Duration::from_hours(24);

/// How long events are kept.
#[derive(Debug, Clone)]
pub struct Retention {
    /// Those that are finished, counted from their arrival.
    pub finished: Duration,
    /// Those with a dead delivery.
    pub dead: Duration,
    /// Above this many bytes in use the oldest finished events go early.
    pub bytes_max: Option<u64>,
    /// With less than this free on the disk finished events older than a day
    /// go early; 0 switches that off.
    pub disk_free_min: u64,
    /// The store's file, for messages.
    pub path: PathBuf,
}

/// Keeps one store in its bounds.
pub struct Keeper {
    retention: Retention,
    store: Arc<dyn Store>,
    archive: Arc<dyn Archive>,
    clock: Arc<dyn Clock>,
    early: EarlyPurged,
    disk: DiskWatch,
    /// Whether it was said that nothing can be removed although there is too
    /// much.
    stuck: bool,
}

impl Keeper {
    /// A keeper of the store in `opened`.
    pub fn new(
        retention: Retention,
        opened: &Opened,
        clock: Arc<dyn Clock>,
        early: EarlyPurged,
    ) -> Self {
        Self {
            disk: DiskWatch::new(retention.disk_free_min),
            retention,
            store: Arc::clone(&opened.store),
            archive: Arc::clone(&opened.archive),
            clock,
            early,
            stuck: false,
        }
    }

    /// Sweeps until the stop.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let round = async {
                self.sweep().await;
                tokio::time::sleep(SWEEP).await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = round => {}
            }
        }
    }

    /// Removes everything that is past its retention now, and what has to go
    /// before; answers how much it was.
    pub async fn sweep(&mut self) -> u64 {
        let now = self.clock.now();
        let purge = Purge {
            finished_before: before(now, self.retention.finished),
            dead_before: before(now, self.retention.dead),
        };
        let removed = self.purge(purge).await;
        if removed > 0 {
            tracing::info!(removed, "removed events that were kept long enough");
        }
        // Nobody can say how much room there is while the store cannot be read.
        let Ok(size) = self.archive.size().await else {
            return removed;
        };
        self.watch_disk(size.disk_free_bytes);
        removed + self.keep_size(now, size).await + self.keep_room(now).await
    }

    async fn purge(&self, purge: Purge) -> u64 {
        let mut removed = 0;
        loop {
            match self.store.purge(purge, STEP).await {
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

    /// Holds the store below its size.
    async fn keep_size(&mut self, now: Timestamp, size: StoreSize) -> u64 {
        let Some(bytes_max) = self.retention.bytes_max else {
            return 0;
        };
        let excess = |size: &StoreSize| size.used_bytes.saturating_sub(bytes_max);
        if excess(&size) == 0 {
            self.stuck = false;
            return 0;
        }
        let (removed, left) = self.purge_early(now, size, excess).await;
        self.early.bytes.inc_by(removed);
        if removed > 0 {
            tracing::info!(
                removed,
                retention_bytes = bytes_max,
                "removed the oldest finished events early: the store was larger than store.retention_bytes"
            );
        }
        if left == 0 {
            self.stuck = false;
        } else if !self.stuck {
            self.stuck = true;
            tracing::warn!(
                path = %self.retention.path.display(),
                excess_bytes = left,
                retention_bytes = bytes_max,
                "the store is larger than store.retention_bytes, and what is left in it has to stay: unfinished and dead events, and those that duplicates are known by; redeliver or discard what is dead, or raise the limit"
            );
        }
        removed
    }

    /// Makes room within the store where the disk has too little.
    async fn keep_room(&self, now: Timestamp) -> u64 {
        let wanted = self.retention.disk_free_min;
        let Ok(size) = self.archive.size().await else {
            return 0;
        };
        if size.disk_free_bytes >= wanted {
            return 0;
        }
        let lacking = |size: &StoreSize| {
            let unused = size.file_bytes.saturating_sub(size.used_bytes);
            wanted.saturating_sub(size.disk_free_bytes.saturating_add(unused))
        };
        let old = before(now, SPARED);
        let (removed, _) = self.purge_early(old, size, lacking).await;
        self.early.disk.inc_by(removed);
        removed
    }

    /// Removes the oldest finished events received before `before`, until
    /// nothing is `lacking` or nothing is left to remove; answers how many went
    /// and what is lacking still.
    async fn purge_early(
        &self,
        before: Timestamp,
        mut size: StoreSize,
        lacking: impl Fn(&StoreSize) -> u64,
    ) -> (u64, u64) {
        let purge = Purge {
            finished_before: before,
            dead_before: Timestamp::MIN,
        };
        let mut removed = 0;
        let mut step = FIRST_STEP;
        while lacking(&size) > 0 {
            let purged = match self.store.purge(purge, step).await {
                Ok(purged) => purged,
                Err(error) => {
                    tracing::warn!(%error, "retention goes on later");
                    break;
                }
            };
            removed += u64::from(purged.removed);
            let Ok(after) = self.archive.size().await else {
                break;
            };
            let freed = size.used_bytes.saturating_sub(after.used_bytes);
            step = next_step(step, purged.removed, freed, lacking(&after));
            size = after;
            if !purged.more {
                break;
            }
            tokio::time::sleep(BREATH).await;
        }
        (removed, lacking(&size))
    }

    /// Tells once that the disk gets full, and once that it no longer does.
    fn watch_disk(&mut self, free: u64) {
        let path = self.retention.path.display();
        let disk_free_min = self.retention.disk_free_min;
        match self.disk.look(free) {
            None => {}
            Some(Turn::Low) => tracing::warn!(
                %path, free_bytes = free, disk_free_min,
                "the disk is nearly full: finished events older than a day are removed early to make room within the store; free some space, move store.path to a larger disk, or keep less with store.retention or store.retention_bytes (`ims-receiver store compact` gives back what the file does not use)"
            ),
            Some(Turn::Critical) => tracing::error!(
                %path, free_bytes = free,
                "the disk is about to be full: when it is, callbacks are answered with 503 and senders give up; free some space now"
            ),
            Some(Turn::Over) => tracing::info!(
                %path, free_bytes = free,
                "the disk has room again"
            ),
        }
    }
}

fn before(now: Timestamp, kept: Duration) -> Timestamp {
    now.checked_sub(kept).unwrap_or(Timestamp::MIN)
}

/// How many events the next step removes, by what the last one freed: no more
/// than it takes, and no fewer than make progress.
fn next_step(step: u32, removed: u32, freed: u64, lacking: u64) -> u32 {
    if removed == 0 || freed == 0 {
        return (step * 2).min(STEP);
    }
    let average = (freed / u64::from(removed)).max(1);
    u32::try_from(lacking.div_ceil(average))
        .unwrap_or(STEP)
        .clamp(1, STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_as_large_as_it_has_to_be() {
        // Sixteen events of 1 MiB were removed, and 3.5 MiB are lacking.
        assert_eq!(next_step(16, 16, 16 << 20, 7 << 19), 4);
        assert_eq!(next_step(16, 16, 16 << 20, 1), 1);
        assert_eq!(next_step(16, 16, 16 << 10, 1 << 30), STEP);
        // Small ones that leave their pages half full free nothing at first.
        assert_eq!(next_step(16, 16, 0, 1 << 20), 32);
        assert_eq!(next_step(200, 0, 0, 1 << 20), STEP);
    }
}
