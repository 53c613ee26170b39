//! What goes back to a browser: a page, a way to another one, or the page that
//! says why there is none.

use axum::http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use maud::Markup;

use super::door;
use crate::server::error::Rejection;
use crate::store::StoreError;

/// A page, with its status.
#[derive(Debug)]
pub(super) struct Page(pub(super) StatusCode, pub(super) Markup);

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let Self(status, markup) = self;
        let html = [(CONTENT_TYPE, "text/html; charset=utf-8")];
        (status, html, markup.into_string()).into_response()
    }
}

/// Whether a browser asks for something to show, and not a program.
pub(super) fn is_for_people(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter();
    accepted.any(|field| (field.to_str()).is_ok_and(|field| field.contains("text/html")))
}

/// A page that is as it should be.
pub(super) fn page(markup: Markup) -> Response {
    Page(StatusCode::OK, markup).into_response()
}

/// The way to `address`, to be asked for by GET.
pub(super) fn see(address: &str) -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, address.to_owned())]).into_response()
}

/// Why there is no page.
#[derive(Debug)]
pub(super) struct Problem(pub(super) Rejection);

impl<E: Into<Rejection>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self(rejection) = self;
        let status = rejection.status();
        let detail = rejection.detail();
        let page = Page(status, door::problem(status, detail.as_deref()));
        page.into_response()
    }
}

/// What a reader is told where a search or a change cannot be done; an error
/// of the store is one of the whole page.
pub(super) fn told<T>(result: Result<T, Rejection>) -> Result<Result<T, String>, Problem> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Rejection::Store(StoreError::Rejected(problem))) => Ok(Err(problem)),
        Err(rejection) if rejection.status() == StatusCode::BAD_REQUEST => {
            Ok(Err(rejection.to_string()))
        }
        Err(rejection) => Err(Problem(rejection)),
    }
}
