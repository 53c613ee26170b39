//! One handler's lane: its places in memory and what is handed over to it.
//!
//! A place is taken before an event is stored (or before deliveries are
//! claimed), travels with the delivery, and comes back when its outcome is on
//! disk. So the number of places bounds what is queued, at work, and waiting
//! to be recorded, all together.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc, watch};

use super::LaneConfig;
use crate::delivery::Delivery;
use crate::handler::Handler;
use crate::store::{HandOver, Slot};

/// One handler with everything that drives it.
pub struct Lane {
    /// Its configuration.
    pub config: LaneConfig,
    /// The handler itself.
    pub handler: Arc<dyn Handler>,
    /// Attempts in a row that failed.
    pub failures: AtomicU32,
    capacity: usize,
    taken: AtomicUsize,
    /// Whether the store may hold deliveries that are due and found no place.
    hungry: AtomicBool,
    /// Whether the handler is held back. Asked for every event.
    paused: AtomicBool,
    /// Tells whoever starts attempts when that changes.
    pauses: watch::Sender<()>,
    shared: Arc<Budget>,
    queue: mpsc::UnboundedSender<Handed>,
}

/// What all lanes share: the bytes of what is handed over, and the wake-up for
/// whoever claims.
#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    bytes: AtomicUsize,
    /// Woken when a hungry lane has places again, and when a lane is empty.
    pub freed: Notify,
}

impl Budget {
    /// A budget of `bytes_max` for all bodies together.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: AtomicUsize::new(0),
            freed: Notify::new(),
        }
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.bytes_max
            .saturating_sub(self.bytes.load(Ordering::Relaxed))
    }

    fn take(&self, bytes: usize) -> bool {
        self.bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                let after = taken + bytes;
                (after <= self.bytes_max).then_some(after)
            })
            .is_ok()
    }
}

/// A delivery in its place.
#[derive(Debug)]
pub struct Handed {
    /// The delivery.
    pub delivery: Delivery,
    /// Given back when dropped.
    pub place: Place,
}

/// A taken place; dropping it gives it back.
pub struct Place {
    lane: Arc<Lane>,
    bytes: usize,
    /// Whether whoever claims is woken when it comes back. One that a claim
    /// found nothing for wakes nobody, or claims would follow each other for
    /// ever while there is nothing to do.
    wakes: bool,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({})", self.lane.config.name)
    }
}

impl Lane {
    /// A lane, held back or not, and the receiving end of its queue.
    pub fn new(
        config: LaneConfig,
        handler: Arc<dyn Handler>,
        paused: bool,
        capacity: usize,
        shared: Arc<Budget>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Handed>) {
        // Unbounded by type, bounded by the places.
        let (queue, handed) = mpsc::unbounded_channel();
        let lane = Self {
            config,
            handler,
            failures: AtomicU32::new(0),
            capacity: capacity.max(1),
            taken: AtomicUsize::new(0),
            hungry: AtomicBool::new(true),
            paused: AtomicBool::new(paused),
            pauses: watch::Sender::new(()),
            shared,
            queue,
        };
        (Arc::new(lane), handed)
    }

    /// A slot for a fresh event whose body has this many bytes, where there is
    /// a place. A quarter of the places is kept for claimed deliveries, so that
    /// fresh events never starve older ones.
    pub fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Slot> {
        if self.is_paused() {
            return None;
        }
        let kept = match self.capacity {
            1 => usize::from(self.hungry.load(Ordering::Relaxed)),
            capacity => (capacity / 4).max(1),
        };
        self.take_place(self.capacity - kept)?;
        let mut place = Place {
            lane: Arc::clone(self),
            bytes: 0,
            wakes: true,
        };
        if !self.shared.take(bytes) {
            return None;
        }
        place.bytes = bytes;
        Some(Slot::new(Box::new(place)))
    }

    /// Holds the handler back, or no longer. Answers whether that changed
    /// anything.
    pub fn set_paused(&self, paused: bool) -> bool {
        let changed = self.paused.swap(paused, Ordering::SeqCst) != paused;
        if changed {
            self.pauses.send_replace(());
        }
        if changed && !paused {
            // What waits in the store was not asked for meanwhile.
            self.set_hungry(true);
            self.shared.freed.notify_one();
        }
        changed
    }

    /// Whether the handler is held back.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// Tells of every change between held back and not.
    pub fn pauses(&self) -> watch::Receiver<()> {
        self.pauses.subscribe()
    }

    /// At most `wanted` places for deliveries that are about to be claimed.
    pub fn reserve_claims(self: &Arc<Self>, wanted: usize) -> Vec<Place> {
        (0..wanted)
            .map_while(|_| {
                self.take_place(self.capacity)?;
                Some(Place {
                    lane: Arc::clone(self),
                    bytes: 0,
                    wakes: false,
                })
            })
            .collect()
    }

    fn take_place(&self, limit: usize) -> Option<()> {
        self.taken
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, |taken| {
                (taken < limit).then_some(taken + 1)
            })
            .ok()
            .map(|_| ())
    }

    /// Whether every place has come back.
    pub fn is_empty(&self) -> bool {
        self.taken.load(Ordering::SeqCst) == 0
    }

    /// Notes whether the store may hold more that is due than found a place.
    pub fn set_hungry(&self, hungry: bool) {
        self.hungry.store(hungry, Ordering::Release);
    }

    /// Whether a claim is worth its while: a few places at once are free.
    pub fn has_room(&self) -> bool {
        let free = self.capacity - self.taken.load(Ordering::Acquire).min(self.capacity);
        free >= (self.capacity / 8).clamp(1, 64)
    }
}

impl Place {
    /// Hands a claimed delivery over. Its bytes are counted whether or not
    /// there is room: how many are claimed at once was limited before.
    pub fn fill_claimed(mut self, delivery: Delivery) {
        self.bytes = delivery.event.content.body.len();
        self.wakes = true;
        self.lane
            .shared
            .bytes
            .fetch_add(self.bytes, Ordering::Relaxed);
        Box::new(self).fill(delivery);
    }
}

impl HandOver for Place {
    fn fill(self: Box<Self>, delivery: Delivery) {
        let lane = Arc::clone(&self.lane);
        // The receiving end lives until the lane is empty, and this place is
        // still taken.
        let _ = lane.queue.send(Handed {
            delivery,
            place: *self,
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lane
            .shared
            .bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
        let before = self.lane.taken.fetch_sub(1, Ordering::AcqRel);
        let hungry = self.lane.hungry.load(Ordering::Acquire);
        if self.wakes && (before == 1 || hungry && self.lane.has_room()) {
            self.lane.shared.freed.notify_one();
        }
    }
}
