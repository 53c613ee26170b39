//! The last refusals, in memory, bounded by number and by bytes.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::Refusal;
use crate::request::SourceName;
use crate::server::admin::Time;

/// So many refusals are kept.
pub(in crate::server) const ENTRIES_MAX: usize = 1000;

/// So many of them are for paths that are no source's: these are the sender's
/// to invent, and must not push the others out.
const NO_SOURCE_MAX: usize = 100;

/// So many bytes of them, whatever the senders wrote.
const BYTES_MAX: usize = 1024 * 1024;

/// One that is like an earlier one is counted there, as long as that is no
/// older than this.
const FOLDED_WITHIN: Duration = Duration::from_secs(10 * 60);

/// The last refusals. Shared by the public listener, which fills it, and the
/// admin listener, which shows it. Empty after a restart.
#[derive(Debug, Default)]
pub struct Refusals {
    totals: [AtomicU64; Refusal::REASONS.len()],
    entries: Mutex<Entries>,
}

/// A refusal as operators see it. Nothing in it is a key, a signature or a
/// token.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Refusal)]
pub struct RefusalView {
    /// When the last one of its kind was turned away.
    #[schema(value_type = String, format = DateTime)]
    pub(in crate::server) at: Time,
    /// When the first one was.
    #[schema(value_type = String, format = DateTime)]
    pub(in crate::server) first_at: Time,
    /// The source whose path it was sent to; null where the path is no source's.
    #[schema(value_type = Option<String>, required)]
    pub(in crate::server) source: Option<SourceName>,
    /// That path.
    pub(in crate::server) path: String,
    /// Who sent it; `None` where nobody can say.
    #[schema(value_type = Option<String>, required)]
    pub(in crate::server) peer: Option<IpAddr>,
    /// Why it was turned away.
    pub(in crate::server) reason: &'static str,
    /// Our clock minus the sender's, where that is the reason.
    #[schema(required)]
    pub(in crate::server) skew_seconds: Option<i64>,
    /// What may be wrong with it, one sentence each, found out by trying.
    pub(in crate::server) diagnosis: Vec<String>,
    /// What its head said.
    pub(in crate::server) facts: Facts,
    /// How many like it were looked at. In a flood only some are; the totals
    /// count all.
    pub(in crate::server) count: u64,
}

/// What a request's head says about where it comes from. Cut, and without any
/// value that may be a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Facts {
    /// The host that it names.
    #[schema(required)]
    pub(in crate::server) host: Option<String>,
    /// The program that it comes from, as that says.
    #[schema(required)]
    pub(in crate::server) user_agent: Option<String>,
    /// The names of the parameters in its query.
    pub(in crate::server) parameters: Vec<String>,
    /// Whether a proxy says who sent it.
    pub(in crate::server) forwarded: bool,
}

#[derive(Debug, Default)]
struct Entries {
    /// The newest first.
    list: VecDeque<RefusalView>,
    bytes: usize,
}

impl Refusals {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// The last refusals, the newest first, at most `limit`: of these sources
    /// and for these reasons, where any are named.
    pub fn list(&self, limit: usize, sources: &[String], reasons: &[String]) -> Vec<RefusalView> {
        let wanted =
            |names: &[String], name: &str| names.is_empty() || names.iter().any(|n| n == name);
        let entries = self.entries();
        let list = entries.list.iter();
        let of_source = |one: &RefusalView| match &one.source {
            Some(source) => wanted(sources, source.as_str()),
            None => sources.is_empty(),
        };
        list.filter(|one| of_source(one) && wanted(reasons, one.reason))
            .take(limit)
            .cloned()
            .collect()
    }

    /// How many there were since the start, by reason; all of them, those that
    /// nobody looked at included.
    pub fn totals(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.totals.iter().map(|count| count.load(Relaxed));
        Refusal::REASONS.into_iter().zip(counts).collect()
    }

    pub(super) fn count(&self, refusal: Refusal) {
        self.totals[refusal.index()].fetch_add(1, Relaxed);
    }

