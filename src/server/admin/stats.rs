//! What happens right now, in numbers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::AdminState;
use super::query::{self, Params, Query};
use super::views::{Problem, Time};
use crate::event::Outcome;
use crate::request::SourceName;
use crate::server::activity::{MINUTES, MinuteActivity};
use crate::server::error::Rejection;
use crate::store::archive::{EventFilter, MinuteCount, Page, StoreSize};

const MINUTES_DEFAULT: u32 = 60;
const MINUTES_MAX: u32 = MINUTES as u32;
/// Rows of `events` at the most: who is authentic may still invent types.
const EVENT_ROWS_MAX: usize = 10_000;

/// How far back.
#[derive(Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StatsParams {
    /// Minutes, the current one included; 60 where it is not given.
    #[param(minimum = 1, maximum = 1440)]
    minutes: Option<u32>,
}

impl Params for StatsParams {
    const NAMES: &'static [&'static str] = &["minutes"];

    fn take(&mut self, name: &str, value: String) -> Result<bool, Rejection> {
        if name != "minutes" {
            return Ok(false);
        }
        let minutes = query::number(name, &value, (1, MINUTES_MAX))?;
        query::set(&mut self.minutes, name, minutes)?;
        Ok(true)
    }
}

/// What happens right now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Stats)]
pub(in crate::server) struct StatsView {
    /// The service's time.
    #[schema(value_type = String, format = DateTime)]
    pub(in crate::server) now: Time,
    /// When this process started.
    #[schema(value_type = String, format = DateTime)]
    pub(in crate::server) started_at: Time,
    /// The service's version.
    pub(in crate::server) version: &'static str,
    /// Whether it takes callbacks and commits work.
    pub(in crate::server) ready: bool,
    /// Why not, and what is wrong with single sources.
    pub(in crate::server) reasons: Vec<String>,
    /// What the callback endpoint answered, minute by minute since the start,
    /// the current minute last.
    pub(in crate::server) acks: Vec<AckMinute>,
    /// Events stored, by minute, source, type and outcome, oldest first. Of
    /// more than 10,000 rows the newest.
    pub(in crate::server) events: Vec<EventMinute>,
    /// The configured sources, by name.
    pub(in crate::server) sources: Vec<SourceView>,
    /// How large the store is.
    pub(in crate::server) store: SizeView,
}

/// What the callback endpoint answered in one minute.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::server) struct AckMinute {
    /// When the minute began.
    #[schema(value_type = String, format = DateTime)]
    pub(in crate::server) minute: Time,
    /// Requests answered with 200.
    pub(in crate::server) acked: u64,
    /// Requests turned away because of their sender.
    pub(in crate::server) refused: u64,
    /// Requests answered with 503.
    pub(in crate::server) unavailable: u64,
    /// Half of the verified requests were answered within this, in
    /// milliseconds; within about 3 %.
    #[schema(required)]
    pub(in crate::server) p50_ms: Option<f64>,
    /// 99 % of them were.
    #[schema(required)]
    pub(in crate::server) p99_ms: Option<f64>,
    /// All of them were.
    #[schema(required)]
    pub(in crate::server) max_ms: Option<f64>,
}

/// Events of one minute that are alike.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::server) struct EventMinute {
    /// When the minute began.
    #[schema(value_type = String, format = DateTime)]
    pub(in crate::server) minute: Time,
    /// Their source.
    #[schema(value_type = String)]
    pub(in crate::server) source: SourceName,
    /// Their type.
    pub(in crate::server) r#type: String,
    /// Their outcome.
    pub(in crate::server) outcome: Outcome,
    /// How many there were.
    pub(in crate::server) events: u64,
}

/// A configured source.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Source)]
pub(in crate::server) struct SourceView {
    /// Its name.
    #[schema(value_type = String)]
    pub(in crate::server) name: SourceName,
    /// Its kind.
    #[schema(value_type = String)]
    pub(in crate::server) kind: &'static str,
    /// When its last event was stored.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub(in crate::server) last_event_at: Option<Time>,
    /// Requests turned away since the start of the process.
    pub(in crate::server) refusals: u64,
    /// Our clock minus the sender's, of the last authentic request since the
    /// start of the process.
    #[schema(required)]
    pub(in crate::server) skew_seconds: Option<i64>,
    /// Age of the oldest message of a queue's last batch.
    #[schema(required)]
    pub(in crate::server) lag_seconds: Option<f64>,
}

/// How large the store is, in bytes.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = StoreSize)]
pub(in crate::server) struct SizeView {
    /// The database file.
    pub(in crate::server) file_bytes: u64,
    /// What of it is in use.
    pub(in crate::server) used_bytes: u64,
    /// The log beside it.
    pub(in crate::server) wal_bytes: u64,
    /// What is free on its disk.
    pub(in crate::server) disk_free_bytes: u64,
    /// With less free than this finished events are removed early
    /// (`store.disk_free_min`).
    pub(in crate::server) disk_free_min_bytes: u64,
}

