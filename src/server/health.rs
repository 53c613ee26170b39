//! Whether the service is ready, and why not.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Lanes;
use crate::store::{Archive, Store};

/// Shared by `/readyz`, the public `health_path`, and the lifecycle that sets
/// it. New ones are [`Unready::Starting`] and have no store.
pub struct Readiness {
    reasons: AtomicU8,
    store: OnceLock<Arc<dyn Store>>,
    archive: OnceLock<Arc<dyn Archive>>,
    lanes: OnceLock<Arc<dyn Lanes>>,
    /// By source: what is wrong with one that others do not depend on.
    troubles: Mutex<BTreeMap<String, String>>,
}

/// Why the service is not ready, apart from its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Unready {
    /// It has not come up yet.
    Starting = 1,
    /// It was asked to stop.
    Stopping = 2,
    /// The public listener does not listen (any more).
    ListenerDown = 4,
}

impl Unready {
    const ALL: [Self; 3] = [Self::Starting, Self::Stopping, Self::ListenerDown];

    /// The reason as `/readyz` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Stopping => "stopping",
            Self::ListenerDown => "the public listener is down",
        }
    }
}

impl Readiness {
    /// A service that has not come up yet.
    pub fn new() -> Self {
        Self {
            reasons: AtomicU8::new(Unready::Starting as u8),
            store: OnceLock::new(),
            archive: OnceLock::new(),
            lanes: OnceLock::new(),
            troubles: Mutex::default(),
        }
    }

    /// Says that the store is open; from then on its health counts too.
    /// Only the first store counts.
    pub fn store_opened(&self, store: Arc<dyn Store>) {
        // A second one would be a mistake of ours that changes nothing.
        self.store.set(store).ok();
    }

    /// Says that the operator's side of the store is open too.
    pub fn archive_opened(&self, archive: Arc<dyn Archive>) {
        self.archive.set(archive).ok();
    }

    /// The operator's side of the store, once it is open.
    pub fn archive(&self) -> Option<&Arc<dyn Archive>> {
        self.archive.get()
    }

    /// Says what drives the handlers.
    pub fn lanes_started(&self, lanes: Arc<dyn Lanes>) {
        self.lanes.set(lanes).ok();
    }

    /// What drives the handlers, once it does.
    pub fn lanes(&self) -> Option<&Arc<dyn Lanes>> {
        self.lanes.get()
    }

    /// The store, once it is open.
    pub fn store(&self) -> Option<&Arc<dyn Store>> {
        self.store.get()
    }

    /// Adds a reason.
    pub fn set(&self, reason: Unready) {
        self.reasons.fetch_or(reason as u8, Relaxed);
    }

    /// Takes a reason away.
    pub fn clear(&self, reason: Unready) {
        self.reasons.fetch_and(!(reason as u8), Relaxed);
    }

    /// Whether this reason holds.
    pub fn is(&self, reason: Unready) -> bool {
        self.reasons.load(Relaxed) & reason as u8 != 0
    }

    /// Says what is wrong with a source, or that nothing is any more. The
    /// service stays ready: its other sources work.
    pub fn set_trouble(&self, source: &str, trouble: Option<String>) {
        let mut troubles = self.troubles();
        match trouble {
            Some(trouble) => troubles.insert(source.to_owned(), trouble),
            None => troubles.remove(source),
        };
    }

    /// What is wrong with single sources, one line each.
    pub fn told_troubles(&self) -> Vec<String> {
        let line = |(source, trouble): (&String, &String)| format!("sources.{source}: {trouble}");
        self.troubles().iter().map(line).collect()
    }

    fn troubles(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        // A panic cannot leave the map half changed.
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the service takes callbacks and commits work.
    pub fn is_ready(&self) -> bool {
        self.reasons.load(Relaxed) == 0
            && self.store.get().is_some_and(|store| store.health().is_ok())
    }

    /// Why it is not ready, one line each; empty when it is.
    pub fn reasons(&self) -> Vec<String> {
        let set = self.reasons.load(Relaxed);
        let mut reasons: Vec<String> = Unready::ALL
            .into_iter()
            .filter(|reason| set & *reason as u8 != 0)
            .map(|reason| reason.as_str().to_owned())
            .collect();
        match self.store.get().map(|store| store.health()) {
            None => reasons.push("the store is not open".to_owned()),
            Some(Err(problem)) => reasons.push(format!("the store does not commit: {problem}")),
            Some(Ok(())) => {}
        }
        reasons
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("reasons", &self.reasons())
            .finish()
    }
}
