//! What comes in the body of a request.

use std::time::Duration;

use axum::body::Body as AxumBody;
use axum::extract::{FromRequest, Request as AxumRequest};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::server::body::BodyError;
use crate::server::error::Rejection;

/// Nothing that is asked for here is larger.
const JSON_BYTES_MAX: usize = 64 * 1024;
const JSON_DEADLINE: Duration = Duration::from_secs(5);

/// A JSON object from the body; an empty body is the default. That the request
/// says it is JSON was checked by the guard.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

impl<S, T> FromRequest<S> for JsonBody<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Default,
{
    type Rejection = Rejection;

    async fn from_request(request: AxumRequest, _: &S) -> Result<Self, Rejection> {
        let body = read(request.into_body(), JSON_BYTES_MAX, JSON_DEADLINE).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        // serde would take the members from a list as well, by their order.
        if body.trim_ascii_start().first() == Some(&b'[') {
            let problem = "the body: expected an object, not a list";
            return Err(Rejection::BadRequest(problem.to_owned()));
        }
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|error| Rejection::BadRequest(format!("the body: {error}")))
    }
}

/// Reads a body of at most `bytes_max` within `deadline`.
pub(super) async fn read(
    body: AxumBody,
    bytes_max: usize,
    deadline: Duration,
) -> Result<Bytes, BodyError> {
    let whole = Limited::new(body, bytes_max).collect();
    match timeout(deadline, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) => Err(BodyError::Broken),
        Err(_) => Err(BodyError::Late),
    }
}