/// What happens right now, in numbers.
#[utoipa::path(
    get,
    path = "/api/stats",
    operation_id = "get_stats",
    tag = "service",
    params(StatsParams),
    responses(
        (status = 200, description = "The numbers", body = StatsView),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn stats(
    State(state): State<Arc<AdminState>>,
    Query(params): Query<StatsParams>,
) -> Result<axum::Json<StatsView>, Rejection> {
    let minutes = params.minutes.unwrap_or(MINUTES_DEFAULT);
    Ok(axum::Json(state.stats(minutes).await?))
}

/// When each source's last event before this start was stored, once it was
/// looked up.
#[derive(Debug, Default)]
pub(super) struct LastEvents(Mutex<HashMap<SourceName, Option<Timestamp>>>);

impl AdminState {
    /// The numbers of the last `minutes`.
    pub(in crate::server) async fn stats(&self, minutes: u32) -> Result<StatsView, Rejection> {
        let now = self.now();
        let archive = self.archive()?;
        let since = now - Duration::from_secs(60 * u64::from(minutes.saturating_sub(1)));
        let since = Timestamp::from_second(since.as_second().div_euclid(60) * 60)
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let mut counts = archive.minutes(since).await?;
        counts.sort_by_key(|count| count.minute);
        let left_out = counts.len().saturating_sub(EVENT_ROWS_MAX);
        let size = archive.size().await?;
        let readiness = &self.parts.readiness;
        let mut reasons = readiness.reasons();
        let ready = reasons.is_empty();
        reasons.extend(readiness.told_troubles());
        Ok(StatsView {
            now: Time(now),
            started_at: Time(self.started_at),
            version: env!("CARGO_PKG_VERSION"),
            ready,
            reasons,
            acks: self.acks(now, minutes),
            events: counts
                .into_iter()
                .skip(left_out)
                .map(EventMinute::new)
                .collect(),
            sources: self.sources().await?,
            store: SizeView::new(size, self.parts.disk_free_min),
        })
    }

    /// The minutes since the start.
    fn acks(&self, now: Timestamp, minutes: u32) -> Vec<AckMinute> {
        let all = self.parts.server.activity().last(now, minutes as usize);
        let started = self.started_at.as_second().div_euclid(60) * 60;
        all.into_iter()
            .filter(|minute| minute.minute.as_second() >= started)
            .map(AckMinute::new)
            .collect()
    }

    /// The configured sources, by name.
    pub(in crate::server) async fn sources(&self) -> Result<Vec<SourceView>, Rejection> {
        let mut sources = Vec::with_capacity(self.parts.sources.len());
        for source in &self.parts.sources {
            sources.push(SourceView {
                name: source.name.clone(),
                kind: source.kind,
                last_event_at: self.last_event(&source.name).await?.map(Time),
                refusals: self.parts.server.refusals_of(source.name.as_str()),
                skew_seconds: self.parts.ingest.skew_seconds(&source.name),
                lag_seconds: self.parts.queues.lag_seconds(&source.name),
            });
        }
        Ok(sources)
    }

    async fn last_event(&self, source: &SourceName) -> Result<Option<Timestamp>, Rejection> {
        if let Some(at) = self.parts.ingest.last_event(source) {
            return Ok(Some(at));
        }
        let known = self.last_events.known().get(source).copied();
        if let Some(at) = known {
            return Ok(at);
        }
        let filter = EventFilter {
            sources: Some(vec![source.clone()]),
            ..EventFilter::default()
        };
        let newest = Page {
            limit: 1,
            after: None,
        };
        let found = self.archive()?.events(&filter, newest).await?;
        let at = found.events.first().map(|event| event.received_at);
        // A search that ran out of time is asked for again.
        if at.is_some() || found.next.is_none() {
            self.last_events.known().insert(source.clone(), at);
        }
        Ok(at)
    }
}

impl LastEvents {
    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<SourceName, Option<Timestamp>>> {
        // A panic cannot leave the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AckMinute {
    fn new(minute: MinuteActivity) -> Self {
        let millis = |took: Duration| took.as_secs_f64() * 1_000.0;
        Self {
            minute: Time(minute.minute),
            acked: minute.acked,
            refused: minute.refused,
            unavailable: minute.unavailable,
            p50_ms: minute.p50.map(millis),
            p99_ms: minute.p99.map(millis),
            max_ms: minute.max.map(millis),
        }
    }
}

impl EventMinute {
    fn new(count: MinuteCount) -> Self {
        Self {
            minute: Time(count.minute),
            source: count.source,
            r#type: count.event_type,
            outcome: count.outcome,
            events: count.events,
        }
    }
}

impl SizeView {
    fn new(size: StoreSize, disk_free_min_bytes: u64) -> Self {
        Self {
            file_bytes: size.file_bytes,
            used_bytes: size.used_bytes,
            wal_bytes: size.wal_bytes,
            disk_free_bytes: size.disk_free_bytes,
            disk_free_min_bytes,
        }
    }
}
