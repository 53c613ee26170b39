//! The requests that a consumer of a queue makes.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, UNIX_EPOCH};

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderValue, USER_AGENT};
use axum::http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use reqwest::{Request, Url};
use secrecy::ExposeSecret as _;
use tokio::sync::Semaphore;

use super::credentials::{Credential, Credentials};
use super::error::{Code, MnsError, Refusal, printable};
use super::message::{self, AnswerError, Attributes, Changed, Message, NotDeleted, Refused};
use super::sign;
use super::wire::{encoded, handles_document, http, parse_date, put_secret};
use crate::clock::Clock;
use crate::handler::forward::failure;
use crate::handler::tls::{CaFileError, Trust};

/// The version of the API, in every request.
const VERSION: &str = "2015-06-06";

/// The most messages that one request receives or deletes.
pub const BATCH_MAX: usize = 16;

/// An endpoint that does not take a connection within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request may take beyond the time that it asks the queue to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer that is read: a batch of the largest messages, each
/// character of which is escaped.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// How much of an answer that is none is shown.
const BEGINNING_BYTES: usize = 120;

/// How much is said about what is wrong with it; names out of it may be long.
const PROBLEM_BYTES: usize = 200;

/// Changes of visibility under way at the same time.
const CHANGES_MAX: usize = 16;

/// Talks to one queue.
pub struct Client {
    http: reqwest::Client,
    endpoint: String,
    /// Host and port, for reasons.
    authority: String,
    queue_path: String,
    credentials: Arc<Credentials>,
    clock: Arc<dyn Clock>,
    /// The service's clock minus ours, in seconds, once it has corrected us.
    skew: AtomicI64,
    /// Bounds the connections that a store that takes long costs.
    changes: Semaphore,
}

/// A client that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The endpoint means nothing to an HTTP client.
    #[error("the endpoint is no absolute http or https URL")]
    Endpoint,
    /// The file of certificate authorities cannot be used.
    #[error(transparent)]
    CaFile(CaFileError),
    /// The HTTP client could not be made.
    #[error("the HTTP client cannot be made")]
    Http(#[source] reqwest::Error),
}

/// What a receive brought; nothing is not an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Received {
    /// The messages, at most as many as were asked for.
    pub messages: Vec<Message>,
    /// Messages without what cannot be done without; they come again.
    pub unreadable: usize,
    /// The time of the service when it answered.
    pub date: Option<Timestamp>,
}

/// One request, as it will be signed.
struct Call<'a> {
    method: Method,
    /// Path and query, each part encoded.
    target: String,
    body: Option<String>,
    /// How long the queue is asked to wait.
    wait: Duration,
    what: &'a str,
}

/// An answer with a status that means success.
struct Answer {
    date: Option<Timestamp>,
    status: StatusCode,
    body: Vec<u8>,
}

/// What became of one try.
enum Tried {
    Done(Answer),
    /// Some messages of a batch were refused.
    Partly(Vec<NotDeleted>),
}

