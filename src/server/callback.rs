//! The callback endpoint: judges a head, reads the body, and answers 200 once
//! the event is on disk.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Uri};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::accept::{CLOSE_ANSWER_MAX, Endpoint};
use super::activity::{Activity, Answered};
use super::body::{self, BodyBudget, BodyError, Share};
use super::connection::{Connection, Working};
use super::detached::Detached;
use super::error::Rejection;
use super::head::check_size;
use super::judge::{Judge, Proof};
use super::metrics::SourceMetrics;
use super::refusal::{Origin, Refusal, RefusalLog, Sighting};
use super::{Readiness, Refusals, ServerConfig, ServerMetrics};
use crate::ingest::{Accepted, Ingest, Source};
use crate::request::KeptHead;
use crate::signature::ims::SIGNATURE_HEADER;
use crate::signature::{ReusePolicy, VerifiedRequest};
use crate::store::Inserted;
use crate::throttle::Throttle;

/// How long a body that is on its way may still take when the listener closes.
const CLOSE_BODY_MAX: Duration = Duration::from_millis(100);
/// Failures of the store that are logged in each [`FAILURE_SPAN`].
const FAILURE_LINES_MAX: u32 = 10;
const FAILURE_SPAN: Duration = Duration::from_secs(1);

type Answer = Response<Full<Bytes>>;

/// What the public listener answers.
#[derive(Debug, Clone)]
pub struct Callback(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    routes: HashMap<String, Arc<Route>>,
    no_route: SourceMetrics,
    /// The headers that senders sign in.
    signatures: Vec<HeaderName>,
    health_path: String,
    readiness: Arc<Readiness>,
    ingest: Arc<Ingest>,
    judge: Judge,
    budget: Arc<BodyBudget>,
    ack_deadline: Duration,
    refusals: RefusalLog,
    activity: Arc<Activity>,
    failures: Throttle,
    close: CancellationToken,
}

/// A source's path.
#[derive(Debug)]
struct Route {
    source: Arc<Source>,
    metrics: SourceMetrics,
}

impl Callback {
    /// The endpoint of all of `ingest`'s sources. Those that it turns away
    /// because of their sender are listed in `refusals`. `close` is the token that
    /// [`run`](super::run) closes the listener by: requests use it to end in
    /// time.
    pub fn new(
        config: &ServerConfig,
        ingest: Arc<Ingest>,
        readiness: Arc<Readiness>,
        metrics: &ServerMetrics,
        refusals: Arc<Refusals>,
        close: CancellationToken,
    ) -> Self {
        let judge = Judge::new(config, Arc::clone(ingest.clock()));
        let signatures = signature_headers(&ingest);
        let sources = ingest.sources().map(|(_, source)| Arc::clone(source));
        let proxies = judge.trusted_proxies().clone();
        let refusals = RefusalLog::new(refusals, sources.collect(), proxies);
        let route = |(path, source): (&str, &Arc<Source>)| {
            let route = Route {
                source: Arc::clone(source),
                metrics: metrics.of_source(source.name().as_str()),
            };
            (path.to_owned(), Arc::new(route))
        };
        Self(Arc::new(Inner {
            routes: ingest.sources().map(route).collect(),
            no_route: metrics.of_no_source(),
            signatures,
            health_path: config.health_path.clone(),
            readiness,
            judge,
            ingest,
            budget: BodyBudget::new(config.body_bytes_in_flight_max),
            ack_deadline: config.ack_deadline,
            refusals,
            activity: Arc::clone(metrics.activity()),
            failures: Throttle::new(FAILURE_LINES_MAX, FAILURE_SPAN),
            close,
        }))
    }
}

impl Endpoint for Callback {
    type Body = Full<Bytes>;
    type Answer = Answering;

    fn call(&self, request: Request<Incoming>, connection: &Arc<Connection>) -> Answering {
        let inner = &self.0;
        let Some(route) = inner.routes.get(request.uri().path()) else {
            let answer = inner.answer_no_source(&request, connection);
            return Answering::Now(Some(answer));
        };
        let http2 = request.version() == Version::HTTP_2;
        match inner.judge(route, &request, connection) {
            Ok(genuine) => {
                let (parts, body) = request.into_parts();
                let kept = genuine.may_be_refused().then(|| Box::new(parts));
                let work = Arc::clone(inner).work(Arc::clone(route), genuine, kept, body);
                Answering::Later(Detached::new(work))
            }
            Err(rejection) => {
                // Whoever was refused for what it is gets no keep-alive.
                let stranger = Refusal::of(&rejection).is_some();
                let early = stranger || !request.body().is_end_stream();
                let answer = rejection.response();
                inner.count_answer(route, answer.status(), stranger);
                Answering::Now(Some(ended(answer, early && !http2, connection)))
            }
        }
    }
}

/// An answer on its way. Verified work goes on when it is dropped.
#[derive(Debug)]
pub enum Answering {
    /// Known from the head alone.
    Now(Option<Answer>),
    /// Read, stored, answered.
    Later(Detached<Answer>),
}

