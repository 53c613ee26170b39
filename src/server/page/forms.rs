//! What is changed: one function for each form. A form is taken only through
//! [`Sent`], which checks that a page of ours wrote it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Form, FromRequest, Path, Request, State};
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse, Response};

use super::again;
use super::answer::{Problem, see};
use super::door::Reader;
use super::events::Search;
use super::layout::{self, Notice};
use super::read;
use super::session::SessionId;
use super::show::event_id;
use super::units;
use crate::request::HandlerName;
use crate::server::admin::AdminState;
use crate::server::auth::Denied;
use crate::server::body::BodyError;
use crate::server::error::Rejection;
use crate::store::archive::{Page, Redeliver, Redelivered, Redelivery};

type Shared = State<Arc<AdminState>>;

/// The fields of a form of ours.
#[derive(Debug)]
pub(super) struct Sent {
    fields: Vec<(String, String)>,
    reader: Reader,
}

impl FromRequest<Arc<AdminState>> for Sent {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Arc<AdminState>) -> Result<Self, Problem> {
        let reader = request.extensions().get::<Reader>().cloned();
        let reader = reader.ok_or(Rejection::Denied(Denied::NoToken))?;
        let form = Form::<Vec<(String, String)>>::from_request(request, state).await;
        let Form(fields) = form.map_err(|_| Rejection::Body(BodyError::Broken))?;
        let this = Self { fields, reader };
        let token = this.first("csrf").unwrap_or_default();
        if state
            .sessions
            .is_form_token(this.reader.session.as_ref(), token)
        {
            Ok(this)
        } else {
            Err(Problem(state.deny(Denied::ForgedForm, None).await))
        }
    }
}

impl Sent {
    fn first(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str, bounds: (u32, u32)) -> Result<u32, Rejection> {
        let number = self.first(name).and_then(|text| text.trim().parse().ok());
        number
            .filter(|number| (bounds.0..=bounds.1).contains(number))
            .ok_or_else(|| {
                Rejection::BadRequest(format!(
                    "`{name}`: write a number from {} to {}",
                    bounds.0, bounds.1
                ))
            })
    }

    /// The configured handlers that were ticked.
    fn handlers(&self, state: &AdminState, field: &str) -> Result<Vec<HandlerName>, Rejection> {
        let ticked = self.fields.iter().filter(|(name, _)| name == field);
        let known = |(_, name): &(String, String)| {
            let handler = state.handler(name).map(|handler| handler.name.clone());
            handler.ok_or_else(|| Rejection::BadRequest(format!("no handler is called {name}")))
        };
        ticked.map(known).collect()
    }
}

/// `POST /events/{id}/redeliver`.
pub(super) async fn redeliver(
    State(state): Shared,
    Path(id): Path<String>,
    sent: Sent,
) -> Result<Response, Problem> {
    let id = event_id(&id).ok_or(Rejection::NotFound)?;
    state
        .store()?
        .history(id)
        .await?
        .ok_or(Rejection::NotFound)?;
    let here = format!("/events/{id}");
    let handlers = sent.handlers(&state, "handler")?;
    if handlers.is_empty() {
        return Ok(see(&layout::address(&here, [("done", "nothing")])));
    }
    let now = state.now();
    let what = Redeliver {
        events: Redelivery::One(id),
        handlers: Some(handlers),
        dry_run: false,
        first_due: now,
        spacing: Duration::ZERO,
    };
    let done = state.redeliver(&what).await?;
    Ok(see(&redelivered(&here, &[], done)))
}

/// `POST /redeliver`.
pub(super) async fn redeliver_many(State(state): Shared, sent: Sent) -> Result<Response, Problem> {
    const OWN: [&str; 4] = ["csrf", "to", "limit", "rate"];
    let limit = sent.number("limit", (1, again::LIMIT_MAX))?;
    let rate = sent.number("rate", (1, again::RATE_MAX))?;
    let handlers = sent.handlers(&state, "to")?;
    let asked = sent
        .fields
        .iter()
        .filter(|(name, _)| !OWN.contains(&name.as_str()));
    let search = Search::new(asked.cloned());
    if search.is_everything() {
        return Err(Rejection::BadRequest("no filter is given".to_owned()).into());
    }
    let now = state.now();
    let page = Page { limit, after: None };
    let what = Redeliver {
        events: Redelivery::Matching(Box::new(read::filter(&search, now)?), page),
        handlers: (!handlers.is_empty()).then_some(handlers),
        dry_run: false,
        first_due: now,
        spacing: Duration::from_secs(1) / rate,
    };
    let done = state.redeliver(&what).await?;
    let pairs: Vec<_> = search.pairs().collect();
    Ok(see(&redelivered("/events", &pairs, done)))
}

fn redelivered(path: &str, pairs: &[(&str, &str)], done: Redelivered) -> String {
    let (deliveries, running) = (done.deliveries.to_string(), done.running.to_string());
    let done = [
        ("done", "redelivered"),
        ("n", deliveries.as_str()),
        ("running", running.as_str()),
    ];
    layout::address(path, pairs.iter().copied().chain(done))
}

/// `POST /handlers/{name}/pause`.
pub(super) async fn pause(state: Shared, name: Path<String>, _: Sent) -> Result<Response, Problem> {
    set_paused(state, name, true).await
}

/// `POST /handlers/{name}/resume`.
pub(super) async fn resume(
    state: Shared,
    name: Path<String>,
    _: Sent,
) -> Result<Response, Problem> {
    set_paused(state, name, false).await
}

async fn set_paused(
    State(state): Shared,
    Path(name): Path<String>,
    paused: bool,
) -> Result<Response, Problem> {
    state.set_paused(&name, paused).await?;
    Ok(see("/"))
}

/// `POST /handlers/{name}/discard`.
pub(super) async fn discard(
    State(state): Shared,
    Path(name): Path<String>,
    _: Sent,
) -> Result<Response, Problem> {
    let (_, given_up) = state.discard(&name).await?;
    let given_up = given_up.to_string();
    Ok(see(&layout::address(
        "/",
        [("done", "discarded"), ("n", &given_up)],
    )))
}

/// `POST /logout`.
pub(super) async fn sign_out(State(state): Shared, sent: Sent) -> Response {
    if let Some(session) = &sent.reader.session {
        state.sessions.end(session);
    }
    ([(SET_COOKIE, SessionId::no_cookie())], see("/login")).into_response()
}

/// What the form before this page did. Only numbers come from the address, so
/// that nobody can put words here.
pub(super) fn notice(pairs: &[(String, String)]) -> Option<Notice> {
    let value = |name: &str| {
        let found = pairs.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    };
    let number = |name: &str| {
        value(name)
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let (text, good) = match value("done")? {
        "redelivered" => {
            let mut text = units::counted(number("n"), "delivery begins", "deliveries begin");
            text.push_str(" a new round.");
            if number("running") > 0 {
                let left = units::counted(number("running"), "delivery is", "deliveries are");
                text.push_str(&format!(" {left} at work and left alone."));
            }
            (text, number("n") > 0)
        }
        "discarded" => {
            let text = units::counted(number("n"), "delivery was", "deliveries were");
            (format!("{text} given up."), true)
        }
        "nothing" => ("No handler was ticked: nothing was done.".to_owned(), false),
        _ => return None,
    };
    Some(Notice { text, good })
}

/// The parameters without those that only tell what a form did.
pub(super) fn without_notice(pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    const TOLD: [&str; 3] = ["done", "n", "running"];
    let asked = pairs.into_iter();
    asked
        .filter(|(name, _)| !TOLD.contains(&name.as_str()))
        .collect()
}
