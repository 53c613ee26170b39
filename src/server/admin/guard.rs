//! Who is let in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request as AxumRequest, State};
use axum::middleware::Next;
use axum::response::Response as AxumResponse;
use tracing::debug;

use super::AdminState;
use crate::server::auth::{self, Denied};
use crate::server::connection::Connection;
use crate::server::error::Rejection;
use crate::server::page;

/// Lets nobody in who may not be, and nobody before the store is open.
pub(super) async fn guard(
    State(state): State<Arc<AdminState>>,
    request: AxumRequest,
    next: Next,
) -> Result<AxumResponse, Rejection> {
    if state.parts.readiness.store().is_none() {
        return Err(Rejection::NotReady);
    }
    let connection = request.extensions().get::<Arc<Connection>>().cloned();
    let (uri, headers) = (request.uri(), request.headers());
    let mut session = None;
    let verdict = match state.access.check(uri, headers) {
        // Pages read the live tail and fetch bodies with the cookie that they
        // have. What changes something wants a token, or a form of a page.
        Err(Denied::NoToken) if request.method().is_safe() => {
            session = state.sessions.of(headers, Instant::now());
            session.as_ref().map(|_| ()).ok_or(Denied::NoToken)
        }
        verdict => verdict,
    };
    let verdict = verdict.and_then(|()| auth::check_origin(request.method(), uri, headers));
    if let Err(denied) = verdict {
        if denied == Denied::NoToken
            && let Some(door) = page::door(&request)
        {
            return Ok(door);
        }
        let peer = connection.map(|connection| connection.peer());
        return Err(state.deny(denied, peer).await);
    }
    // Held until the answer: who was let in is not closed to make room.
    let _working = connection.map(|connection| connection.working());
    let answer = next.run(request).await;
    Ok(match session {
        Some(session) => answer.map(|body| state.sessions.bound(&session, body)),
        None => answer,
    })
}

/// Refuses changes that a form could have sent. Asked only where the path and
/// the method are known: all else is not there in any form.
pub(super) async fn no_forms(
    State(state): State<Arc<AdminState>>,
    request: AxumRequest,
    next: Next,
) -> Result<AxumResponse, Rejection> {
    if let Err(denied) = auth::check_json(request.method(), request.headers()) {
        let connection = request.extensions().get::<Arc<Connection>>();
        let peer = connection.map(|connection| connection.peer());
        return Err(state.deny(denied, peer).await);
    }
    Ok(next.run(request).await)
}

impl AdminState {
    /// Counts who was not let in, and slows the answer down where it was for a
    /// wrong token.
    pub(in crate::server) async fn deny(
        &self,
        denied: Denied,
        peer: Option<SocketAddr>,
    ) -> Rejection {
        debug!(?peer, reason = %denied, "admin request denied");
        self.parts.metrics.count_denied(denied);
        if denied == Denied::WrongToken
            && let Err(rejection) = self.slowdown.wrong_token().await
        {
            return rejection;
        }
        denied.into()
    }
}
