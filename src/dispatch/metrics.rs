//! What dispatch counts and measures, per handler.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::delivery::Verdict;
use crate::request::HandlerName;
use crate::store::Backlog;
use crate::throttle::Throttle;
use crate::trace::Tracer;

/// Lines about failed attempts of one handler …
const FAILURE_LINES_MAX: u32 = 10;
/// … in this span; the rest are counted.
const FAILURE_SPAN: Duration = Duration::from_secs(1);

/// So many handlers that are not configured any more have series of what waits
/// for them; nobody configures more, and an import may bring any number.
const GONE_MAX: usize = 100;

type HandlerLabel = [(&'static str, String); 1];
type ResultLabels = [(&'static str, String); 2];

/// The series of all configured handlers, resolved once.
#[derive(Debug, Clone)]
pub struct DispatchMetrics {
    handlers: Arc<BTreeMap<HandlerName, HandlerMetrics>>,
    deliveries: Family<ResultLabels, Counter>,
    seconds: Family<HandlerLabel, Histogram, fn() -> Histogram>,
    pending: Family<HandlerLabel, Gauge>,
    oldest: Family<HandlerLabel, Gauge>,
    dead: Family<HandlerLabel, Gauge>,
    /// The handlers that are not configured and have series now.
    gone: Arc<Mutex<BTreeSet<HandlerName>>>,
    tracer: Option<Tracer>,
}

/// The series of one handler.
#[derive(Debug)]
pub struct HandlerMetrics {
    /// How long attempts took.
    pub seconds: Histogram,
    /// Lets a few failures a second into the log.
    pub log: Throttle,
    succeeded: Counter,
    retried: Counter,
    dead: Counter,
    stopped: Counter,
    pending_deliveries: Gauge,
    oldest_pending_seconds: Gauge,
    dead_deliveries: Gauge,
}

/// What a handler's attempts led to since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Those that worked.
    pub succeeded: u64,
    /// Those that failed, for good or not.
    pub failed: u64,
}

impl HandlerMetrics {
    /// Counts what an attempt led to.
    pub fn count(&self, verdict: Verdict) {
        match verdict {
            Verdict::Succeeded => self.succeeded.inc(),
            Verdict::RetryAt(_) => self.retried.inc(),
            Verdict::Dead => self.dead.inc(),
            Verdict::Stopped | Verdict::Returned => self.stopped.inc(),
        };
    }
}

fn attempt_histogram() -> Histogram {
    Histogram::new([
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
        300.0,
    ])
}

fn age_of_oldest(waiting: &Backlog, now: Timestamp) -> i64 {
    waiting
        .oldest
        .map_or(0, |oldest| now.duration_since(oldest).as_secs().max(0))
}

impl DispatchMetrics {
    /// The series of these handlers. Others get one only for what the store holds
    /// for them, see [`set_backlog`](Self::set_backlog).
    pub fn new<'a>(names: impl Iterator<Item = &'a HandlerName>) -> Self {
        let mut metrics = Self {
            handlers: Arc::default(),
            deliveries: Family::default(),
            seconds: Family::new_with_constructor(attempt_histogram),
            pending: Family::default(),
            oldest: Family::default(),
            dead: Family::default(),
            gone: Arc::default(),
            tracer: None,
        };
        let handlers = names
            .map(|name| (name.clone(), metrics.resolve(name)))
            .collect();
        metrics.handlers = Arc::new(handlers);
        metrics
    }

    /// The same series, and a span for each attempt by `tracer`.
    #[must_use]
    pub fn with_tracer(mut self, tracer: Option<Tracer>) -> Self {
        self.tracer = tracer;
        self
    }

    /// Who makes the spans of attempts, where anybody does.
    pub fn tracer(&self) -> Option<&Tracer> {
        self.tracer.as_ref()
    }

    fn resolve(&self, name: &HandlerName) -> HandlerMetrics {
        let handler = || [("handler", name.to_string())];
        let result = |result: &str| {
            self.deliveries
                .get_or_create(&[("handler", name.to_string()), ("result", result.into())])
                .clone()
        };
        HandlerMetrics {
            seconds: self.seconds.get_or_create(&handler()).clone(),
            log: Throttle::new(FAILURE_LINES_MAX, FAILURE_SPAN),
            succeeded: result("succeeded"),
            retried: result("failed"),
            dead: result("dead"),
            stopped: result("stopped"),
            pending_deliveries: self.pending.get_or_create(&handler()).clone(),
            oldest_pending_seconds: self.oldest.get_or_create(&handler()).clone(),
            dead_deliveries: self.dead.get_or_create(&handler()).clone(),
        }
    }

    /// The series of a configured handler.
    pub fn of(&self, name: &HandlerName) -> &HandlerMetrics {
        self.handlers
            .get(name)
            .expect("every lane's name was given to `new`")
    }

    /// The attempts of a configured handler since the start.
    pub fn attempts(&self, name: &HandlerName) -> Option<Attempts> {
        let handler = self.handlers.get(name)?;
        Some(Attempts {
            succeeded: handler.succeeded.get(),
            failed: handler.retried.get() + handler.dead.get(),
        })
    }

    /// Sets the gauges of the backlog: of the configured handlers, and of the
    /// first hundred of those that are gone and have something left in the
    /// store, which nobody else would tell.
    pub fn set_backlog(&self, backlog: &BTreeMap<HandlerName, Backlog>, now: Timestamp) {
        for (name, handler) in self.handlers.iter() {
            let waiting = backlog.get(name).copied().unwrap_or_default();
            let age = age_of_oldest(&waiting, now);
            handler
                .pending_deliveries
                .set(waiting.unfinished.cast_signed());
            handler.dead_deliveries.set(waiting.dead.cast_signed());
            handler.oldest_pending_seconds.set(age);
        }
        let left = |waiting: &Backlog| waiting.unfinished > 0 || waiting.dead > 0;
        let gone: BTreeMap<&HandlerName, &Backlog> = backlog
            .iter()
            .filter(|(name, waiting)| !self.handlers.contains_key(*name) && left(waiting))
            .take(GONE_MAX)
            .collect();
        let mut shown = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        for name in shown.iter().filter(|name| !gone.contains_key(*name)) {
            let label = [("handler", name.to_string())];
            self.pending.remove(&label);
            self.oldest.remove(&label);
            self.dead.remove(&label);
        }
        for (name, waiting) in &gone {
            let label = [("handler", name.to_string())];
            let set = |family: &Family<HandlerLabel, Gauge>, value: i64| {
                family.get_or_create(&label).set(value);
            };
            set(&self.pending, waiting.unfinished.cast_signed());
            set(&self.oldest, age_of_oldest(waiting, now));
            set(&self.dead, waiting.dead.cast_signed());
        }
        *shown = gone.into_keys().cloned().collect();
    }

    /// Makes the series known to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "deliveries",
            "Attempts that ended, by result: succeeded, failed (tried again), dead, stopped",
            self.deliveries.clone(),
        );
        registry.register(
            "delivery_seconds",
            "How long attempts took",
            self.seconds.clone(),
        );
        registry.register(
            "pending_deliveries",
            "Unfinished deliveries, those at work included",
            self.pending.clone(),
        );
        registry.register(
            "oldest_pending_seconds",
            "Age of the oldest event with an unfinished delivery",
            self.oldest.clone(),
        );
        registry.register(
            "dead_deliveries",
            "Deliveries that were given up and not redelivered",
            self.dead.clone(),
        );
    }
}
