//! What the public listener would make of a captured request: the same
//! protocol, the same judge, the same limits and the same parser, and no store
//! at the end.

use std::convert::Infallible;
use std::io::Cursor;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::header::{CONNECTION, HeaderValue};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;

use super::ServerConfig;
use super::accept::http_builder;
use super::body::{self, BodyBudget, BodyError};
use super::error::Rejection;
use super::judge::Judge;
use super::peer::X_FORWARDED_FOR;
use super::refusal::{self, Refusal};
use crate::clock::ManualClock;
use crate::event::{self, NewEvent};
use crate::ingest::{IngestMetrics, Source, SourceConfig};
use crate::request::RequestHead;
use crate::signature::{
    RefusedBody, RefusedRequest, SchemeError, SignatureError, Verified, VerifiedRequest,
};

/// The time to judge a request by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JudgedAt {
    /// This one.
    Time(Timestamp),
    /// The one that the request says it was sent at, or this one where it says
    /// none.
    Sent(Timestamp),
}

/// What a captured request is, and what would become of it.
#[derive(Debug)]
pub struct Explanation {
    /// What its head says; `None` where that cannot be read.
    pub head: Option<HeadFacts>,
    /// The time it was judged by.
    pub judged_at: Timestamp,
    /// What was proved about its sender, even where the request was turned
    /// away later.
    pub verified: Option<Verified>,
    /// What may be wrong with it, where its sender is the reason that it was
    /// turned away: one sentence each, found out by trying.
    pub diagnosis: Vec<String>,
    /// The event, or why there is none.
    pub result: Result<NewEvent, Refused>,
}

/// What the head of a captured request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadFacts {
    /// The method, as it came.
    pub method: String,
    /// Path and query, as they came.
    pub target: String,
    /// The number of header fields.
    pub fields: usize,
    /// The bytes of body that it announces; `None` where the body is chunked.
    pub announced: Option<u64>,
    /// The bytes that follow it in the capture, chunk sizes included.
    pub follow: usize,
    /// Whether it carries a time of sending that can be read.
    pub sent_at: Option<Timestamp>,
    /// Who sent it, if it says so.
    pub peer: Peer,
}

/// What a capture says about the peer. It has no connection that could be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Nothing; `allow_from` is not judged then.
    Unknown,
    /// What trusted proxies forwarded; `None` where that cannot be read.
    Forwarded(Option<IpAddr>),
}

/// Why a captured request would not become an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It ends too early, or its body breaks the protocol: what there is of it
    /// proves nothing more.
    CutShort,
    /// It is no request.
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
    /// Its path is not the source's.
    OtherPath {
        /// The status of the answer.
        status: u16,
    },
    /// Its sender could not be proved.
    Signature {
        /// The status of the answer.
        status: u16,
        /// Why not.
        error: SignatureError,
    },
    /// Its sender may not send.
    NotAllowed {
        /// The status of the answer.
        status: u16,
    },
    /// It breaks a limit, or asks for something else than to take an event.
    Rejected {
        /// The status of the answer.
        status: u16,
        /// Why.
        reason: String,
    },
}

/// Takes `capture`, the bytes of an HTTP/1.1 request, down the line of
/// `source`, one of `sources`, without storing anything.
///
/// # Errors
/// [`SchemeError`] where a source could not be started either.
pub async fn explain(
    server: &ServerConfig,
    sources: &[SourceConfig],
    source: &SourceConfig,
    capture: Bytes,
    at: JudgedAt,
) -> Result<Explanation, SchemeError> {
    let ready = |config| Source::new(config, &IngestMetrics::default()).map(Arc::new);
    let line = Arc::new(Line {
        server: server.clone(),
        source: Source::new(source, &IngestMetrics::default())?,
        anybody: {
            let open = SourceConfig {
                allow_from: None,
                ..source.clone()
            };
            Source::new(&open, &IngestMetrics::default())?
        },
        sources: sources.iter().map(ready).collect::<Result<_, _>>()?,
        path: source.path.clone(),
        follow: capture.len() - head_length(&capture),
        at,
        explained: Mutex::default(),
    });
    let taker = Arc::clone(&line);
    let take = move |request| {
        let line = Arc::clone(&taker);
        async move { Ok::<_, Infallible>(line.take(request).await) }
    };
    let io = TokioIo::new(tokio::io::join(Cursor::new(capture), tokio::io::sink()));
    let end = http_builder()
        .http1_only()
        .serve_connection(io, service_fn(take))
        .await;
    Ok(line.explained().take().unwrap_or_else(|| Explanation {
        head: None,
        judged_at: at.or_now(),
        verified: None,
        diagnosis: Vec::new(),
        result: Err(unreadable(end)),
    }))
}

/// A source and all that is around it.
struct Line {
    server: ServerConfig,
    source: Source,
    /// The same source without `allow_from`, for captures that do not say who
    /// sent them.
    anybody: Source,
    /// All there are, one of which may have been meant.
    sources: Vec<Arc<Source>>,
    path: String,
    follow: usize,
    at: JudgedAt,
    /// What was made of the first request; a second one in the capture is none.
    explained: Mutex<Option<Explanation>>,
}

/// What came to light on the way.
#[derive(Default)]
struct Seen {
    verified: Option<Verified>,
    body: Option<Bytes>,
}

impl Line {
    async fn take(&self, request: Request<Incoming>) -> Response<Empty<Bytes>> {
        let explanation = self.explain(request).await;
        self.explained().get_or_insert(explanation);
        let mut answer = Response::new(Empty::new());
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
        answer
    }

