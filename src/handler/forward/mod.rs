//! The handler that repeats the request to a service of the user's.
//!
//! The body goes out byte for byte, over a pool of connections, HTTP/1.1 or
//! HTTP/2. Redirects are not followed, since they would carry the event and
//! its token to somewhere nobody configured. For the same reason the proxy
//! variables of the environment are not read: a handler talks to its `url` and
//! to nobody else.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, Method, Request, Url};
use secrecy::SecretString;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{BuildContext, BuildError, Handler, HandlerError, Retry, add_notes};
use crate::clock::Clock;
use crate::delivery::{Delivery, Reason, Report};
use crate::trace::Tracer;

mod answer;
mod destination;
pub(crate) mod failure;
mod fields;
mod redact;

use answer::Answer;
use destination::Destination;
use redact::Redactor;

/// Configuration of a `forward` handler.
#[derive(Debug, Clone)]
pub struct ForwardConfig {
    /// Where to POST; secret, since its user, password and query may hold a token.
    pub url: SecretString,
    /// Sent as `Authorization: Bearer …`.
    pub bearer_token: Option<SecretString>,
    /// Further header fields, in the order of their names.
    pub headers: Vec<(String, SecretString)>,
    /// A PEM file with certificate authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// Repeats the request to a service of the user's.
pub struct ForwardHandler {
    client: Client,
    url: Url,
    /// Host and port, for reasons.
    authority: String,
    /// The header fields that are the same in every request.
    headers: HeaderMap,
    redactor: Redactor,
    timeout: Duration,
    connect_timeout: Duration,
    clock: Arc<dyn Clock>,
    tracer: Option<Tracer>,
}

/// A destination that does not answer a connect within this is not there.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);

impl ForwardHandler {
    /// Prepares the client; connects to nobody.
    ///
    /// # Errors
    /// [`BuildError`] where the URL, a header field or the CA file cannot be
    /// used. It never shows a value.
    pub fn build(config: &ForwardConfig, context: &BuildContext<'_>) -> Result<Self, BuildError> {
        let connect_timeout = context.timeout.min(CONNECT_TIMEOUT_MAX);
        let Destination {
            url,
            authority,
            headers,
            redactor,
        } = Destination::resolve(config, context)?;
        let client = destination::client(&url, config, connect_timeout, context)?;
        Ok(Self {
            client,
            url,
            authority,
            headers,
            redactor,
            timeout: context.timeout,
            connect_timeout,
            clock: Arc::clone(&context.clock),
            tracer: context.tracer.clone(),
        })
    }

    fn request(&self, delivery: &Delivery, notes: &mut Vec<String>) -> Request {
        let event = &delivery.event;
        let mut request = Request::new(Method::POST, self.url.clone());
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        if !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, fields::content_type(&event.content, notes));
        }
        if let Some(encoding) = fields::kept(&event.content, "content-encoding")
            && let Ok(encoding) = HeaderValue::from_str(encoding)
        {
            // Without it the bytes of a compressed body mean nothing.
            headers.insert(CONTENT_ENCODING, encoding);
        }
        if event.content.body.is_empty() {
            // The client leaves it out then, and many servers want one.
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        if let Some(traceparent) = fields::traceparent(self.tracer.as_ref(), delivery) {
            headers.insert("traceparent", traceparent);
        }
        let mut set = |name: &'static str, value: &str| {
            let value = fields::value(name, value, notes);
            headers.insert(HeaderName::from_static(name), value);
        };
        set("x-ims-event-id", &event.id.to_string());
        set("x-ims-event-type", &event.content.event_type);
        set("x-ims-source", event.content.source.as_str());
        set("x-ims-attempt", &delivery.attempt.to_string());
        *request.body_mut() = Some(event.content.body.clone().into());
        request
    }

    /// What an answer means. The status decides; the rest of the answer is
    /// kept for people.
    fn judge(&self, answer: Answer, notes: &[String]) -> Result<Report, HandlerError> {
        let mut report = serde_json::json!({
            "status": answer.status.as_u16(),
            "body": answer.body,
        });
        add_notes(&mut report, notes);
        if answer.status.is_success() {
            return Ok(Report(Some(report)));
        }
        Err(HandlerError {
            retry: answer.retry(),
            reason: Reason::new(answer.reason()),
            report: Report(Some(report)),
            source: None,
        })
    }

    fn unreachable(&self, error: reqwest::Error, notes: &[String]) -> HandlerError {
        let reason = failure::reason(&error, &self.authority, self.connect_timeout);
        let report = (!notes.is_empty()).then(|| {
            let mut report = serde_json::json!({});
            add_notes(&mut report, notes);
            report
        });
        HandlerError {
            retry: Retry::WithBackoff,
            reason: Reason::new(reason),
            report: Report(report),
            source: Some(error.without_url().into()),
        }
    }
}

#[async_trait]
impl Handler for ForwardHandler {
    /// A stop does not cut a request short: the other side may be acting on it
    /// already, and would see it a second time. The dispatcher's drain ends it.
    async fn handle(
        &self,
        delivery: &Delivery,
        _stop: &CancellationToken,
    ) -> Result<Report, HandlerError> {
        let started = Instant::now();
        let mut notes = Vec::new();
        let request = self.request(delivery, &mut notes);
        match self.client.execute(request).await {
            Ok(response) => {
                // Once the status is known, the timeout must not turn it into
                // a failure, whatever the rest of the answer does.
                let left = (self.timeout * 9 / 10).saturating_sub(started.elapsed());
                let now = self.clock.now();
                let answer = Answer::read(response, left, now, &self.redactor).await;
                self.judge(answer, &notes)
            }
            Err(error) => Err(self.unreachable(error, &notes)),
        }
    }
}

impl fmt::Debug for ForwardHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardHandler")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
