//! The live tail: events as they are stored, for everybody who watches.
//!
//! One task reads the store for all viewers, and only while there is one. Each
//! viewer has a queue of its own, bounded in number and bytes; what does not
//! fit is counted and told, so that a stalled viewer holds up nobody.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response as AxumResponse};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use super::query::{FilterWords, Query};
use super::views::{EventView, Problem};
use super::{AdminMetrics, AdminState};
use crate::event::EventId;
use crate::server::connection::Connection;
use crate::server::error::Rejection;
use crate::server::{Readiness, Unready};
use crate::store::Archive;
use crate::store::archive::{EventFilter, Tail, TailPosition, contains_text};

/// Half of the connections: the other half is left for questions.
const VIEWERS_MAX: usize = 128;
/// How often the store is read.
const TICK: Duration = Duration::from_millis(200);
/// Events that are read each time; nobody reads more than 5,000 a second.
const EVENTS_MAX: u32 = 1_000;
/// What may wait for one viewer.
const FRAMES_MAX: usize = 256;
const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of bodies that are searched each time, for all viewers together.
const SEARCHED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that are searched before others get a turn.
const SEARCHED_AT_ONCE: usize = 1024 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events as they are stored, as server-sent events: `event` with an event as
/// `/api/events` shows it, `skipped` with `{"events":n}` where this viewer
/// could not keep up.
#[utoipa::path(
    get,
    path = "/api/tail",
    operation_id = "tail_events",
    tag = "events",
    params(FilterWords),
    responses(
        (status = 200, description = "Events from now on", body = String, content_type = "text/event-stream"),
        (status = 400, description = "A parameter cannot be read", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn tail(
    State(state): State<Arc<AdminState>>,
    Extension(connection): Extension<Arc<Connection>>,
    Query(words): Query<FilterWords>,
) -> Result<AxumResponse, Rejection> {
    let filter = words.filter(state.now())?;
    let watching = state.tails.watch(filter, state.archive()?).await?;
    let streaming = connection.streaming();
    let frames = stream::unfold((watching, streaming), async |(mut watching, streaming)| {
        let frame = watching.next().await?;
        Some((
            Ok::<_, Infallible>(frame.into_event()),
            (watching, streaming),
        ))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let mut answer = Sse::new(frames).keep_alive(keep_alive).into_response();
    // nginx would collect it otherwise.
    let unbuffered = HeaderValue::from_static("no");
    answer.headers_mut().insert("x-accel-buffering", unbuffered);
    Ok(answer)
}

/// Everybody who watches.
pub(super) struct Tails {
    inner: Mutex<Inner>,
    places: Arc<Semaphore>,
    metrics: AdminMetrics,
    readiness: Arc<Readiness>,
}

struct Inner {
    /// Who came since the last look.
    joining: Vec<Viewer>,
    /// Whether the task is there that takes them up.
    running: bool,
}

/// The task's end of a viewer.
struct Viewer {
    filter: EventFilter,
    frames: mpsc::Sender<Frame>,
    queued_bytes: Arc<AtomicUsize>,
    /// Events that did not fit and are still to be told.
    skipped: u64,
}

/// The connection's end of a viewer.
struct Watching {
    frames: mpsc::Receiver<Frame>,
    queued_bytes: Arc<AtomicUsize>,
    _place: OwnedSemaphorePermit,
}

/// What a viewer is told.
enum Frame {
    /// An event; its text is shared by all who see it.
    Event(EventId, Arc<str>),
    /// So many events are missing here.
    Skipped(u64),
}

impl Tails {
    pub(super) fn new(metrics: AdminMetrics, readiness: Arc<Readiness>) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                joining: Vec::new(),
                running: false,
            }),
            places: Arc::new(Semaphore::new(VIEWERS_MAX)),
            metrics,
            readiness,
        })
    }

    /// A new viewer, who sees what is stored from now on.
    async fn watch(
        self: &Arc<Self>,
        filter: EventFilter,
        archive: &Arc<dyn Archive>,
    ) -> Result<Watching, Rejection> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Rejection::Busy("as many watch as can: try again later"))?;
        let position = archive.tail(None, EVENTS_MAX).await?.position;
        let (sender, receiver) = mpsc::channel(FRAMES_MAX);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let mut inner = self.inner();
        inner.joining.push(Viewer {
            filter,
            frames: sender,
            queued_bytes: Arc::clone(&queued_bytes),
            skipped: 0,
        });
        if !inner.running {
            inner.running = true;
            let run = Arc::clone(self).run(Arc::clone(archive), position);
            tokio::spawn(run);
        }
        Ok(Watching {
            frames: receiver,
            queued_bytes,
            _place: place,
        })
    }

    /// Reads and shows until nobody watches any more.
    async fn run(self: Arc<Self>, archive: Arc<dyn Archive>, mut position: TailPosition) {
        let mut running = Running::new(&self);
        let mut viewers: Vec<Viewer> = Vec::new();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            viewers.append(&mut self.inner().joining);
            viewers.retain(|viewer| !viewer.frames.is_closed());
            self.metrics.set_viewers(viewers.len());
            if viewers.is_empty() && running.ends() {
                return;
            }
            match archive.tail(Some(position), EVENTS_MAX).await {
                Ok(tail) => {
                    position = tail.position;
                    self.show(&mut viewers, &tail).await;
                }
                // There will be nothing more to see.
                Err(_) if self.readiness.is(Unready::Stopping) => viewers.clear(),
                Err(error) => debug!(%error, "the tail could not be read"),
            }
        }
    }

    async fn show(&self, viewers: &mut [Viewer], tail: &Tail) {
        for viewer in &mut *viewers {
            viewer.skip(tail.skipped, &self.metrics);
        }
        let (mut searched, mut at_once) = (0, 0);
        for (event, body) in &tail.events {
            let mut json: Option<Arc<str>> = None;
            for viewer in &mut *viewers {
                if !viewer.filter.admits_head(event) {
                    continue;
                }
                if let Some(text) = &viewer.filter.text {
                    searched += body.len();
                    at_once += body.len();
                    if searched > SEARCHED_BYTES_MAX {
                        viewer.skip(1, &self.metrics);
                        continue;
                    }
                    if !contains_text(body, text.as_bytes()) {
                        continue;
                    }
                }
                let json = json.get_or_insert_with(|| {
                    let view = EventView::new(event);
                    serde_json::to_string(&view).unwrap_or_default().into()
                });
                viewer.offer(event.id, json, &self.metrics);
            }
            if at_once > SEARCHED_AT_ONCE {
                at_once = 0;
                tokio::task::yield_now().await;
            }
        }
        for viewer in viewers {
            viewer.tell_skipped();
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic cannot leave it half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees to it that the next viewer starts the task again, however it ended.
struct Running<'t> {
    tails: &'t Tails,
    ended: bool,
}

impl<'t> Running<'t> {
    fn new(tails: &'t Tails) -> Self {
        Self {
            tails,
            ended: false,
        }
    }

    /// Whether nobody came in the meantime; whoever comes from now on starts
    /// another task.
    fn ends(&mut self) -> bool {
        let mut inner = self.tails.inner();
        self.ended = inner.joining.is_empty();
        inner.running = !self.ended;
        self.ended
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let mut inner = self.tails.inner();
            inner.running = false;
            inner.joining.clear();
        }
    }
}

