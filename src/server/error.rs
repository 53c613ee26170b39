//! Which status an error of ours becomes. The only place that knows.
//!
//! What goes out says nothing internal: the title is the status's own phrase.
//! The reason is for the log.

use axum::http::StatusCode;
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;

use super::auth::Denied;
use super::body::BodyError;
use crate::ingest::{AcceptError, Reused};
use crate::signature::SignatureError;
use crate::store::{Full as StoreFull, StoreError};

/// Why a request is not answered with what it asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rejection {
    /// There is nothing at this path.
    #[error("no such path")]
    NotFound,
    /// There is something, for another method.
    #[error("the method is not allowed")]
    MethodNotAllowed {
        /// The methods that are.
        allow: &'static str,
    },
    /// The head is larger than we take.
    #[error("the head is too large")]
    HeadTooLarge,
    /// The peer is not in `allow_from`.
    #[error("the peer is not allowed")]
    Peer,
    /// The sender could not be proved.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The signature was used before, for another body.
    #[error("{0}")]
    Reused(Reused),
    /// The body could not be read.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Too much waits to be stored.
    #[error(transparent)]
    StoreFull(#[from] StoreFull),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store did not answer in time.
    #[error("the store took too long")]
    StoreLate,
    /// Not up yet, on the way down, or broken.
    #[error("the service is not ready")]
    NotReady,
    /// The admin listener does not let this request in.
    #[error(transparent)]
    Denied(#[from] Denied),
}

impl Rejection {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Peer | Self::Denied(Denied::ForeignHost) => StatusCode::FORBIDDEN,
            Self::Signature(_) | Self::Reused(_) | Self::Denied(Denied::Token) => {
                StatusCode::UNAUTHORIZED
            }
            Self::Body(BodyError::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(BodyError::Late) => StatusCode::REQUEST_TIMEOUT,
            Self::Body(BodyError::Broken) => StatusCode::BAD_REQUEST,
            Self::Body(BodyError::TooManyInFlight | BodyError::Closing)
            | Self::StoreFull(_)
            | Self::Store(_)
            | Self::StoreLate
            | Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The answer: RFC 9457 problem details, and the header fields that the
    /// status wants beside them.
    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        let status = self.status();
        let title = status.canonical_reason().unwrap_or("Error");
        let code = status.as_u16();
        let body = format!(r#"{{"type":"about:blank","title":"{title}","status":{code}}}"#);
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        match self {
            Self::MethodNotAllowed { allow } => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
            }
            Self::Denied(Denied::Token) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ if status == StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

impl From<AcceptError> for Rejection {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Full(full) => Self::StoreFull(full),
            AcceptError::Reused(reused) => Self::Reused(reused),
        }
    }
}