impl Future for Answering {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match &mut *self {
            Self::Now(answer) => answer.take().map_or(Poll::Pending, Poll::Ready),
            Self::Later(work) => Pin::new(work).poll(cx),
        }
    }
}

/// The head of a request that may still be refused.
type Kept = Option<Box<Parts>>;

/// A request whose head was found good.
struct Genuine {
    proof: Proof,
    head: KeptHead,
    since: Instant,
    http2: bool,
    connection: Arc<Connection>,
    /// `None` until the sender is proved.
    working: Option<Working>,
}

impl Genuine {
    /// Whether its sender may be turned away once the body is there.
    fn may_be_refused(&self) -> bool {
        match self.proof.verified() {
            None => true,
            Some(verified) => verified
                .signature()
                .is_some_and(|signature| signature.reuse == ReusePolicy::Refuse),
        }
    }
}

impl Inner {
    /// Answers a request for a path that is no source's.
    fn answer_no_source(
        &self,
        request: &Request<Incoming>,
        connection: &Arc<Connection>,
    ) -> Answer {
        let answer = match self.health(request) {
            Ok(answer) => answer,
            Err(rejection) => {
                if rejection == Rejection::NotFound {
                    self.note_no_source(request, connection);
                }
                rejection.response()
            }
        };
        self.no_route.count_answer(answer.status());
        let http1 = request.version() != Version::HTTP_2;
        let early = http1 && !request.body().is_end_stream();
        ended(answer, early, connection)
    }

    /// Who signs and comes to a path that is no source's is most likely a sender
    /// with a wrong URL, whose events are all lost. Strangers seldom sign.
    fn note_no_source(&self, request: &Request<Incoming>, connection: &Arc<Connection>) {
        let headers = request.headers();
        if !self
            .signatures
            .iter()
            .any(|name| headers.contains_key(name))
        {
            return;
        }
        let refusal = Refusal::NoSource;
        let connection = connection.peer().ip();
        let peer = self.judge.peer(connection, request);
        let at = self.judge.now();
        self.no_route.count_refusal(refusal);
        self.activity.count(at, Answered::Refused);
        self.refusals.note(None, refusal, peer, || {
            let origin = Origin {
                connection,
                peer,
                at,
            };
            let head = (request.uri().clone(), headers.clone());
            Sighting::new(None, refusal, origin, head, None)
        });
    }

    fn health(&self, request: &Request<Incoming>) -> Result<Answer, Rejection> {
        check_size(request)?;
        if request.uri().path() != self.health_path {
            return Err(Rejection::NotFound);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let allow = Some("GET, HEAD");
            return Err(Rejection::MethodNotAllowed { allow });
        }
        if !self.readiness.is_ready() {
            return Err(Rejection::NotReady);
        }
        let mut answer = Response::new(Full::new(Bytes::from_static(b"ready\n")));
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        answer.headers_mut().insert(CONTENT_TYPE, text);
        Ok(answer)
    }

    /// All that is decided before a byte of the body is waited for.
    fn judge(
        &self,
        route: &Route,
        request: &Request<Incoming>,
        connection: &Arc<Connection>,
    ) -> Result<Genuine, Rejection> {
        let peer = self.judge.peer(connection.peer().ip(), request);
        let (proof, head) =
            self.judge
                .head(&route.source, request, peer)
                .inspect_err(|rejection| {
                    let from = connection.peer().ip();
                    let head = || (request.uri().clone(), request.headers().clone());
                    self.note_refusal(route, rejection, (from, peer), head, None);
                })?;
        let working = proof.verified().map(|_| connection.working());
        self.judge.announced(request.body())?;
        Ok(Genuine {
            proof,
            head,
            since: Instant::now(),
            http2: request.version() == Version::HTTP_2,
            connection: Arc::clone(connection),
            working,
        })
    }

    fn count_answer(&self, route: &Route, status: StatusCode, stranger: bool) {
        route.metrics.count_answer(status);
        let answered = match status {
            StatusCode::OK => Answered::Acked,
            StatusCode::SERVICE_UNAVAILABLE => Answered::Unavailable,
            _ if stranger => Answered::Refused,
            _ => return,
        };
        self.activity.count(self.judge.now(), answered);
    }

    fn note_refusal(
        &self,
        route: &Route,
        rejection: &Rejection,
        (connection, peer): (IpAddr, Option<IpAddr>),
        head: impl FnOnce() -> (Uri, HeaderMap),
        body: Option<&Bytes>,
    ) {
        let Some(refusal) = Refusal::of(rejection) else {
            return;
        };
        route.metrics.count_refusal(refusal);
        self.refusals.note(Some(&route.source), refusal, peer, || {
            let origin = Origin {
                connection,
                peer,
                at: self.judge.now(),
            };
            let source = Some(Arc::clone(&route.source));
            Sighting::new(source, refusal, origin, head(), body)
        });
    }

