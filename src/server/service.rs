//! An endpoint as hyper wants it: each request counted as its connection's,
//! from the end of its head until its answer is taken.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper::{Request, Response, Version};

use super::accept::Endpoint;
use super::connection::{Busy, Connection, Untaken};

/// The endpoint, for the requests of one connection.
pub(super) struct PerConnection<E> {
    endpoint: E,
    connection: Arc<Connection>,
}

impl<E> PerConnection<E> {
    pub(super) fn new(endpoint: E, connection: Arc<Connection>) -> Self {
        Self {
            endpoint,
            connection,
        }
    }
}

impl<E: Endpoint> Service<Request<Incoming>> for PerConnection<E> {
    type Response = Response<HeldBody<E::Body>>;
    type Error = Infallible;
    type Future = InFlight<E::Answer>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let http2 = request.version() == Version::HTTP_2;
        InFlight {
            busy: Some(self.connection.begin_request()),
            answer: self.endpoint.call(request, &self.connection),
            held_by: http2.then(|| Arc::clone(&self.connection)),
        }
    }
}

/// An answer on its way, counted as a request of its connection.
pub(super) struct InFlight<A> {
    busy: Option<Busy>,
    answer: A,
    /// The connection whose windows the answer has to pass.
    held_by: Option<Arc<Connection>>,
}

impl<A, B> Future for InFlight<A>
where
    A: Future<Output = Response<B>> + Unpin,
{
    type Output = Result<Response<HeldBody<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        self.busy = None;
        let held_by = self.held_by.take();
        let held = held_by.as_ref().map(Connection::hold_answer);
        Poll::Ready(Ok(answer.map(|body| HeldBody {
            body,
            held,
            held_by,
        })))
    }
}

/// A body that counts as untaken until hyper has got rid of it, except while
/// it has nothing to give: then it is not the peer that holds it.
pub(super) struct HeldBody<B> {
    body: B,
    held: Option<Untaken>,
    held_by: Option<Arc<Connection>>,
}

impl<B: Body + Unpin> Body for HeldBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_pending() {
            self.held = None;
        } else if self.held.is_none() {
            self.held = self.held_by.as_ref().map(Connection::hold_answer);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