    fn explained(&self) -> MutexGuard<'_, Option<Explanation>> {
        self.explained
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn explain(&self, request: Request<Incoming>) -> Explanation {
        let sent_at = self.source.sent_at(request.headers());
        let judged_at = match self.at {
            JudgedAt::Sent(now) => sent_at.unwrap_or(now),
            JudgedAt::Time(time) => time,
        };
        let judge = Judge::new(&self.server, Arc::new(ManualClock::new(judged_at)));
        let head = HeadFacts {
            method: request.method().to_string(),
            target: request
                .uri()
                .path_and_query()
                .map_or_else(|| request.uri().to_string(), ToString::to_string),
            fields: request.headers().len(),
            announced: request.body().size_hint().exact(),
            follow: self.follow,
            sent_at,
            peer: self.peer(&judge, &request),
        };
        let mut seen = Seen::default();
        let peer = head.peer;
        let (uri, headers) = (request.uri().clone(), request.headers().clone());
        let result = self.judge(&judge, request, peer, &mut seen).await;
        let fields = RequestHead {
            uri: &uri,
            headers: &headers,
        };
        let diagnosis = match &result {
            Ok(_) => Vec::new(),
            Err(rejection) => self.diagnose(&judge, rejection, fields, peer, &seen),
        };
        Explanation {
            head: Some(head),
            judged_at,
            verified: seen.verified,
            diagnosis,
            result: result.map_err(Refused::from),
        }
    }

    /// The same that the list of refusals would say.
    fn diagnose(
        &self,
        judge: &Judge,
        rejection: &Rejection,
        head: RequestHead<'_>,
        peer: Peer,
        seen: &Seen,
    ) -> Vec<String> {
        match (Refusal::of(rejection), peer) {
            (Some(Refusal::Signature(error)), _) => {
                let body = seen.body.as_deref();
                let refused = RefusedRequest {
                    head,
                    body: body.map_or(RefusedBody::Unread, RefusedBody::Whole),
                    error,
                    now: judge.now(),
                    others: &[],
                };
                refusal::signature_findings(&self.source, &self.sources, &refused)
            }
            (Some(Refusal::Peer), Peer::Forwarded(peer)) => {
                let proxies = judge.trusted_proxies();
                refusal::peer_findings(&self.source, proxies, None, peer, head.headers)
            }
            _ => Vec::new(),
        }
    }

    /// Whom trusted proxies name. The connection is taken to come from one of
    /// them, as it has to where the header counts.
    fn peer(&self, judge: &Judge, request: &Request<Incoming>) -> Peer {
        match self.server.trusted_proxies.first() {
            Some(proxy) if request.headers().contains_key(X_FORWARDED_FOR) => {
                Peer::Forwarded(judge.peer(proxy.addr(), request))
            }
            _ => Peer::Unknown,
        }
    }

    async fn judge(
        &self,
        judge: &Judge,
        request: Request<Incoming>,
        peer: Peer,
        seen: &mut Seen,
    ) -> Result<NewEvent, Rejection> {
        if request.uri().path() != self.path {
            return Err(Rejection::NotFound);
        }
        let (source, peer) = match peer {
            Peer::Unknown => (&self.anybody, None),
            Peer::Forwarded(peer) => (&self.source, peer),
        };
        let (proof, head) = judge.head(source, &request, peer)?;
        seen.verified = proof.verified().cloned();
        judge.announced(request.body())?;
        let budget = BodyBudget::new(self.server.body_bytes_in_flight_max);
        let http2 = request.version() == Version::HTTP_2;
        let body_bytes_max = judge.body_bytes_max();
        let mut body = request.into_body();
        let body = body::read(&mut body, body_bytes_max, &mut budget.share(), http2).await?;
        seen.body = Some(body.clone());
        let proved = proof.complete(source, &body)?;
        seen.verified = Some(proved.clone());
        let name = source.name().clone();
        Ok(event::parse(VerifiedRequest::new(name, proved, head, body)))
    }
}

impl JudgedAt {
    fn or_now(self) -> Timestamp {
        match self {
            Self::Time(time) | Self::Sent(time) => time,
        }
    }
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        let status = rejection.status().as_u16();
        match rejection {
            Rejection::Body(BodyError::Broken) => Self::CutShort,
            Rejection::NotFound => Self::OtherPath { status },
            Rejection::Peer => Self::NotAllowed { status },
            Rejection::Signature(error) => Self::Signature { status, error },
            other => Self::Rejected {
                status,
                reason: other.to_string(),
            },
        }
    }
}

/// Why hyper made no request of the bytes.
fn unreadable(end: Result<(), tower::BoxError>) -> Refused {
    let Err(error) = end else {
        let reason = "there is nothing in it".to_owned();
        return Refused::Unreadable { reason };
    };
    match error.downcast_ref::<hyper::Error>() {
        Some(error) if error.is_incomplete_message() => Refused::CutShort,
        Some(error) if error.is_parse_too_large() => Refused::Rejected {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.as_u16(),
            reason: Rejection::HeadTooLarge.to_string(),
        },
        _ => Refused::Unreadable {
            reason: error.to_string(),
        },
    }
}

/// The length of a head up to and with its blank line; all of it where there
/// is none. Lines may end as on the wire, or as an editor left them.
fn head_length(capture: &[u8]) -> usize {
    let blank = |byte: &&u8| matches!(byte, b'\r' | b'\n');
    let start = capture.iter().take_while(blank).count();
    let ends = (start..capture.len()).filter(|at| capture[*at] == b'\n');
    let mut ends = ends.filter_map(|at| match &capture[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    });
    ends.next().unwrap_or(capture.len())
}
