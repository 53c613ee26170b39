//! Plays the sender: IMS as a receiver sees it, for `send`, `demo`, the tests
//! and the benchmarks.
//!
//! An event gets up to three tries of 3 s each, connecting included. Only
//! status 200 is success. The next try begins 1 s after the failed one ended
//! and is signed anew; after the third the event is lost.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use bytes::Bytes;
use reqwest::{Client, Method, Request, Response, Url};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::handler::forward::failure;
use crate::handler::tls::{CaFileError, Trust, client_config};
use crate::signature;

mod latency;
mod load;
mod summary;
mod template;

pub use latency::Latencies;
pub use load::{Bodies, Load};
pub use summary::Summary;
pub use template::Template;

/// How often IMS tries to deliver an event.
pub const TRIES: usize = 3;

/// At most this much of an answer is read, so that the connection can be used
/// again; IMS ignores it.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// How a [`Sender`] sends.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// Where to POST; an absolute http or https URL.
    pub target: String,
    /// The URL that is signed, as configured at IMS, character for character;
    /// the target where there is none.
    pub callback_url: Option<String>,
    /// The key to sign with; without one nothing is signed.
    pub key: Option<SecretString>,
    /// A PEM file of certificate authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The times of the sender's rule; those of IMS by default.
    pub rule: SenderRule,
    /// Where the timestamps come from.
    pub clock: Arc<dyn Clock>,
}

/// The times by which a sender tries; only tests have a reason to change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderRule {
    /// How long one try may take, connecting included.
    pub try_timeout: Duration,
    /// From the end of a failed try to the start of the next.
    pub pause: Duration,
}

impl Default for SenderRule {
    fn default() -> Self {
        Self {
            try_timeout: Duration::from_secs(3),
            pause: Duration::from_secs(1),
        }
    }
}

/// A sender that cannot be made as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// The target means nothing to an HTTP client.
    #[error(
        "the target must be an absolute http or https URL, such as http://127.0.0.1:8080/ims/callback"
    )]
    Target,
    /// The file of certificate authorities cannot be used.
    #[error(transparent)]
    CaFile(#[from] CaFileError),
    /// The HTTP client could not be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

/// What became of one event.
#[derive(Debug, Clone)]
pub struct SendOutcome {
    /// Whether a try was answered with 200 in time.
    pub acked: bool,
    /// Why the tries before that failed, or all of them.
    pub failures: Vec<TryFailure>,
    /// From the start of the last try to its answer, or to its end.
    pub latency: Duration,
    /// The body of the 200; IMS would ignore it.
    pub answer: Bytes,
}

impl SendOutcome {
    /// How many tries there were, 1 to [`TRIES`].
    pub fn tries(&self) -> usize {
        self.failures.len() + usize::from(self.acked)
    }

    /// Whether the receiver said that it had the event already.
    pub fn duplicate(&self) -> bool {
        const SAID: &[u8] = b"\"duplicate\":true";
        self.answer.windows(SAID.len()).any(|part| part == SAID)
    }
}

/// Why one try failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TryFailure {
    /// Another status than 200.
    Status(StatusCode),
    /// No answer in time.
    TimedOut,
    /// No answer at all, with the reason.
    Unreachable(String),
}

impl fmt::Display for TryFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {}", status.as_u16()),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Unreachable(reason) => f.write_str(reason),
        }
    }
}

/// Plays IMS. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Sender(Arc<Inner>);

struct Inner {
    client: Client,
    target: Url,
    authority: String,
    callback_url: String,
    key: Option<SecretString>,
    rule: SenderRule,
    clock: Arc<dyn Clock>,
}

impl Sender {
    /// Prepares the client; connects to nobody.
    ///
    /// # Errors
    /// [`SenderError`] where the target or the CA file cannot be used.
    pub fn new(config: SenderConfig) -> Result<Self, SenderError> {
        let target = Url::parse(&config.target).map_err(|_| SenderError::Target)?;
        let trust = match target.scheme() {
            "http" => Trust::Nobody,
            "https" => Trust::System(config.ca_file.as_deref()),
            _ => return Err(SenderError::Target),
        };
        let client = Client::builder()
            .tls_backend_preconfigured(client_config(trust, &[b"http/1.1"])?)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .build()
            .map_err(SenderError::Client)?;
        let authority = target.authority().rsplit('@').next().unwrap_or_default();
        Ok(Self(Arc::new(Inner {
            client,
            authority: authority.to_owned(),
            target,
            callback_url: config.callback_url.unwrap_or(config.target),
            key: config.key,
            rule: config.rule,
            clock: config.clock,
        })))
    }

