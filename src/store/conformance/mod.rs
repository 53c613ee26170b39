//! Every promise of the [`Store`] and [`Archive`] contracts, as tests over both. An
//! engine implements [`Engine`] and runs [`suite!`]; the suite is the contract.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::{
    Archive, HandOver, History, Inserted, Opened, Receipt, Roster, Slot, Store, StoreError, Wanted,
};
use crate::clock::Clock;
use crate::delivery::{Delivery, DeliveryKey, Reason, Report, Settlement, Status, Verdict};
use crate::event::{EventId, NewEvent, Outcome};
use crate::request::{HandlerName, KeptHead, RequestHead, SourceName};
use crate::signature::none::NoSignature;
use crate::signature::{HeadVerdict, Scheme};

pub mod claiming;
pub mod inserting;
pub mod keeping;
pub mod laws;
pub mod moving;
pub mod pausing;
pub mod recording;
pub mod redelivering;
pub mod searching;

/// No test waits longer than this for anything.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The duplicate window of the suite's stores.
pub const WINDOW: Duration = Duration::from_secs(3600);

/// A storage engine under test: one place that is opened again and again.
pub trait Engine {
    /// Opens the place; an earlier store of it may still be about to let go.
    fn open(&self, clock: Arc<dyn Clock>, entries_max: u32) -> Opened;
    /// Goes on with a copy of what is on disk now, as after a loss of power.
    fn lose_power(&mut self);
}

/// A clock that can be set, backwards too.
#[derive(Debug)]
pub struct SetClock(Mutex<Timestamp>);

