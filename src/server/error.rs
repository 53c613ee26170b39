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
    /// There is a path, but not what it names.
    #[error("{0}")]
    Unknown(String),
    /// There is something, for another method.
    #[error("the method is not allowed")]
    MethodNotAllowed {
        /// The methods that are; `None` where the router says it.
        allow: Option<&'static str>,
    },
    /// What was asked for cannot be read.
    #[error("{0}")]
    BadRequest(String),
    /// What was asked for is against what is there.
    #[error("{0}")]
    Conflict(String),
    /// As many of these are at work as may be at the same time.
    #[error("{0}")]
    Busy(&'static str),
    /// More wrong tokens came than are answered with care.
    #[error("too many wrong tokens")]
    TooManyWrongTokens,
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
            Self::NotFound | Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooManyWrongTokens => StatusCode::TOO_MANY_REQUESTS,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Peer
            | Self::Denied(Denied::ForeignHost | Denied::CrossOrigin | Denied::ForgedForm) => {
                StatusCode::FORBIDDEN
            }
            Self::Signature(_)
            | Self::Reused(_)
            | Self::Denied(Denied::NoToken | Denied::WrongToken) => StatusCode::UNAUTHORIZED,
            Self::Denied(Denied::NotJson) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Body(BodyError::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(BodyError::Late) => StatusCode::REQUEST_TIMEOUT,
            Self::Body(BodyError::Broken) => StatusCode::BAD_REQUEST,
            Self::Body(BodyError::TooManyInFlight | BodyError::Closing)
            | Self::StoreFull(_)
            | Self::Store(_)
            | Self::StoreLate
            | Self::Busy(_)
            | Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What the asker of the admin listener is told beside the title, so that
    /// it can be put right. Senders of callbacks are told nothing.
    pub(super) fn detail(&self) -> Option<String> {
        match self {
            Self::Unknown(detail) | Self::BadRequest(detail) | Self::Conflict(detail) => {
                Some(detail.clone())
            }
            Self::Busy(detail) => Some((*detail).to_owned()),
            Self::Denied(
                Denied::ForeignHost | Denied::CrossOrigin | Denied::NotJson | Denied::ForgedForm,
            ) => Some(self.to_string()),
            _ => None,
        }
    }

    /// The answer: RFC 9457 problem details, and the header fields that the
    /// status wants beside them.
    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        let status = self.status();
        let title = status.canonical_reason().unwrap_or("Error");
        let code = status.as_u16();
        let mut body = format!(r#"{{"type":"about:blank","title":"{title}","status":{code}"#);
        if let Some(detail) = self.detail() {
            body.push_str(r#","detail":"#);
            body.push_str(&serde_json::Value::from(detail).to_string());
        }
        body.push('}');
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        match self {
            Self::MethodNotAllowed { allow: Some(allow) } => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
            }
            Self::Denied(Denied::NoToken | Denied::WrongToken) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ if matches!(
                status,
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
            ) =>
            {
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
