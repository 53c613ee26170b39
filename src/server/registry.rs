//! The open connections of a listener, and which of them has to go first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::connection::Connection;

/// How many connections one search finds, so that a flood does not pay for a
/// search each.
const EVICTION_BATCH: usize = 64;

/// All open connections of a listener.
#[derive(Default)]
pub(super) struct Connections {
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    next: AtomicU64,
}

impl Connections {
    /// Enters `connection`; it is open until the entry is dropped.
    pub(super) fn enter(all: &Arc<Self>, connection: Arc<Connection>) -> Entry {
        let number = all.next.fetch_add(1, Relaxed);
        all.with(|open| open.insert(number, Arc::clone(&connection)));
        Entry {
            all: Arc::clone(all),
            number,
            connection,
        }
    }

    pub(super) fn for_each(&self, act: impl Fn(&Connection)) {
        self.with(|open| open.values().for_each(|connection| act(connection)));
    }

    /// The next connection to close. `found` keeps what one search found for
    /// the calls after it: waits only grow, so their order still holds, and
    /// those that never had a verified request come before any other.
    pub(super) fn next_victim(&self, found: &mut Vec<Arc<Connection>>) -> Option<Arc<Connection>> {
        while let Some(victim) = found.pop() {
            let still_waits = victim
                .eviction_rank()
                .is_some_and(|(verified, _)| !verified);
            if still_waits {
                return Some(victim);
            }
        }
        let mut ranked: Vec<_> = self.with(|open| {
            let ranked = open.values().filter_map(|c| Some((c.eviction_rank()?, c)));
            ranked.map(|(rank, c)| (rank, Arc::clone(c))).collect()
        });
        if ranked.len() > EVICTION_BATCH {
            ranked.select_nth_unstable_by_key(EVICTION_BATCH - 1, |(rank, _)| *rank);
            ranked.truncate(EVICTION_BATCH);
        }
        ranked.sort_unstable_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        found.extend(ranked.into_iter().map(|(_, connection)| connection));
        found.pop()
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<u64, Arc<Connection>>) -> T) -> T {
        // A panic cannot leave the map half changed.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut open)
    }
}

/// A connection's place among the open ones, given back when dropped.
pub(super) struct Entry {
    all: Arc<Connections>,
    number: u64,
    pub(super) connection: Arc<Connection>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        // So that nobody waits for it to make room.
        self.connection.close();
        self.all.with(|open| open.remove(&self.number));
    }
}