impl SetClock {
    /// A clock that stands at some afternoon.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(at(1_780_000_000_000))))
    }

    /// Moves by `seconds`, backwards where they are negative.
    pub fn shift(&self, seconds: i64) {
        let mut now = self.0.lock().unwrap();
        *now += jiff::SignedDuration::from_secs(seconds);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// A point in time, in UNIX milliseconds.
pub fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

/// An engine, a clock, and the store that is open.
pub struct Harness<E> {
    pub engine: E,
    pub clock: Arc<SetClock>,
    pub store: Arc<dyn Store>,
    pub archive: Arc<dyn Archive>,
}

impl<E: Engine> Harness<E> {
    /// Opens `engine`.
    pub fn new(engine: E) -> Self {
        let clock = SetClock::new();
        let opened = engine.open(Arc::clone(&clock) as Arc<dyn Clock>, 1000);
        Self {
            engine,
            clock,
            store: opened.store,
            archive: opened.archive,
        }
    }

    /// Closes the store in good order and opens it again.
    pub async fn reopen(&mut self) {
        self.store.close().await;
        self.open();
    }

    /// Ends the process in the middle of its work and starts the next one.
    pub async fn crash(&mut self) {
        self.engine.lose_power();
        self.open();
    }

    fn open(&mut self) {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Opened {
            store: self.store,
            archive: self.archive,
        } = self.engine.open(clock, 1000);
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Stores `event` for `wanted` and waits for the receipt.
    pub async fn insert(&self, event: NewEvent, wanted: Vec<Wanted>) -> Inserted {
        resolved(self.store.insert(event, wanted).unwrap())
            .await
            .unwrap()
    }

    /// Stores a body that `handlers` want, all of it pending.
    pub async fn pending(&self, body: &str, handlers: &[&str]) -> EventId {
        let wanted = handlers.iter().map(|name| owed(name)).collect();
        self.insert(event("one", body), wanted).await.id
    }

    /// Claims at most `places` deliveries of `handler`, now.
    pub async fn claim(&self, handler: &str, places: u32) -> Vec<Delivery> {
        self.store
            .claim(&[(name(handler), places)], self.now())
            .await
            .unwrap()
            .deliveries
    }

    /// Writes `verdict` as the end of an attempt that began and ended now.
    pub async fn record(&self, key: DeliveryKey, verdict: Verdict) -> Result<(), StoreError> {
        self.store
            .record(key, settlement(verdict, self.now()))
            .await
    }

    pub async fn history(&self, id: EventId) -> History {
        self.store.history(id).await.unwrap().unwrap()
    }

    /// Status and attempts of the event's delivery for `handler`.
    pub async fn stands(&self, id: EventId, handler: &str) -> (Status, u32) {
        let history = self.history(id).await;
        let delivery = history
            .deliveries
            .iter()
            .find(|delivery| delivery.handler.as_str() == handler)
            .unwrap();
        (delivery.status, delivery.attempts)
    }
}

/// Waits for a receipt.
pub async fn resolved(receipt: Receipt) -> Result<Inserted, StoreError> {
    tokio::time::timeout(DEADLINE, receipt)
        .await
        .expect("the receipt resolves in time")
        .expect("the store answers")
}

/// A settlement with a reason where there is one to give.
pub fn settlement(verdict: Verdict, now: Timestamp) -> Settlement {
    let reason = match verdict {
        Verdict::Succeeded | Verdict::Returned => None,
        Verdict::RetryAt(_) | Verdict::Dead => Some(Reason::new("status 500")),
        Verdict::Stopped => Some(Reason::new("stopped with the service")),
    };
    Settlement {
        verdict,
        started_at: now,
        ended_at: now,
        reason,
        report: Report(Some(serde_json::json!({"status": 500}))),
    }
}

/// A handler's name.
pub fn name(name: &str) -> HandlerName {
    HandlerName::new(name).unwrap()
}

/// Handlers that are configured, with a minute's wait after a second loss.
pub fn roster(names: &[&str]) -> Roster {
    let wait = Duration::from_secs(60);
    Roster(BTreeMap::from_iter(names.iter().map(|n| (name(n), wait))))
}

/// A delivery that is owed and has no slot.
pub fn owed(handler: &str) -> Wanted {
    Wanted {
        handler: name(handler),
        slot: None,
    }
}

/// An event with every field filled.
pub fn event(source: &str, body: &str) -> NewEvent {
    let uri = "/ims/callback?a=b".parse().unwrap();
    let head = RequestHead {
        uri: &uri,
        headers: &axum::http::HeaderMap::new(),
    };
    let HeadVerdict::Authentic(verified) = NoSignature
        .check_head(&head, Timestamp::UNIX_EPOCH)
        .unwrap()
    else {
        panic!("the open scheme lets everybody in by the head");
    };
    let digest = Sha256::digest(body.as_bytes());
    NewEvent {
        source: SourceName::new(source).unwrap(),
        event_type: "ProduceMediaComplete".into(),
        event_time: Some("2026-11-24T06:31:06Z".into()),
        user_id: Some("1".into()),
        outcome: Outcome::Succeeded,
        media_id: Some("m".into()),
        job_id: Some("j".into()),
        verified,
        head: KeptHead {
            query: Some("a=b".into()),
            headers: vec![("content-type".into(), "text/plain".into())],
            peer: Some("192.0.2.1".parse().unwrap()),
        },
        body: body.as_bytes().to_vec().into(),
        fingerprint: digest[..16].try_into().unwrap(),
        notes: vec!["odd".into()],
    }
}

/// What became of a slot.
#[derive(Debug)]
pub enum SlotFate {
    Filled(Box<Delivery>),
    Dropped,
}

struct WatchedSlot {
    tell: mpsc::UnboundedSender<SlotFate>,
    filled: bool,
}

impl HandOver for WatchedSlot {
    fn fill(mut self: Box<Self>, delivery: Delivery) {
        self.filled = true;
        let _ = self.tell.send(SlotFate::Filled(Box::new(delivery)));
    }
}

impl Drop for WatchedSlot {
    fn drop(&mut self) {
        if !self.filled {
            let _ = self.tell.send(SlotFate::Dropped);
        }
    }
}

/// A delivery that is owed with a slot, and what becomes of the slot.
pub fn handed(handler: &str) -> (Wanted, mpsc::UnboundedReceiver<SlotFate>) {
    let (tell, fate) = mpsc::unbounded_channel();
    let slot = Slot::new(Box::new(WatchedSlot {
        tell,
        filled: false,
    }));
    let wanted = Wanted {
        handler: name(handler),
        slot: Some(slot),
    };
    (wanted, fate)
}

/// The delivery of a slot that was filled already.
pub fn filled(fate: &mut mpsc::UnboundedReceiver<SlotFate>) -> Delivery {
    match fate.try_recv() {
        Ok(SlotFate::Filled(delivery)) => *delivery,
        other => panic!("the slot is not filled: {other:?}"),
    }
}

/// Waits until `holds`, and fails with `what` at the deadline.
pub async fn until<F: AsyncFnMut() -> bool>(what: &str, mut holds: F) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs every promise against fresh engines made by `$engine`.
macro_rules! suite {
    ($engine:expr) => {
        $crate::store::conformance::suite! { @run $engine,
            inserting::{
                the_receipt_resolves_after_the_commit
                every_field_comes_back
                a_copy_is_counted_on_the_first_event
                copies_at_the_same_time_become_one_event
                a_copy_after_a_restart_is_a_duplicate
                a_copy_after_a_crash_is_a_duplicate
                a_copy_after_the_window_is_a_new_event
                a_duplicate_does_not_renew_the_window
                the_window_holds_its_number_of_bodies
                a_duplicate_creates_only_what_is_missing
                a_slot_is_filled_before_the_receipt
                a_duplicate_drops_its_slots
                a_dropped_receipt_undoes_nothing
                too_much_is_refused_at_once
                closing_commits_what_waits
                after_closing_nothing_is_taken
                ids_and_times_never_run_backwards
            }
            recording::{
                every_verdict_leads_to_its_status
                a_key_that_does_not_hold_changes_nothing
                what_was_returned_leaves_no_trace
                what_was_returned_keeps_the_last_reason
                the_history_keeps_the_first_and_the_last
            }
            claiming::{
                the_oldest_due_come_first
                only_free_places_of_named_handlers
                claims_say_what_is_due_next
                nothing_is_claimed_before_its_time
                attempts_and_failures_are_counted_apart
                a_clock_set_back_delays_no_delivery
                pending_deliveries_wake_the_claimer
                age_counts_from_the_arrival_or_the_return
                a_crash_makes_running_deliveries_due
                a_second_loss_in_a_row_backs_off
                a_return_between_two_losses_changes_nothing
                late_outcomes_of_a_dead_worker_are_not_ours
                removed_handlers_are_counted
            }
            keeping::{
                retention_removes_what_it_says
                retention_goes_on_past_what_stays
                retention_spares_the_window
                retention_takes_no_more_than_its_limit
                the_backlog_counts
                the_backlog_is_right_after_a_restart
                the_oldest_may_become_older_again
                no_event_has_no_history
            }
            redelivering::{
                a_new_round_starts_anew
                what_is_running_is_left_alone
                a_named_handler_gets_a_delivery
                other_handlers_are_left_alone
                rounds_are_spaced
                a_dry_run_changes_nothing
                a_new_round_wakes_the_claimer
                a_new_round_dies_of_its_own_age
                an_event_that_is_gone_gets_no_round
                what_is_discarded_is_dead
                a_discard_of_many_leaves_none
                a_filter_says_which_deliveries
                a_filter_over_events_takes_all_that_they_have
                a_filter_may_match_many
            }
            pausing::{
                a_pause_lasts_until_the_resume
                an_unknown_handler_is_not_paused
                age_counts_from_the_resume
                handlers_are_listed_with_what_waits
            }
            moving::{
                an_import_brings_everything_back
                an_import_again_changes_nothing
                an_id_with_another_body_is_refused
                a_refused_import_adds_nothing_of_it
                imports_bring_so_many_handlers
                an_id_has_to_say_when
                a_young_import_is_a_duplicate_at_once
                old_imports_leave_the_window_alone
                events_after_an_import_are_as_ever
                the_oldest_may_be_an_imported_one
                what_is_removed_leaves_room
            }
            searching::{
                every_filter_finds_what_it_means
                what_was_stored_is_found_at_once
                pages_are_whole_beside_inserts
                a_summary_says_what_the_event_says
                imported_events_stand_where_they_belong
                what_was_removed_is_not_found
                a_tail_gives_what_came_since
                minutes_are_counted
            }
            laws::{ deliveries_obey_the_state_machine }
        }
    };
    (@run $engine:expr, $($module:ident::{ $($promise:ident)* })*) => {$($(
        #[tokio::test]
        async fn $promise() {
            let harness = $crate::store::conformance::Harness::new($engine);
            $crate::store::conformance::$module::$promise(harness).await;
        }
    )*)*};
}
pub(in crate::store) use suite;
