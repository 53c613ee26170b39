//! The socket, with an eye on what goes over it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::connection::Connection;
use super::frames::HeadTracker;

/// How long what still comes is thrown away after our side is closed …
pub(super) const LINGER_MAX: Duration = Duration::from_secs(1);
/// … and how much of it, in bytes.
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// A stream that notes in its [`Connection`] what is read and written.
///
/// Its shutdown lingers: a socket that is closed while bytes come in sends a
/// reset, and many clients then never read the answer that lies before it.
#[derive(Debug)]
pub(super) struct WatchedIo<S> {
    stream: S,
    connection: Arc<Connection>,
    heads: HeadTracker,
    end_seen: bool,
    linger: Option<Linger>,
}

impl<S> WatchedIo<S> {
    pub(super) fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self {
            stream,
            connection,
            heads: HeadTracker::new(),
            end_seen: false,
            linger: None,
        }
    }

    fn note_read(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.end_seen = true;
            return;
        }
        self.connection.note_heads(self.heads.feed(bytes));
    }

    /// Nobody waits for an answer that the peer has not read yet: it closed
    /// its side, or this is a stop and nothing was answered early.
    fn may_close_at_once(&self) -> bool {
        let waits = !self.connection.is_closing() || self.connection.has_answered_early();
        self.end_seen || !waits
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let had_room = buf.remaining() > 0;
        let poll = Pin::new(&mut this.stream).poll_read(cx, buf);
        if had_room && matches!(poll, Poll::Ready(Ok(()))) {
            this.note_read(&buf.filled()[before..]);
        }
        poll
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WatchedIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.connection.note_write(poll.is_pending());
        poll
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.connection.note_write(poll.is_pending());
        poll
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            match Pin::new(&mut this.stream).poll_shutdown(cx) {
                Poll::Ready(Ok(())) if !this.may_close_at_once() => {
                    this.linger = Some(Linger::new());
                }
                poll => return poll,
            }
        }
        let Some(linger) = &mut this.linger else {
            return Poll::Ready(Ok(()));
        };
        linger.poll(&mut this.stream, cx).map(Ok)
    }
}

/// Reads and throws away, for a while.
#[derive(Debug)]
struct Linger {
    end: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl Linger {
    fn new() -> Self {
        Self {
            end: Box::pin(sleep_until(Instant::now() + LINGER_MAX)),
            bytes_left: LINGER_BYTES_MAX,
        }
    }

    fn poll<S: AsyncRead + Unpin>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<()> {
        let mut waste = [0; 4096];
        while self.bytes_left > 0 {
            let mut buf = ReadBuf::new(&mut waste);
            match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    self.bytes_left = self.bytes_left.saturating_sub(buf.filled().len());
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.end.as_mut().poll(cx),
            }
        }
        Poll::Ready(())
    }
}