    /// The store's failures are worth a warning now and then; what a sender
    /// does is not.
    fn note_failure(&self, route: &Route, rejection: &Rejection) {
        let source = route.source.name().as_str();
        let ours = matches!(
            rejection,
            Rejection::Store(_) | Rejection::StoreLate | Rejection::StoreFull(_)
        );
        if !ours {
            debug!(source, error = %rejection, "a verified request was not stored");
        } else if let Some(suppressed) = self.failures.admit(std::time::Instant::now()) {
            warn!(source, error = %rejection, suppressed, "an event was not acknowledged");
        }
    }

    /// Reads, stores, answers. Goes on when the client has hung up.
    async fn work(
        self: Arc<Self>,
        route: Arc<Route>,
        mut genuine: Genuine,
        kept: Kept,
        mut body: Incoming,
    ) -> Answer {
        let (since, http2) = (genuine.since, genuine.http2);
        let connection = Arc::clone(&genuine.connection);
        // Held until the answer is there.
        let mut working = genuine.working.take();
        let stored = self
            .store(&route, genuine, kept, &mut body, &mut working)
            .await;
        let answer = match &stored {
            Ok(inserted) => success(inserted),
            Err(rejection) => {
                self.note_failure(&route, rejection);
                rejection.response()
            }
        };
        if working.is_some() {
            let took = since.elapsed();
            route.metrics.observe_ack(took);
            self.activity.observe(self.judge.now(), took);
        }
        let stranger = matches!(&stored, Err(rejection) if Refusal::of(rejection).is_some());
        self.count_answer(&route, answer.status(), stranger);
        drop(working);
        let early = stored.is_err() && !http2;
        ended(answer, early, &connection)
    }

    async fn store(
        &self,
        route: &Route,
        genuine: Genuine,
        kept: Kept,
        body: &mut Incoming,
        working: &mut Option<Working>,
    ) -> Result<Inserted, Rejection> {
        let mut late = pin!(sleep_until(genuine.since + self.ack_deadline));
        let mut share = self.budget.share();
        let body_bytes_max = self.judge.body_bytes_max();
        let read = body::read(body, body_bytes_max, &mut share, genuine.http2);
        let body = self.in_time(read, late.as_mut()).await?;
        let from = (genuine.connection.peer().ip(), genuine.head.peer);
        let refused = |rejection: &Rejection, body: Option<&Bytes>| {
            let head = || kept.map_or_else(Default::default, |kept| (kept.uri, kept.headers));
            self.note_refusal(route, rejection, from, head, body);
        };
        let verified = match genuine.proof.complete(&route.source, &body) {
            Ok(verified) => verified,
            Err(error) => {
                let rejection = Rejection::from(error);
                refused(&rejection, Some(&body));
                return Err(rejection);
            }
        };
        working.get_or_insert_with(|| genuine.connection.working());
        let name = route.source.name().clone();
        let request = VerifiedRequest::new(name, verified, genuine.head, body);
        let mut accepted = match self.ingest.accept(request) {
            Ok(accepted) => accepted,
            Err(error) => {
                let rejection = Rejection::from(error);
                refused(&rejection, None);
                return Err(rejection);
            }
        };
        accepted.began(genuine.since);
        tokio::select! { biased;
            stored = &mut accepted => return Ok(stored?),
            () = late => {}
            () = closed_for(&self.close, CLOSE_ANSWER_MAX) => {}
        }
        finish_later(accepted, share);
        Err(Rejection::StoreLate)
    }

    /// What is there of a body counts before the deadline does.
    async fn in_time(
        &self,
        read: impl Future<Output = Result<Bytes, BodyError>>,
        late: Pin<&mut Sleep>,
    ) -> Result<Bytes, BodyError> {
        tokio::select! { biased;
            body = read => body,
            () = late => Err(BodyError::Late),
            () = closed_for(&self.close, CLOSE_BODY_MAX) => Err(BodyError::Closing),
        }
    }
}

/// The headers that the senders of these sources sign in, and IMS, whoever is
/// configured.
fn signature_headers(ingest: &Ingest) -> Vec<HeaderName> {
    let sources = ingest.sources();
    let own = sources.filter_map(|(_, source)| source.signature_header());
    let all: HashSet<HeaderName> = own.chain([SIGNATURE_HEADER]).collect();
    all.into_iter().collect()
}

/// Resolves when the listener has been closing for `grace`.
async fn closed_for(close: &CancellationToken, grace: Duration) {
    close.cancelled().await;
    sleep(grace).await;
}

/// Waits for what nobody is answered any more: the body stays in memory until
/// the store is done with it, and counts until then.
fn finish_later(accepted: Accepted, share: Share) {
    tokio::spawn(async move {
        if let Err(error) = accepted.await {
            debug!(%error, "an event was not stored after its deadline");
        }
        drop(share);
    });
}

fn success(inserted: &Inserted) -> Answer {
    let body = format!(
        r#"{{"id":"{}","duplicate":{}}}"#,
        inserted.id, inserted.duplicate
    );
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    debug_assert_eq!(answer.status(), StatusCode::OK);
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}

/// Lets the connection end after `answer` where the body may still come, so
/// that nobody takes the rest of it for the next request.
fn ended(mut answer: Answer, early: bool, connection: &Connection) -> Answer {
    if early {
        connection.answered_early();
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
    }
    answer
}