    /// Adds a refusal, or counts it where one like it is there.
    pub(super) fn add(&self, mut new: RefusalView) {
        let mut entries = self.entries();
        let known = entries.list.iter().position(|old| is_like(old, &new));
        if let Some(old) = known.and_then(|at| entries.list.remove(at)) {
            entries.bytes -= bytes(&old);
            new.first_at = old.first_at;
            new.count += old.count;
            new.at.0 = new.at.0.max(old.at.0);
        }
        entries.bytes += bytes(&new);
        let is_no_source = new.source.is_none();
        entries.list.push_front(new);
        if is_no_source {
            entries.bound_no_source();
        }
        while entries.list.len() > ENTRIES_MAX || entries.bytes > BYTES_MAX {
            let Some(oldest) = entries.list.pop_back() else {
                return;
            };
            entries.bytes -= bytes(&oldest);
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// Takes out the oldest of those that are no source's, where there are too
    /// many.
    fn bound_no_source(&mut self) {
        let mut of_none = self.list.iter().enumerate();
        let too_many = of_none
            .by_ref()
            .filter(|(_, one)| one.source.is_none())
            .nth(NO_SOURCE_MAX)
            .map(|(at, _)| at);
        if let Some(old) = too_many.and_then(|at| self.list.remove(at)) {
            self.bytes -= bytes(&old);
        }
    }
}

fn is_like(old: &RefusalView, new: &RefusalView) -> bool {
    old.reason == new.reason
        && old.peer == new.peer
        && old.source == new.source
        && old.path == new.path
        && old.diagnosis == new.diagnosis
        && is_recent(old.at.0, new.at.0)
}

fn is_recent(old: Timestamp, new: Timestamp) -> bool {
    new.duration_since(old).unsigned_abs() <= FOLDED_WITHIN
}

/// What an entry takes in memory, near enough.
fn bytes(entry: &RefusalView) -> usize {
    let text = |text: &String| text.capacity() + size_of::<String>();
    let facts = &entry.facts;
    let texts = entry.diagnosis.iter().chain(&facts.parameters);
    let texts = texts.chain(&facts.host).chain(&facts.user_agent);
    size_of::<RefusalView>() + entry.path.capacity() + texts.map(text).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(path: &str, second: i64) -> RefusalView {
        let at = Time(Timestamp::from_second(second).unwrap());
        RefusalView {
            at,
            first_at: at,
            source: SourceName::new("default").ok(),
            path: path.to_owned(),
            peer: "192.0.2.1".parse().ok(),
            reason: "mismatch",
            skew_seconds: None,
            diagnosis: vec!["it is another key".to_owned()],
            facts: Facts::default(),
            count: 1,
        }
    }

    fn all(list: &Refusals) -> Vec<RefusalView> {
        list.list(usize::MAX, &[], &[])
    }

    #[test]
    fn those_alike_are_counted_and_come_first() {
        let list = Refusals::new();
        list.add(view("/a", 100));
        list.add(view("/b", 101));
        list.add(view("/a", 102));
        let found = all(&list);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].path.as_str(), found[0].count), ("/a", 2));
        assert_eq!(found[0].first_at.0.as_second(), 100);
        assert_eq!(found[0].at.0.as_second(), 102);
        list.add(view("/a", 102 + 601));
        assert_eq!(all(&list).len(), 3, "that was long ago");
        let mut other = view("/a", 703);
        other.diagnosis = vec!["it is an old key".to_owned()];
        list.add(other);
        assert_eq!(all(&list).len(), 4, "that is something else");
    }

    #[test]
    fn the_list_is_bounded_by_number_and_by_bytes() {
        let list = Refusals::new();
        for number in 0..3000 {
            list.add(view(&format!("/{number}"), number));
        }
        let found = all(&list);
        assert_eq!(found.len(), ENTRIES_MAX);
        assert_eq!(found[0].path, "/2999", "the newest stay");
        for number in 0..3000 {
            let mut large = view(&format!("/{number}"), number);
            large.diagnosis = vec!["x".repeat(4000)];
            list.add(large);
        }
        let kept: usize = all(&list).iter().map(bytes).sum();
        assert!((BYTES_MAX / 2..=BYTES_MAX).contains(&kept), "{kept}");
        assert_eq!(list.entries().bytes, kept);
    }

    #[test]
    fn invented_paths_push_no_other_refusal_out() {
        let list = Refusals::new();
        list.add(view("/ims/callback", 1));
        for number in 0..3000 {
            let mut invented = view(&format!("/{number}"), number);
            invented.source = None;
            list.add(invented);
        }
        let found = all(&list);
        assert_eq!(found.len(), NO_SOURCE_MAX + 1);
        assert_eq!(found[0].path, "/2999", "the newest stay");
        assert_eq!(found[NO_SOURCE_MAX].path, "/ims/callback");
        let kept: usize = found.iter().map(bytes).sum();
        assert_eq!(list.entries().bytes, kept);
    }

    #[test]
    fn sources_and_reasons_can_be_chosen() {
        let list = Refusals::new();
        list.add(view("/a", 1));
        let mut other = view("/b", 2);
        other.source = SourceName::new("relay").ok();
        other.reason = "peer";
        list.add(other);
        let paths = |limit, sources: &[&str], reasons: &[&str]| -> Vec<String> {
            let owned = |names: &[&str]| -> Vec<String> {
                names.iter().map(|name| (*name).to_owned()).collect()
            };
            let found = list.list(limit, &owned(sources), &owned(reasons));
            found.into_iter().map(|one| one.path).collect()
        };
        assert_eq!(paths(9, &[], &[]), ["/b", "/a"]);
        assert_eq!(paths(1, &[], &[]), ["/b"]);
        assert_eq!(paths(9, &["default"], &[]), ["/a"]);
        assert_eq!(paths(9, &["default", "relay"], &["peer"]), ["/b"]);
        assert!(paths(9, &["default"], &["peer"]).is_empty());
    }

    #[test]
    fn totals_name_every_reason() {
        let list = Refusals::new();
        list.count(Refusal::Peer);
        list.count(Refusal::Peer);
        let totals = list.totals();
        assert_eq!(totals.len(), Refusal::REASONS.len());
        assert_eq!((totals["peer"], totals["mismatch"]), (2, 0));
    }

    #[test]
    fn a_view_has_the_shape_that_the_api_promises() {
        let shown = serde_json::to_value(view("/a", 1_795_500_000)).unwrap();
        assert_eq!(
            shown,
            serde_json::json!({
                "at": "2026-11-24T06:00:00.000Z",
                "first_at": "2026-11-24T06:00:00.000Z",
                "source": "default",
                "path": "/a",
                "peer": "192.0.2.1",
                "reason": "mismatch",
                "skew_seconds": null,
                "diagnosis": ["it is another key"],
                "facts": { "host": null, "user_agent": null, "parameters": [], "forwarded": false },
                "count": 1,
            })
        );
    }
}
