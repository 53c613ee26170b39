//! The admin listener: probes, metrics, and the API by which people find out
//! what became of events and send them again.
//!
//! `guard` decides who is let in; there is one file for each group of
//! endpoints, and `openapi` puts their descriptions together.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body as AxumBody;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use axum::middleware;
use axum::response::{IntoResponse, Response as AxumResponse};
use axum::routing::{Router, get};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Request, StatusCode, Version};
use jiff::Timestamp;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::time::timeout;
use tower::ServiceExt;
use tower_http::set_header::SetResponseHeaderLayer;
use tracing::warn;

use super::accept::{ConnectionLimits, Endpoint};
use super::auth::Access;
use super::connection::Connection;
use super::error::Rejection;
use super::page::session::Sessions;
use super::{AdminConfig, Readiness, Refusals, ServerMetrics, page};
use crate::clock::Clock;
use crate::dispatch::DispatchMetrics;
use crate::ingest::IngestMetrics;
use crate::mns::QueueMetrics;
use crate::request::{HandlerName, SourceName};
use crate::store::{Archive, Store};

mod asker;
mod events;
mod export;
mod guard;
mod handlers;
mod history;
mod import;
mod input;
mod metrics;
mod openapi;
pub(in crate::server) mod query;
mod redeliver;
mod refusals;
mod slowdown;
pub(in crate::server) mod stats;
mod tail;
pub(in crate::server) mod views;

pub use handlers::Lanes;
pub use metrics::AdminMetrics;
pub(in crate::server) use views::Time;

/// Few people and programs look in here; more may wait. A page that is open in
/// a browser takes one for its live tail, and those are bounded on their own,
/// so that half of these are always left for questions.
const CONNECTIONS_MAX: usize = 256;
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long one answer may take to begin, the store included …
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// … and where much is changed in many small commits.
const LONG_ANSWER_DEADLINE: Duration = Duration::from_secs(60);
const LONG_PATHS: [&str; 3] = ["/api/import", "/api/redeliver", "/redeliver"];

/// What OpenMetrics calls its text.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the admin listener answers. It can listen before the store is open:
/// `/livez` answers 200 then and everything else 503.
#[derive(Debug, Clone)]
pub struct Admin {
    router: Router,
}

/// What the admin listener shows and steers.
#[derive(Debug, Clone)]
pub struct AdminParts {
    /// Whether the service is ready; brings the store, the archive and the
    /// lanes when they are there.
    pub readiness: Arc<Readiness>,
    /// The last refusals.
    pub refusals: Arc<Refusals>,
    /// All series, for `/metrics`.
    pub registry: Arc<Registry>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What the public listener counts.
    pub server: ServerMetrics,
    /// What the line counts.
    pub ingest: IngestMetrics,
    /// What the queues count.
    pub queues: QueueMetrics,
    /// What dispatch counts.
    pub dispatch: DispatchMetrics,
    /// What the admin listener counts.
    pub metrics: AdminMetrics,
    /// The configured handlers, by name.
    pub handlers: Vec<HandlerInfo>,
    /// The configured sources, by name.
    pub sources: Vec<SourceInfo>,
    /// With less free on its disk, in bytes, the store purges early.
    pub disk_free_min: u64,
}

/// A configured handler.
#[derive(Debug, Clone)]
pub struct HandlerInfo {
    /// Its name.
    pub name: HandlerName,
    /// Its kind, as the configuration spells it.
    pub kind: &'static str,
}

/// A configured source.
#[derive(Debug, Clone)]
pub struct SourceInfo {
    /// Its name.
    pub name: SourceName,
    /// Its kind, as the configuration spells it.
    pub kind: &'static str,
}

/// What every endpoint here can reach.
pub(in crate::server) struct AdminState {
    pub(in crate::server) access: Access,
    pub(in crate::server) parts: AdminParts,
    pub(in crate::server) started_at: Timestamp,
    /// Who is signed in to the page.
    pub(in crate::server) sessions: Sessions,
    slowdown: slowdown::Slowdown,
    tails: Arc<tail::Tails>,
    exports: export::Places,
    imports: import::Places,
    last_events: stats::LastEvents,
}

impl AdminState {
    fn new(config: &AdminConfig, parts: AdminParts) -> Self {
        Self {
            access: Access::new(config),
            started_at: parts.clock.now(),
            sessions: Sessions::new(),
            slowdown: slowdown::Slowdown::new(),
            tails: tail::Tails::new(parts.metrics.clone(), Arc::clone(&parts.readiness)),
            exports: export::Places::default(),
            imports: import::Places::default(),
            last_events: stats::LastEvents::default(),
            parts,
        }
    }

