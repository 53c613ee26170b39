//! Who gets to see a page, the sign-in page for all others, and the pages that
//! say why there is no other.

use std::sync::Arc;
use std::time::Instant;

use axum::Form;
use axum::extract::{Query, Request, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;

use super::answer::{Page, Problem, see};
use super::body::visible;
use super::layout;
use super::session::SessionId;
use crate::server::admin::AdminState;
use crate::server::auth::{Denied, is_own_origin};
use crate::server::connection::Connection;
use crate::server::error::Rejection;

/// An address that a reader is sent back to is at most this long.
const NEXT_BYTES_MAX: usize = 2 * 1024;

/// Who reads a page.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    /// `None` where the token came with the request, or there is none.
    pub(super) session: Option<SessionId>,
}

/// Lets readers in and shows the others the door; a form of another site is
/// stopped here, whatever it carries.
pub(super) async fn guard(
    State(state): State<Arc<AdminState>>,
    mut request: Request,
    next: Next,
) -> Response {
    if state.parts.readiness.store().is_none() {
        return Problem(Rejection::NotReady).into_response();
    }
    let connection = request.extensions().get::<Arc<Connection>>().cloned();
    let peer = connection.as_ref().map(|connection| connection.peer());
    let (uri, headers) = (request.uri(), request.headers());
    let session = state.sessions.of(headers, Instant::now());
    let verdict = match (&session, state.access.check(uri, headers)) {
        (Some(_), Err(Denied::NoToken)) => Ok(()),
        (_, verdict) => verdict,
    };
    let verdict = verdict.and_then(|()| own_form(request.method(), uri, headers));
    match verdict {
        Ok(()) => {}
        Err(Denied::NoToken) if request.method().is_safe() => return to_the_door(&request),
        Err(denied) => return Problem(state.deny(denied, peer).await).into_response(),
    }
    request.extensions_mut().insert(Reader { session });
    // Held until the answer: who was let in is not closed to make room.
    let _working = connection.map(|connection| connection.working());
    next.run(request).await
}

/// Whether a change comes from a page of ours. Where a reader comes from does
/// not matter for what only reads: links to an event stand in chats.
fn own_form(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Denied> {
    let own_site = match headers.get("sec-fetch-site") {
        Some(site) => site == "same-origin" || site == "none",
        None => true,
    };
    if method.is_safe() || (own_site && is_own_origin(uri, headers)) {
        Ok(())
    } else {
        Err(Denied::CrossOrigin)
    }
}

/// The sign-in page, and back here afterwards.
pub(super) fn to_the_door(request: &Request) -> Response {
    let here = request.uri().path_and_query();
    let here = here.map_or("/", |here| here.as_str());
    let headers = request.headers();
    if headers
        .get("sec-fetch-site")
        .is_some_and(|site| site == "cross-site")
    {
        // A browser keeps the cookie to itself where the link stood on another
        // site. Asked again by a page of ours, it brings it.
        return Page(StatusCode::OK, again(here)).into_response();
    }
    see(&layout::address("/login", [("next", here)]))
}

fn again(here: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "ims-receiver" }
                meta http-equiv="refresh" content={ "0;url=" (here) };
            }
            body { a href=(here) { "Go on" } }
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    next: String,
}

/// `GET /login`.
pub(super) async fn show(
    State(state): State<Arc<AdminState>>,
    Query(asked): Query<Asked>,
) -> Response {
    if state.access.is_open() {
        return see("/");
    }
    Page(StatusCode::OK, sign_in_page(own_path(&asked.next), None)).into_response()
}

/// No `Debug`: it holds a token.
#[derive(Deserialize)]
pub(super) struct SignIn {
    token: String,
    #[serde(default)]
    next: String,
}

/// `POST /login`.
pub(super) async fn sign_in(
    State(state): State<Arc<AdminState>>,
    uri: Uri,
    headers: HeaderMap,
    Form(form): Form<SignIn>,
) -> Response {
    let next = own_path(&form.next);
    if state.access.is_open() {
        return see(next);
    }
    let verdict = own_form(&Method::POST, &uri, &headers);
    let verdict = verdict.and_then(|()| state.access.check_token(form.token.trim()));
    if let Err(denied) = verdict {
        let rejection = state.deny(denied, None).await;
        if denied != Denied::WrongToken || rejection == Rejection::TooManyWrongTokens {
            return Problem(rejection).into_response();
        }
        let page = sign_in_page(next, Some("That is not the token."));
        return Page(StatusCode::UNAUTHORIZED, page).into_response();
    }
    let secure = headers
        .get("x-forwarded-proto")
        .is_some_and(|proto| proto == "https");
    let session = state.sessions.begin(Instant::now());
    ([(SET_COOKIE, session.cookie(secure))], see(next)).into_response()
}

/// Where a reader may be sent: a path of ours, and nobody else's address.
fn own_path(next: &str) -> &str {
    let ours = next.starts_with('/')
        && !next.starts_with("//")
        && next.len() <= NEXT_BYTES_MAX
        && next
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if ours { next } else { "/" }
}

fn sign_in_page(next: &str, problem: Option<&str>) -> Markup {
    layout::door(
        "Sign in",
        &html! {
            h1.row { (layout::logo()) "ims-receiver" }
            @if let Some(problem) = problem { p.notice.bad role="alert" { (problem) } }
            form.stack action="/login" method="post" {
                input type="hidden" name="next" value=(next);
                label { "Token"
                    input type="password" name="token" required autofocus autocomplete="current-password" maxlength="1024"; }
                div { button.main type="submit" { "Sign in" } }
            }
            p.small.soft { "The token is in the file that " code { "admin.token_file" } " names." }
        },
    )
}

/// A page that could not be made.
pub(super) fn problem(status: StatusCode, detail: Option<&str>) -> Markup {
    let title = status.canonical_reason().unwrap_or("Error");
    let words = match status {
        StatusCode::NOT_FOUND => "There is nothing here. Events go when their retention is over.",
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => "This request was not let in.",
        StatusCode::TOO_MANY_REQUESTS => "Too many wrong tokens came. Try again in a moment.",
        StatusCode::SERVICE_UNAVAILABLE => "The service cannot answer now. Try again in a moment.",
        _ => "This did not work.",
    };
    layout::door(
        title,
        &html! {
            h1 { (title) }
            p.break { (visible(detail.unwrap_or(words))) }
            p.row { a.button href="/" { "Overview" } a.button href="/events" { "Events" } }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_sent_to_no_other_site() {
        for own in ["/", "/events?type=a%20b", "/events/0199#became"] {
            assert_eq!(own_path(own), own);
        }
        for foreign in [
            "",
            "//evil.example/",
            "/\\evil.example",
            "https://evil.example/",
            "/a\nb",
            "/a b",
        ] {
            assert_eq!(own_path(foreign), "/", "{foreign:?}");
        }
        assert_eq!(own_path(&format!("/{}", "a".repeat(NEXT_BYTES_MAX))), "/");
    }
}
