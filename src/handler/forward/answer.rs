//! What a destination answered.

use std::time::{Duration, UNIX_EPOCH};

use axum::http::StatusCode;
use axum::http::header::{HeaderMap, RETRY_AFTER};
use jiff::Timestamp;
use reqwest::Response;

use super::redact::Redactor;
use crate::handler::Retry;

/// At most this much of an answer's body is read; then the connection is
/// dropped, since reading on to reuse it could take for ever.
const BODY_BYTES_READ_MAX: usize = 64 << 10;

/// This much of it is kept for the history.
const BODY_BYTES_KEPT: usize = 1 << 10;

/// Secrets are taken out before the cut to [`BODY_BYTES_KEPT`], so that none
/// is cut in two and escapes notice; this much is looked at.
const BODY_BYTES_REDACTED: usize = 16 << 10;

/// How long the body of an answer may take. Its status is known by then, and
/// the place in the handler's `concurrency` is better used otherwise.
const BODY_TIME_MAX: Duration = Duration::from_secs(2);

/// Nobody means a wait longer than this, and larger numbers would overflow.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A destination's answer.
pub(super) struct Answer {
    pub status: StatusCode,
    /// When the destination wants to be asked again.
    retry_after: Option<Duration>,
    /// The beginning of the body.
    pub body: String,
}

impl Answer {
    /// Reads what is worth reading of `response` within the time `left`.
    pub(super) async fn read(
        response: Response,
        left: Duration,
        now: Timestamp,
        redactor: &Redactor,
    ) -> Self {
        let status = response.status();
        let retry_after = retry_after(response.headers(), now);
        let body = read_body(response, left.min(BODY_TIME_MAX)).await;
        let body = String::from_utf8_lossy(&body).into_owned();
        let mut body = redactor.apply(body);
        cut(&mut body, BODY_BYTES_KEPT);
        Self {
            status,
            retry_after,
            body,
        }
    }

    /// Whether and when trying again can help, where it was a failure.
    pub(super) fn retry(&self) -> Retry {
        match self.retry_after {
            _ if self.status == StatusCode::GONE => Retry::Never,
            Some(wait) => Retry::After(wait),
            None => Retry::WithBackoff,
        }
    }

    /// Why it was a failure.
    pub(super) fn reason(&self) -> String {
        let status = self.status.as_u16();
        if self.status.is_redirection() {
            format!("status {status} (redirects are not followed)")
        } else {
            format!("status {status}")
        }
    }
}

/// Cuts `text` to at most `bytes_max` bytes, between two characters.
fn cut(text: &mut String, bytes_max: usize) {
    let end = (0..=bytes_max.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
}

async fn read_body(mut response: Response, within: Duration) -> Vec<u8> {
    let mut body = Vec::new();
    let mut read = 0;
    let reading = async {
        // A body that breaks off changes nothing about the status.
        while let Ok(Some(chunk)) = response.chunk().await {
            let wanted = chunk.len().min(BODY_BYTES_REDACTED - body.len());
            body.extend_from_slice(&chunk[..wanted]);
            read += chunk.len();
            if read >= BODY_BYTES_READ_MAX {
                break;
            }
        }
    };
    // What has come until then is kept.
    let _ = tokio::time::timeout(within, reading).await;
    body
}

/// `Retry-After` as a number of seconds or as a date. One that does not lie
/// ahead asks for nothing that the back-off would not do.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if let Ok(seconds) = value.parse() {
        Duration::from_secs(seconds)
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        let date = date.duration_since(UNIX_EPOCH).ok()?;
        let now = Duration::try_from(now.as_duration()).ok()?;
        date.checked_sub(now)?
    };
    (!wait.is_zero()).then_some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_ahead() {
        let now: Timestamp = "2026-11-24T06:31:06Z".parse().unwrap();
        let cases = [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("0", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
            ("99999999999999999999", None),
            ("9999999999999", Some(RETRY_AFTER_MAX.as_secs())),
            ("Tue, 24 Nov 2026 06:32:06 GMT", Some(60)),
            ("Tuesday, 24-Nov-26 06:32:06 GMT", Some(60)),
            ("Tue Nov 24 06:32:06 2026", Some(60)),
            ("Tue, 24 Nov 2026 06:31:06 GMT", None),
            ("Tue, 24 Nov 2020 06:31:06 GMT", None),
        ];
        for (text, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            let wait = retry_after(&headers, now).map(|wait| wait.as_secs());
            assert_eq!(wait, expected, "{text:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