    /// The current time.
    pub(in crate::server) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// The line's side of the store.
    pub(in crate::server) fn store(&self) -> Result<&Arc<dyn Store>, Rejection> {
        self.parts.readiness.store().ok_or(Rejection::NotReady)
    }

    /// The operator's side of the store.
    pub(in crate::server) fn archive(&self) -> Result<&Arc<dyn Archive>, Rejection> {
        self.parts.readiness.archive().ok_or(Rejection::NotReady)
    }

    /// A configured handler.
    pub(in crate::server) fn handler(&self, name: &str) -> Option<&HandlerInfo> {
        let mut handlers = self.parts.handlers.iter();
        handlers.find(|handler| handler.name.as_str() == name)
    }
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState")
            .field("access", &self.access)
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// The limits of this listener's connections.
    pub const LIMITS: ConnectionLimits = ConnectionLimits {
        head_deadline: HEAD_DEADLINE,
        keep_alive: KEEP_ALIVE,
        connections_max: CONNECTIONS_MAX,
    };

    /// The endpoints of the admin listener. The caller sees to it that a
    /// listener that is not on loopback has a token.
    pub fn new(config: &AdminConfig, parts: AdminParts) -> Self {
        let state = Arc::new(AdminState::new(config, parts));
        let no_forms = middleware::from_fn_with_state(Arc::clone(&state), guard::no_forms);
        let guarded = openapi::routes()
            .route_layer(no_forms)
            .route("/metrics", get(metrics))
            .fallback(no_such_path)
            .method_not_allowed_fallback(other_method)
            .layer(middleware::from_fn_with_state(
                Arc::clone(&state),
                guard::guard,
            ));
        let router = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .method_not_allowed_fallback(other_method)
            .merge(guarded)
            .merge(page::routes(&state))
            // Events are nobody's business but the asker's: no cache keeps
            // them, and no browser takes their text for anything else. What
            // pages load says itself how long it may be kept.
            .layer(SetResponseHeaderLayer::if_not_present(
                CACHE_CONTROL,
                HeaderValue::from_static("no-store"),
            ))
            .layer(SetResponseHeaderLayer::overriding(
                X_CONTENT_TYPE_OPTIONS,
                HeaderValue::from_static("nosniff"),
            ))
            .with_state(state);
        Self { router }
    }
}

impl Endpoint for Admin {
    type Body = AxumBody;
    type Answer = Pin<Box<dyn Future<Output = AxumResponse> + Send>>;

    fn call(&self, request: Request<Incoming>, connection: &Arc<Connection>) -> Self::Answer {
        let router = self.router.clone();
        let connection = Arc::clone(connection);
        let http1 = request.version() != Version::HTTP_2;
        let deadline = match LONG_PATHS.contains(&request.uri().path()) {
            true => LONG_ANSWER_DEADLINE,
            false => ANSWER_DEADLINE,
        };
        let read = Arc::new(AtomicBool::new(request.body().is_end_stream()));
        let mut request = request.map(|body| {
            AxumBody::new(ToItsEnd {
                body,
                read: Arc::clone(&read),
            })
        });
        request.extensions_mut().insert(Arc::clone(&connection));
        Box::pin(async move {
            let answer = timeout(deadline, router.oneshot(request));
            let mut answer = match asker::on_behalf_of(connection.peer(), answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(never)) => match never {},
                Err(_) => Rejection::StoreLate.into_response(),
            };
            // What of the body was not read is thrown away.
            if http1 && !read.load(Relaxed) {
                connection.answered_early();
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
            answer
        })
    }
}

/// A request's body that notes whether it was read to its end.
struct ToItsEnd {
    body: Incoming,
    read: Arc<AtomicBool>,
}

impl Body for ToItsEnd {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.read.store(true, Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn livez() -> &'static str {
    "alive\n"
}

async fn readyz(State(state): State<Arc<AdminState>>) -> (StatusCode, String) {
    let readiness = &state.parts.readiness;
    let mut lines = readiness.reasons();
    let status = if lines.is_empty() {
        lines.push("ready".to_owned());
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    lines.extend(readiness.told_troubles());
    (status, lines.join("\n") + "\n")
}

async fn metrics(State(state): State<Arc<AdminState>>) -> AxumResponse {
    let mut page = String::new();
    match text::encode(&mut page, &state.parts.registry) {
        Ok(()) => ([(CONTENT_TYPE, OPENMETRICS)], page).into_response(),
        Err(error) => {
            warn!(%error, "the metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn no_such_path(headers: HeaderMap) -> AxumResponse {
    page::problem(&headers, Rejection::NotFound)
}

/// The router says which methods there are.
async fn other_method() -> Rejection {
    Rejection::MethodNotAllowed { allow: None }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> AxumResponse {
        self.response().map(AxumBody::new)
    }
}
