//! Signatures that do not cover the body, and what they were used for.
//!
//! IMS signs every try anew, and its tries end after 11 s. A new body under a
//! signature that was first used longer ago does not come from it: somebody
//! has seen a request and sends it again with a body of their own. Two genuine
//! events of the same second do carry the same signature, and a proxy may
//! repeat a request as it was: neither is such a case.
//!
//! The memory begins with the process and is bounded.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::event::Fingerprint;

/// The sender's own tries end after 11 s; a slow network gets some more.
const TRIES: Duration = Duration::from_secs(15);

/// So many signatures are remembered. A sender has one a second.
const SIGNATURES_MAX: usize = 65_536;

/// So many bodies are remembered, of all signatures together.
const BODIES_MAX: usize = 65_536;

/// A further use of a signature, for another body, after the sender's own
/// tries have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reused {
    /// How long ago its first use was.
    pub ago: Duration,
    /// Whether it is certain that the body is another one. Where a sender has
    /// had very many events in a second not all bodies are remembered.
    pub is_other_body: bool,
}

impl fmt::Display for Reused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.ago.as_secs();
        write!(f, "the signature was used before, {seconds} s ago")?;
        if self.is_other_body {
            f.write_str(", for another body")?;
        }
        Ok(())
    }
}

/// The signatures that were used lately. One short lock an event; its hold
/// time is a look-up in two tables.
pub struct SignatureMemory {
    memory: Mutex<Memory>,
    /// How long a signature can be used again: after that its timestamp is
    /// refused anyway.
    kept: Duration,
}

#[derive(Default)]
struct Memory {
    uses: HashMap<u64, Use>,
    /// The same, the oldest first.
    order: VecDeque<u64>,
    bodies: usize,
    /// The first in `order` that may still have its bodies.
    with_bodies: VecDeque<u64>,
}

struct Use {
    first: Timestamp,
    bodies: HashSet<u64>,
    all_bodies: bool,
}

impl SignatureMemory {
    /// An empty memory. `tolerance` is the widest of all sources: how far a
    /// timestamp may be from our clock.
    pub fn new(tolerance: Duration) -> Self {
        Self {
            memory: Mutex::default(),
            // A timestamp may be that far ahead at first and that far behind
            // at last.
            kept: tolerance.saturating_mul(2),
        }
    }

    /// Remembers the use of a signature for a body at `now`, unless it is
    /// [`Reused`] and `refuse` says that such a body is not taken.
    pub fn note(
        &self,
        signature: u64,
        body: &Fingerprint,
        now: Timestamp,
        refuse: bool,
    ) -> Option<Reused> {
        let (body, _) = body.split_first_chunk()?;
        let body = u64::from_le_bytes(*body);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(used) = memory.uses.get_mut(&signature) else {
            memory.begin(signature, body, now, self.kept);
            return None;
        };
        if used.bodies.contains(&body) {
            return None;
        }
        let ago = since(used.first, now);
        let reused = (ago > TRIES).then_some(Reused {
            ago,
            is_other_body: used.all_bodies,
        });
        let refused = refuse && reused.is_some_and(|reused| reused.is_other_body);
        if used.all_bodies && !refused {
            used.bodies.insert(body);
            memory.bodies += 1;
            memory.bound_bodies();
        }
        reused
    }

    #[cfg(test)]
    fn remembered(&self) -> (usize, usize) {
        let memory = self.memory.lock().expect("nothing panics in there");
        let bodies = memory.uses.values().map(|used| used.bodies.len()).sum();
        assert_eq!(bodies, memory.bodies);
        assert_eq!(memory.order.len(), memory.uses.len());
        (memory.uses.len(), bodies)
    }
}

