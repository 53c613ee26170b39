//! The admin listener: probes, metrics, and what became of an event.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body as AxumBody;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request as AxumRequest, State};
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response as AxumResponse};
use axum::routing::{Router, get};
use hyper::body::{Body, Incoming};
use hyper::{Request, StatusCode, Version};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::time::timeout;
use tower::ServiceExt;
use tower_http::set_header::SetResponseHeaderLayer;
use tracing::{debug, warn};

use super::accept::{ConnectionLimits, Endpoint};
use super::auth::Access;
use super::connection::Connection;
use super::error::Rejection;
use super::history::HistoryView;
use super::{AdminConfig, Readiness, Refusals, refusal};
use crate::event::EventId;
use crate::store::{History, Store, StoreError};

/// Few people and programs look in here; more may wait.
const CONNECTIONS_MAX: usize = 128;
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long one answer may take, the store included.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// What OpenMetrics calls its text.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the admin listener answers. It can listen before the store is open:
/// `/livez` answers 200 then and everything else 503.
#[derive(Debug, Clone)]
pub struct Admin {
    router: Router,
}

#[derive(Debug)]
struct AdminState {
    access: Access,
    readiness: Arc<Readiness>,
    registry: Arc<Registry>,
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
    pub fn new(
        config: &AdminConfig,
        readiness: Arc<Readiness>,
        registry: Arc<Registry>,
        refusals: Arc<Refusals>,
    ) -> Self {
        let state = Arc::new(AdminState {
            access: Access::new(config),
            readiness,
            registry,
        });
        let guarded = Router::new()
            .route("/metrics", get(metrics))
            .route("/api/events/{id}", get(event))
            .route(
                "/api/refusals",
                get(refusal::api::refusals).with_state(refusals),
            )
            .fallback(no_such_path)
            .method_not_allowed_fallback(only_get)
            .layer(middleware::from_fn_with_state(Arc::clone(&state), guard));
        let router = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .method_not_allowed_fallback(only_get)
            .merge(guarded)
            // Events are nobody's business but the asker's: no cache keeps
            // them, and no browser takes their text for anything else.
            .layer(SetResponseHeaderLayer::overriding(
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
        // No endpoint here reads a body; one that comes is thrown away.
        let early = http1 && !request.body().is_end_stream();
        let mut request = request.map(AxumBody::new);
        request.extensions_mut().insert(Arc::clone(&connection));
        Box::pin(async move {
            let answer = timeout(ANSWER_DEADLINE, router.oneshot(request));
            let mut answer = match answer.await {
                Ok(Ok(answer)) => answer,
                Ok(Err(never)) => match never {},
                Err(_) => Rejection::StoreLate.into_response(),
            };
            if early {
                connection.answered_early();
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
            answer
        })
    }
}

/// Lets nobody in who may not be, and nobody before the store is open.
async fn guard(
    State(state): State<Arc<AdminState>>,
    request: AxumRequest,
    next: Next,
) -> Result<AxumResponse, Rejection> {
    if state.readiness.store().is_none() {
        return Err(Rejection::NotReady);
    }
    let verdict = state.access.check(request.uri(), request.headers());
    let connection = request.extensions().get::<Arc<Connection>>().cloned();
    if let Err(denied) = verdict {
        let peer: Option<SocketAddr> = connection.map(|connection| connection.peer());
        debug!(?peer, reason = %denied, "admin request denied");
        return Err(denied.into());
    }
    // Held until the answer: who was let in is not closed to make room.
    let _working = connection.map(|connection| connection.working());
    Ok(next.run(request).await)
}

async fn livez() -> &'static str {
    "alive\n"
}

async fn readyz(State(state): State<Arc<AdminState>>) -> (StatusCode, String) {
    let mut lines = state.readiness.reasons();
    let status = if lines.is_empty() {
        lines.push("ready".to_owned());
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    lines.extend(state.readiness.told_troubles());
    (status, lines.join("\n") + "\n")
}

async fn metrics(State(state): State<Arc<AdminState>>) -> AxumResponse {
    let mut page = String::new();
    match text::encode(&mut page, &state.registry) {
        Ok(()) => ([(CONTENT_TYPE, OPENMETRICS)], page).into_response(),
        Err(error) => {
            warn!(%error, "the metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn event(
    State(state): State<Arc<AdminState>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<AxumResponse, Rejection> {
    let Ok(Path(id)) = id else {
        return Err(Rejection::NotFound);
    };
    let store = state.readiness.store().ok_or(Rejection::NotReady)?;
    let history = find(store, &id).await?.ok_or(Rejection::NotFound)?;
    Ok(axum::Json(HistoryView::new(&history)).into_response())
}

/// What the store knows of `id`, which may be any text.
async fn find(store: &Arc<dyn Store>, id: &str) -> Result<Option<History>, StoreError> {
    let Some(known) = id
        .parse::<EventId>()
        .ok()
        .filter(|parsed| parsed.to_string() == id)
    else {
        return Ok(None);
    };
    store.history(known).await
}

async fn no_such_path() -> Rejection {
    Rejection::NotFound
}

async fn only_get() -> Rejection {
    Rejection::MethodNotAllowed { allow: "GET, HEAD" }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> AxumResponse {
        self.response().map(AxumBody::new)
    }
}