    /// Sends one event by the rule and answers what became of it.
    pub async fn send_one(&self, body: Bytes) -> SendOutcome {
        let mut failures = Vec::new();
        loop {
            let started = Instant::now();
            let (result, latency) = self.send_once(body.clone(), started).await;
            let (acked, answer) = match result {
                Ok(answer) => (true, answer),
                Err(failure) => {
                    failures.push(failure);
                    (false, Bytes::new())
                }
            };
            if acked || failures.len() >= TRIES {
                return SendOutcome {
                    acked,
                    failures,
                    latency,
                    answer,
                };
            }
            tokio::time::sleep(self.0.rule.pause).await;
        }
    }

    /// Sends events until `load.count` is reached or `stop` is cancelled, then
    /// waits for those under way. `progress` sees every event as it ends.
    ///
    /// With a rate the start of each event is set by the clock, so that a slow
    /// receiver is not spared; only `load.concurrency` can hold it back.
    pub async fn send_many(
        &self,
        load: Load,
        bodies: &Bodies,
        stop: &CancellationToken,
        mut progress: impl FnMut(&SendOutcome),
    ) -> Summary {
        let started = Instant::now();
        let mut summary = Summary::default();
        let mut under_way = JoinSet::new();
        let mut number = 0;
        loop {
            let more = load.count.is_none_or(|count| number < count) && !stop.is_cancelled();
            let room = more && under_way.len() < load.concurrency.max(1);
            if !more && under_way.is_empty() {
                break;
            }
            let due = load.due(number, started);
            tokio::select! {
                biased;
                Some(ended) = under_way.join_next(), if !under_way.is_empty() => {
                    let outcome = ended.unwrap_or_else(|error| {
                        std::panic::resume_unwind(error.into_panic())
                    });
                    summary.add(&outcome);
                    progress(&outcome);
                }
                () = reached(due), if room => {
                    if let Some(due) = due {
                        summary.behind = summary.behind.max(due.elapsed());
                    }
                    let body = bodies.body(number, self.0.clock.now());
                    let sender = self.clone();
                    under_way.spawn(async move { sender.send_one(body).await });
                    number += 1;
                }
                () = stop.cancelled(), if more => {}
            }
        }
        summary.elapsed = started.elapsed();
        summary
    }

    /// One try: its result, and how long that took.
    async fn send_once(
        &self,
        body: Bytes,
        started: Instant,
    ) -> (Result<Bytes, TryFailure>, Duration) {
        let deadline = started + self.0.rule.try_timeout;
        let response = self.0.client.execute(self.request(body));
        let result = tokio::time::timeout_at(deadline, response).await;
        let latency = started.elapsed();
        let result = match result {
            Err(_) => Err(TryFailure::TimedOut),
            Ok(Err(error)) => {
                let timeout = self.0.rule.try_timeout;
                let reason = failure::reason(&error, &self.0.authority, timeout);
                Err(TryFailure::Unreachable(reason))
            }
            Ok(Ok(response)) => {
                let status = response.status();
                let answer = read_answer(response, deadline).await;
                if status == StatusCode::OK {
                    Ok(answer)
                } else {
                    Err(TryFailure::Status(status))
                }
            }
        };
        (result, latency)
    }

    /// The request of one try, signed now.
    fn request(&self, body: Bytes) -> Request {
        const TIMESTAMP: HeaderName = HeaderName::from_static("x-ice-timestamp");
        const SIGNATURE: HeaderName = HeaderName::from_static("x-ice-signature");
        let mut request = Request::new(Method::POST, self.0.target.clone());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("ims-receiver send"));
        if let Some(key) = &self.0.key {
            let timestamp = self.0.clock.now().as_second();
            let text = timestamp.to_string();
            let signature = signature::ims::sign(&self.0.callback_url, &text, key.expose_secret());
            headers.insert(TIMESTAMP, HeaderValue::from(timestamp));
            let signature = HeaderValue::try_from(signature).expect("hex is visible ASCII");
            headers.insert(SIGNATURE, signature);
        }
        *request.body_mut() = Some(body.into());
        request
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("authority", &self.0.authority)
            .finish_non_exhaustive()
    }
}

async fn reached(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

/// The beginning of an answer; what fails or is late is left out, since the
/// status has decided already.
async fn read_answer(mut response: Response, deadline: Instant) -> Bytes {
    let mut answer = Vec::new();
    let reading = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            answer.extend_from_slice(&chunk);
            if answer.len() >= ANSWER_BYTES_MAX {
                break;
            }
        }
    };
    // An answer that takes longer is used as far as it came.
    let _ = tokio::time::timeout_at(deadline, reading).await;
    answer.into()
}

#[cfg(test)]
mod tests;