impl Memory {
    fn begin(&mut self, signature: u64, body: u64, now: Timestamp, kept: Duration) {
        while let Some(oldest) = self.order.front() {
            let is_over = |used: &Use| since(used.first, now) > kept;
            let is_full = self.uses.len() >= SIGNATURES_MAX;
            if !is_full && !self.uses.get(oldest).is_none_or(is_over) {
                break;
            }
            if let Some(used) = self.uses.remove(oldest) {
                self.bodies -= used.bodies.len();
            }
            if self.with_bodies.front() == Some(oldest) {
                self.with_bodies.pop_front();
            }
            self.order.pop_front();
        }
        let used = Use {
            first: now,
            bodies: HashSet::from([body]),
            all_bodies: true,
        };
        self.uses.insert(signature, used);
        self.order.push_back(signature);
        self.with_bodies.push_back(signature);
        self.bodies += 1;
        self.bound_bodies();
    }

    /// Forgets the bodies of the oldest signatures, never the signatures.
    fn bound_bodies(&mut self) {
        while self.bodies > BODIES_MAX {
            let Some(oldest) = self.with_bodies.pop_front() else {
                return;
            };
            if let Some(used) = self.uses.get_mut(&oldest) {
                self.bodies -= used.bodies.len();
                used.bodies = HashSet::new();
                used.all_bodies = false;
            }
        }
    }
}

/// A clock that was set back makes nothing older.
fn since(first: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(first)).unwrap_or_default()
}

impl fmt::Debug for SignatureMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignatureMemory").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Duration = Duration::from_secs(300);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_500_000 + seconds).unwrap()
    }

    fn body(number: u64) -> Fingerprint {
        let mut body = [0; 16];
        body[..8].copy_from_slice(&number.to_le_bytes());
        body
    }

    #[test]
    fn another_body_after_the_tries_have_ended_is_told() {
        let memory = SignatureMemory::new(TOLERANCE);
        let note = |signature, number, second| {
            memory
                .note(signature, &body(number), at(second), false)
                .map(|reused| reused.to_string())
        };
        assert_eq!(note(1, 1, 0), None);
        assert_eq!(note(1, 2, 1), None, "two events of one second");
        assert_eq!(note(1, 3, 15), None, "a slow one");
        assert_eq!(note(1, 1, 16), None, "the same body again");
        assert_eq!(note(2, 4, 16), None, "another signature");
        let said = "the signature was used before, 42 s ago, for another body";
        assert_eq!(note(1, 4, 42).as_deref(), Some(said));
        assert_eq!(note(1, 4, 43), None, "that body is known now");
        assert_eq!(note(1, 5, -100), None, "the clock was set back");
    }

    #[test]
    fn what_is_refused_stays_another_body() {
        let memory = SignatureMemory::new(TOLERANCE);
        let note = |number, second| memory.note(1, &body(number), at(second), true);
        assert_eq!(note(1, 0), None);
        assert!(note(2, 20).is_some());
        assert!(note(2, 21).is_some());
        assert_eq!(note(1, 21), None);
    }

    #[test]
    fn what_can_not_be_used_any_more_is_forgotten() {
        let memory = SignatureMemory::new(TOLERANCE);
        for second in 0..10_000_u32 {
            memory.note(
                second.into(),
                &body(second.into()),
                at(second.into()),
                false,
            );
        }
        assert_eq!(memory.remembered(), (601, 601));
    }

    #[test]
    fn the_memory_is_bounded_by_signatures_and_by_bodies() {
        let memory = SignatureMemory::new(TOLERANCE);
        for number in 0..200_000 {
            memory.note(number, &body(number), at(0), false);
        }
        assert_eq!(memory.remembered(), (SIGNATURES_MAX, BODIES_MAX));

        let memory = SignatureMemory::new(TOLERANCE);
        for number in 0..200_000 {
            memory.note(number / 50_000, &body(number), at(0), true);
        }
        let (signatures, bodies) = memory.remembered();
        assert_eq!(signatures, 4, "signatures outlive their bodies");
        assert!(bodies <= BODIES_MAX, "{bodies}");
        let reused = memory.note(0, &body(1), at(60), true).unwrap();
        assert!(!reused.is_other_body, "it may be one of the forgotten");
        assert_eq!(
            reused.to_string(),
            "the signature was used before, 60 s ago"
        );
    }
}
