//! What a store counts and measures about itself.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The store's own series. Cloning shares them.
#[derive(Debug, Clone)]
pub struct StoreMetrics {
    /// How long a commit took, the sync included.
    pub commit_seconds: Histogram,
    /// Events and outcomes per commit.
    pub batch_size: Histogram,
    /// Commits that failed.
    pub errors: Counter,
    /// Size of the database file.
    pub store_bytes: Gauge,
    /// What of it is in use.
    pub used_bytes: Gauge,
    /// Size of the write-ahead log beside it.
    pub wal_bytes: Gauge,
    /// Room left on its file system.
    pub disk_free_bytes: Gauge,
    /// How far back duplicates are known.
    pub dedup_window_seconds: Gauge,
    /// Events removed before their time.
    pub early_purged: EarlyPurged,
}

/// Events removed before their time, by what was lacking.
#[derive(Debug, Clone)]
pub struct EarlyPurged {
    family: Family<[(&'static str, &'static str); 1], Counter>,
    /// The store was larger than its limit.
    pub bytes: Counter,
    /// Its disk had too little room.
    pub disk: Counter,
}

impl Default for EarlyPurged {
    fn default() -> Self {
        let family = Family::<[(&'static str, &'static str); 1], Counter>::default();
        let of = |cause| family.get_or_create(&[("cause", cause)]).clone();
        Self {
            bytes: of("retention_bytes"),
            disk: of("disk_free_min"),
            family,
        }
    }
}

impl Default for StoreMetrics {
    fn default() -> Self {
        Self {
            commit_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            errors: Counter::default(),
            store_bytes: Gauge::default(),
            used_bytes: Gauge::default(),
            wal_bytes: Gauge::default(),
            disk_free_bytes: Gauge::default(),
            dedup_window_seconds: Gauge::default(),
            early_purged: EarlyPurged::default(),
        }
    }
}

impl StoreMetrics {
    /// Makes the series known to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "store_commit_seconds",
            "How long a commit took, the sync to disk included",
            self.commit_seconds.clone(),
        );
        registry.register(
            "store_batch_size",
            "Events and outcomes written by one commit",
            self.batch_size.clone(),
        );
        registry.register("store_errors", "Commits that failed", self.errors.clone());
        registry.register(
            "store_bytes",
            "Size of the database file",
            self.store_bytes.clone(),
        );
        registry.register(
            "store_used_bytes",
            "What of the database file is in use; the rest is used before the file grows",
            self.used_bytes.clone(),
        );
        registry.register(
            "wal_bytes",
            "Size of the write-ahead log",
            self.wal_bytes.clone(),
        );
        registry.register(
            "disk_free_bytes",
            "Room left on the store's file system",
            self.disk_free_bytes.clone(),
        );
        registry.register(
            "dedup_window_seconds",
            "How far back duplicates are known",
            self.dedup_window_seconds.clone(),
        );
        registry.register(
            "early_purged_events",
            "Finished events removed before their retention, by the setting that asked for it",
            self.early_purged.family.clone(),
        );
    }
}
