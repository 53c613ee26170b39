//! The thread that looks at refused requests.
//!
//! Finding out what is wrong with one takes thousands of digests. Strangers
//! decide how many there are, so it takes a bounded share of one processor and
//! what is too much for it is counted and not looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, sleep};
use std::time::Instant;

use rustix::process::{getpriority_process, setpriority_process};
use tracing::warn;

use super::Sighting;
use super::list::Refusals;
use crate::ingest::Source;
use crate::server::TrustedProxies;

/// Requests that may wait to be looked at. Each holds its head, and may hold
/// 64 KiB of body.
const WAITING_MAX: usize = 32;

/// After each look it rests so many times as long as that took.
const REST: u32 = 9;

/// How much nicer it is than the threads that answer.
const NICER_BY: i32 = 10;

/// The nicest there is.
const NICE_MAX: i32 = 19;

/// Hands refused requests to the thread, which ends with this.
#[derive(Debug)]
pub(super) struct Diagnostician {
    sightings: SyncSender<Sighting>,
    waiting: Arc<AtomicUsize>,
}

impl Diagnostician {
    pub(super) fn start(
        list: Arc<Refusals>,
        sources: Vec<Arc<Source>>,
        proxies: TrustedProxies,
    ) -> Self {
        let (sightings, taken) = sync_channel(WAITING_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&waiting);
        let thread = Builder::new().name("refusals".to_owned());
        let started = thread.spawn(move || work(&taken, &counted, &list, &sources, &proxies));
        if let Err(error) = started {
            // Callbacks are worth more than the list.
            warn!(%error, "no thread for the diagnosis of refusals: none is listed");
        }
        Self { sightings, waiting }
    }

    /// Whether a request that is handed over now would be looked at.
    pub(super) fn has_time(&self) -> bool {
        self.waiting.load(Relaxed) < WAITING_MAX
    }

    /// Hands one over; it is dropped where too many wait already.
    pub(super) fn look_at(&self, sighting: Sighting) {
        self.waiting.fetch_add(1, Relaxed);
        if self.sightings.try_send(sighting).is_err() {
            self.waiting.fetch_sub(1, Relaxed);
        }
    }
}

fn work(
    sightings: &Receiver<Sighting>,
    waiting: &AtomicUsize,
    list: &Refusals,
    sources: &[Arc<Source>],
    proxies: &TrustedProxies,
) {
    // Where it is not to be had, the rests have to do.
    if let Ok(nice) = getpriority_process(None) {
        let _ = setpriority_process(None, (nice + NICER_BY).min(NICE_MAX));
    }
    for sighting in sightings {
        waiting.fetch_sub(1, Relaxed);
        let began = Instant::now();
        list.add(sighting.diagnose(sources, proxies));
        drop(sighting);
        sleep(began.elapsed() * REST);
    }
}