impl Viewer {
    fn skip(&mut self, events: u64, metrics: &AdminMetrics) {
        self.skipped += events;
        metrics.count_skipped(events);
    }

    /// Says how many events are missing, where that fits. What comes after
    /// them waits until it does.
    fn tell_skipped(&mut self) -> bool {
        if self.skipped > 0 && self.frames.try_send(Frame::Skipped(self.skipped)).is_ok() {
            self.skipped = 0;
        }
        self.skipped == 0
    }

    fn offer(&mut self, id: EventId, json: &Arc<str>, metrics: &AdminMetrics) {
        let queued = self.queued_bytes.fetch_add(json.len(), Relaxed) + json.len();
        let fits = queued <= FRAME_BYTES_MAX && self.tell_skipped();
        let frame = || Frame::Event(id, Arc::clone(json));
        if !fits || self.frames.try_send(frame()).is_err() {
            self.queued_bytes.fetch_sub(json.len(), Relaxed);
            self.skip(1, metrics);
        }
    }
}

impl Watching {
    async fn next(&mut self) -> Option<Frame> {
        let frame = self.frames.recv().await?;
        if let Frame::Event(_, json) = &frame {
            self.queued_bytes.fetch_sub(json.len(), Relaxed);
        }
        Some(frame)
    }
}

impl Frame {
    fn into_event(self) -> SseEvent {
        match self {
            Self::Event(id, json) => SseEvent::default()
                .event("event")
                .id(id.to_string())
                .data(&*json),
            Self::Skipped(events) => SseEvent::default()
                .event("skipped")
                .data(format!(r#"{{"events":{events}}}"#)),
        }
    }
}
