//! The web page of the admin listener.
//!
//! Everything is made on the server, works without a script, and asks nobody
//! else for anything: the policy that goes with every page forbids it. What a
//! page shows is escaped by the templates, since bodies are hostile input. It
//! reads through the same state as the API, not through the API.

use std::sync::Arc;

use answer::Problem;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::HeaderMap;
use axum::http::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_FRAME_OPTIONS,
};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{Router, get, post};
use tower_http::set_header::SetResponseHeaderLayer;

use super::admin::AdminState;
use super::error::Rejection;

mod again;
mod answer;
mod assets;
mod attempts;
mod attention;
mod body;
mod chart;
mod door;
mod event;
mod events;
mod forms;
mod layout;
mod model;
mod overview;
mod read;
mod refusals;
pub(super) mod session;
mod show;
mod standing;
mod subject;
mod units;

/// What a page may load and do: what is ours, and nothing written into it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// No form here is larger.
const FORM_BYTES_MAX: usize = 16 * 1024;

/// What goes with every page.
fn fixed() -> [(HeaderName, HeaderValue); 3] {
    [
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        // Nothing to other sites; to ourselves the origin, without which a
        // browser would send forms from "null".
        (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    ]
}

/// Why there is nothing: a page for people, problem details for programs.
pub(super) fn problem(headers: &HeaderMap, rejection: Rejection) -> Response {
    if !answer::is_for_people(headers) {
        return rejection.into_response();
    }
    let mut page = Problem(rejection).into_response();
    page.headers_mut().extend(fixed());
    page
}

/// The way to the sign-in page for people who are not signed in and look at
/// something that is no page; `None` for programs.
pub(super) fn door(request: &Request) -> Option<Response> {
    let looks = request.method().is_safe() && answer::is_for_people(request.headers());
    looks.then(|| door::to_the_door(request))
}

/// The pages, their forms, and what they load.
pub(super) fn routes(state: &Arc<AdminState>) -> Router<Arc<AdminState>> {
    let [policy, referrer, frames] =
        fixed().map(|(name, value)| SetResponseHeaderLayer::overriding(name, value));
    Router::new()
        .route("/", get(show::overview))
        .route("/find", get(show::find))
        .route("/events", get(show::events))
        .route("/events/{id}", get(show::event))
        .route("/events/{id}/redeliver", post(forms::redeliver))
        .route("/media/{id}", get(show::media))
        .route("/job/{id}", get(show::job))
        .route("/refusals", get(show::refusals))
        .route("/redeliver", get(show::again).post(forms::redeliver_many))
        .route("/handlers/{name}/pause", post(forms::pause))
        .route("/handlers/{name}/resume", post(forms::resume))
        .route(
            "/handlers/{name}/discard",
            get(show::discard).post(forms::discard),
        )
        .route("/logout", post(forms::sign_out))
        .layer(middleware::from_fn_with_state(
            Arc::clone(state),
            door::guard,
        ))
        .route("/login", get(door::show).post(door::sign_in))
        .route("/assets/{hash}/{name}", get(assets::get))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(policy)
        .layer(referrer)
        .layer(frames)
}