impl Client {
    /// A client for `queue` at `endpoint`, a base URL without a path. Over https
    /// it trusts the system's authorities and those in `ca_file`. Connects to
    /// nobody yet.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(
        endpoint: &str,
        queue: &str,
        ca_file: Option<&Path>,
        credentials: Arc<Credentials>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        let endpoint = endpoint.trim_end_matches('/');
        let url = Url::parse(endpoint).map_err(|_| ClientError::Endpoint)?;
        let host = url.host_str().ok_or(ClientError::Endpoint)?;
        let port = url.port_or_known_default().ok_or(ClientError::Endpoint)?;
        let trust = match url.scheme() {
            "https" => Trust::System(ca_file),
            _ => Trust::Nobody,
        };
        Ok(Self {
            http: http(trust, CONNECT_TIMEOUT)?,
            endpoint: endpoint.to_owned(),
            authority: format!("{host}:{port}"),
            queue_path: format!("/queues/{}", encoded(queue)),
            credentials,
            clock,
            skew: AtomicI64::new(0),
            changes: Semaphore::new(CHANGES_MAX),
        })
    }

    /// Receives up to `count` messages; waits up to `wait`, whole seconds, for
    /// the first of them.
    ///
    /// # Errors
    /// [`MnsError`]. What was received over a connection that broke stays
    /// invisible for a while and comes again.
    pub async fn receive(&self, count: usize, wait: Duration) -> Result<Received, MnsError> {
        let seconds = wait.as_secs();
        let call = Call {
            method: Method::GET,
            target: format!(
                "{}/messages?numOfMessages={count}&waitseconds={seconds}",
                self.queue_path
            ),
            body: None,
            wait,
            what: "receive",
        };
        let answer = match self.call(&call).await {
            Err(MnsError::Refused(refusal)) if refusal.code == Code::MessageNotExist => {
                return Ok(Received {
                    date: refusal.date,
                    ..Received::default()
                });
            }
            other => other?,
        };
        let answer = whole(answer)?;
        let (mut messages, unreadable) = answer.read(message::messages)?;
        messages.truncate(count);
        Ok(Received {
            messages,
            unreadable,
            date: answer.date,
        })
    }

    /// Deletes up to [`BATCH_MAX`] messages by their handles; answers those
    /// that were not deleted. One that is gone already is no failure of ours
    /// and is among them with its code.
    ///
    /// # Errors
    /// [`MnsError`]; some may have been deleted all the same.
    pub async fn delete(&self, handles: &[&str]) -> Result<Vec<NotDeleted>, MnsError> {
        let messages = format!("{}/messages", self.queue_path);
        let call = match handles {
            [] => return Ok(Vec::new()),
            [handle] => Call {
                method: Method::DELETE,
                target: format!("{messages}?ReceiptHandle={}", encoded(handle)),
                body: None,
                wait: Duration::ZERO,
                what: "delete",
            },
            several => Call {
                method: Method::DELETE,
                target: messages,
                body: Some(handles_document(several)),
                wait: Duration::ZERO,
                what: "delete",
            },
        };
        match (self.call(&call).await, handles) {
            (Ok(Tried::Done(answer)), _) if answer.body.trim_ascii().is_empty() => Ok(Vec::new()),
            // A page of somebody in between, who deleted nothing.
            (Ok(Tried::Done(answer)), _) => Err(garbled(
                answer.status,
                "a delete is answered without a body",
                &answer.body,
            )),
            (Ok(Tried::Partly(failed)), _) => Ok(failed),
            (Err(MnsError::Refused(refusal)), [handle]) if refusal.code.is_gone() => {
                Ok(vec![NotDeleted {
                    handle: (*handle).to_owned(),
                    code: refusal.code,
                }])
            }
            // It does not say which of them; one by one they tell.
            (Err(MnsError::Refused(refusal)), several) if refusal.code.is_gone() => {
                let mut failed = Vec::new();
                for handle in several {
                    failed.extend(Box::pin(self.delete(&[handle])).await?);
                }
                Ok(failed)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Makes a message visible again `visibility` from now, whole seconds from
    /// 1 on. The old handle is dead after it.
    ///
    /// # Errors
    /// [`MnsError`]; where its code [is gone](Code::is_gone) the message is no
    /// longer ours.
    pub async fn change_visibility(
        &self,
        handle: &str,
        visibility: Duration,
    ) -> Result<Changed, MnsError> {
        let seconds = visibility.as_secs().max(1);
        let call = Call {
            method: Method::PUT,
            target: format!(
                "{}/messages?receiptHandle={}&visibilityTimeout={seconds}",
                self.queue_path,
                encoded(handle)
            ),
            body: None,
            wait: Duration::ZERO,
            what: "change of visibility",
        };
        // It is never closed.
        let _permit = self.changes.acquire().await;
        whole(self.call(&call).await?)?.read(message::changed)
    }

    /// The attributes of the queue, which a policy may well forbid to read.
    ///
    /// # Errors
    /// [`MnsError`].
    pub async fn attributes(&self) -> Result<Attributes, MnsError> {
        let call = Call {
            method: Method::GET,
            target: self.queue_path.clone(),
            body: None,
            wait: Duration::ZERO,
            what: "attributes",
        };
        whole(self.call(&call).await?)?.read(message::attributes)
    }

    /// One request, repeated once with what may help: a corrected date, fresh
    /// credentials, another connection.
    async fn call(&self, call: &Call<'_>) -> Result<Tried, MnsError> {
        let credential = self.credentials.current().await?;
        let first = self.once(call, &credential).await;
        match &first {
            Err(MnsError::Refused(refusal)) if refusal.is_about_the_clock() => {
                let Some(date) = refusal.date else {
                    return first;
                };
                let skew = date.duration_since(self.clock.now()).as_secs();
                self.skew.store(skew, Relaxed);
                tracing::debug!(skew_seconds = skew, "signing by the clock of MNS");
                self.once(call, &credential).await
            }
            Err(MnsError::Refused(refusal)) if refusal.is_about_credentials() => {
                match self.credentials.other_than(&credential).await? {
                    Some(fresh) => self.once(call, &fresh).await,
                    None => first,
                }
            }
            _ => first,
        }
    }

    async fn once(&self, call: &Call<'_>, credential: &Credential) -> Result<Tried, MnsError> {
        let request = self.request(call, credential);
        let response = self.http.execute(request).await;
        let mut response = response.map_err(|error| self.unreachable(&error, call))?;
        let status = response.status();
        let date = response.headers().get(DATE).and_then(parse_date);
        let request_id = response.headers().get("x-mns-request-id").cloned();
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= ANSWER_BYTES_MAX => {
                    body.extend_from_slice(&chunk);
                }
                Ok(Some(_)) => {
                    return Err(garbled(status, "it is larger than any answer", &body));
                }
                Ok(None) => break,
                Err(error) => return Err(self.unreachable(&error, call)),
            }
        }
        if status.is_success() {
            return Ok(Tried::Done(Answer { date, status, body }));
        }
        match message::refused(&body) {
            Ok(Refused::Parts(parts)) => Ok(Tried::Partly(parts)),
            Ok(Refused::Whole {
                code,
                request_id: stated,
            }) => {
                let header = request_id.as_ref().and_then(|id| id.to_str().ok());
                Err(MnsError::Refused(Refusal {
                    status,
                    code: Code::from_text(&code),
                    request_id: printable(header.unwrap_or(&stated), 64),
                    date,
                }))
            }
            // Gateways refuse with statuses of their own and no XML.
            Err(_) if status == StatusCode::TOO_MANY_REQUESTS => Err(MnsError::Refused(Refusal {
                status,
                code: Code::Throttled,
                request_id: String::new(),
                date,
            })),
            Err(error) => Err(garbled(status, &error.to_string(), &body)),
        }
    }

    /// The target goes out as it was signed: all that a URL parser would
    /// change was encoded before.
    fn request(&self, call: &Call<'_>, credential: &Credential) -> Request {
        let url = Url::parse(&format!("{}{}", self.endpoint, call.target))
            .expect("the endpoint was parsed and the target is encoded");
        let mut request = Request::new(call.method.clone(), url);
        let headers = request.headers_mut();
        let date = HeaderValue::try_from(self.date()).expect("a date is visible ASCII");
        headers.insert(DATE, date);
        headers.insert("x-mns-version", HeaderValue::from_static(VERSION));
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
        if call.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
        }
        let authorization = sign::authorization(
            &credential.access_key_id,
            credential.access_key_secret.expose_secret(),
            call.method.as_str(),
            &call.target,
            headers,
        );
        put_secret(headers, AUTHORIZATION.as_str(), &authorization);
        if let Some(token) = &credential.security_token {
            put_secret(headers, "security-token", token.expose_secret());
        }
        *request.timeout_mut() = Some(call.wait + ANSWER_TIMEOUT);
        *request.body_mut() = call.body.clone().map(Into::into);
        request
    }

    fn date(&self) -> String {
        let skew = SignedDuration::from_secs(self.skew.load(Relaxed));
        let now = self.clock.now().checked_add(skew);
        let now = now.unwrap_or(Timestamp::UNIX_EPOCH).as_duration();
        let since_epoch = Duration::try_from(now).unwrap_or_default();
        httpdate::fmt_http_date(UNIX_EPOCH + since_epoch)
    }

    fn unreachable(&self, error: &reqwest::Error, call: &Call<'_>) -> MnsError {
        if error.is_timeout() && !error.is_connect() {
            let seconds = (call.wait + ANSWER_TIMEOUT).as_secs();
            return MnsError::Unreachable(format!(
                "no answer to a {} within {seconds} s ({})",
                call.what, self.authority
            ));
        }
        MnsError::Unreachable(failure::reason(error, &self.authority, CONNECT_TIMEOUT))
    }
}

const USER_AGENT_VALUE: &str = concat!("ims-receiver/", env!("CARGO_PKG_VERSION"));

impl Answer {
    fn read<T>(&self, read: fn(&[u8]) -> Result<T, AnswerError>) -> Result<T, MnsError> {
        read(&self.body).map_err(|error| garbled(self.status, &error.to_string(), &self.body))
    }
}

/// Only deletes of a batch can be done in part.
fn whole(tried: Tried) -> Result<Answer, MnsError> {
    match tried {
        Tried::Done(answer) => Ok(answer),
        Tried::Partly(_) => Err(garbled(
            StatusCode::BAD_REQUEST,
            "<Errors> was not expected",
            b"",
        )),
    }
}

fn garbled(status: StatusCode, problem: &str, body: &[u8]) -> MnsError {
    let beginning = &body[..body.len().min(4 * BEGINNING_BYTES)];
    MnsError::Garbled {
        status,
        problem: printable(problem, PROBLEM_BYTES),
        beginning: printable(&String::from_utf8_lossy(beginning), BEGINNING_BYTES),
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", &self.endpoint)
            .field("queue_path", &self.queue_path)
            .finish_non_exhaustive()
    }
}
