//! The one task that takes deliveries out of the store: retries that are due,
//! what found no slot, and what an earlier process left.
//!
//! It claims with free places in hand, so rows of a handler that is full, slow,
//! held back or gone are not even looked at. It registers for wake-ups before it looks,
//! and looks now and then all the same.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::attempt::Crew;
use super::lane::{Budget, Lane, Place};
use crate::request::HandlerName;
use crate::store::StoreError;

/// The look that is taken although nobody called for it.
const LOOK_ANYWAY: Duration = Duration::from_secs(5);

/// The pause between two claims, so that a stream of wake-ups becomes few
/// claims of many rows.
const PAUSE: Duration = Duration::from_millis(2);

/// The pause after a claim that failed.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

/// Deliveries of one handler that are claimed at once; a claim reads their
/// bodies on the writer's thread.
const CLAIM_MAX: usize = 64;

/// Bytes that one claimed body is taken for, before it is known.
const BODY_ESTIMATE: usize = 256 * 1024;

/// Claims until the stop.
pub async fn run(
    lanes: HashMap<HandlerName, Arc<Lane>>,
    crew: Arc<Crew>,
    budget: Arc<Budget>,
    stop: CancellationToken,
) {
    let due = crew.store.due();
    loop {
        let due_now = due.notified();
        let freed = budget.freed.notified();
        let scheduled = crew.scheduled.notified();
        if stop.is_cancelled() {
            return;
        }
        // Never dropped half-way: what the store takes for a claim has to get
        // to its lane, which gives it back at a stop.
        let claimed = round(&lanes, &crew, &budget).await;
        let pause = match claimed {
            Ok(()) => PAUSE,
            Err(_) => PAUSE_AFTER_ERROR,
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if claimed.is_err() {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = due_now => {}
            () = freed => {}
            () = scheduled => {}
            () = until_next_retry(&crew) => {}
            () = tokio::time::sleep(LOOK_ANYWAY) => {}
        }
    }
}

/// Claims once for every lane that has room.
async fn round(
    lanes: &HashMap<HandlerName, Arc<Lane>>,
    crew: &Crew,
    budget: &Budget,
) -> Result<(), StoreError> {
    // Whatever is scheduled from here on is noted anew; what was scheduled
    // before is in the store, and the claim says when it is due. Where there is
    // no room it has to wait for some, however long it has been due.
    *crew
        .next_retry
        .lock()
        .expect("plain arithmetic cannot panic") = None;
    let mut places = reserve(lanes, budget);
    if places.is_empty() {
        return Ok(());
    }
    let free: Vec<(HandlerName, u32)> = places
        .iter()
        .map(|(name, places)| (name.clone(), places.len() as u32))
        .collect();
    let now = crew.clock.now();
    let claimed = crew.store.claim(&free, now).await?;
    let mut counts: HashMap<HandlerName, usize> = HashMap::new();
    for delivery in claimed.deliveries {
        *counts.entry(delivery.handler.clone()).or_default() += 1;
        let place = places.get_mut(&delivery.handler).and_then(Vec::pop);
        if let Some(place) = place {
            place.fill_claimed(delivery);
        }
    }
    for (name, asked) in &free {
        let taken_all = counts.get(name).copied().unwrap_or(0) == *asked as usize;
        if let Some(lane) = lanes.get(name) {
            lane.set_hungry(taken_all);
        }
        if taken_all {
            // There may be more that is due: look again as soon as there is room.
            budget.freed.notify_one();
        }
    }
    if let Some(next) = claimed.next_due.values().min() {
        crew.note_retry(*next);
    }
    Ok(())
}

/// Places for claims in every lane that has room for some.
fn reserve(
    lanes: &HashMap<HandlerName, Arc<Lane>>,
    budget: &Budget,
) -> HashMap<HandlerName, Vec<Place>> {
    let mut left = (budget.left() / BODY_ESTIMATE).max(1);
    let mut reserved = HashMap::new();
    for (name, lane) in lanes {
        if lane.is_paused() {
            continue;
        }
        if !lane.has_room() {
            lane.set_hungry(true);
            continue;
        }
        let places = lane.reserve_claims(left.min(CLAIM_MAX));
        if places.is_empty() {
            lane.set_hungry(true);
            continue;
        }
        left = left.saturating_sub(places.len()).max(1);
        reserved.insert(name.clone(), places);
    }
    reserved
}

async fn until_next_retry(crew: &Crew) {
    let next = *crew
        .next_retry
        .lock()
        .expect("plain arithmetic cannot panic");
    match next {
        Some(at) => {
            let wait = at.duration_since(crew.clock.now());
            tokio::time::sleep(Duration::try_from(wait).unwrap_or_default()).await;
        }
        None => std::future::pending().await,
    }
}
