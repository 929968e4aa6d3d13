//! Write coalescing: what a connection writes during one poll of its task goes out in one system
//! call, and what has arrived is read in one.
//!
//! `h2` writes and flushes after each payload that it does not copy, and whenever its own 16 KiB
//! are full; it reads 8 KiB at a time. Forwarding twenty messages takes it twenty writes and forty
//! reads, and a system call costs several times as much as judging a small message. [`Coalesced`]
//! sits between `h2` and the socket and buffers small writes. [`DeferredFlush`] polls the
//! connection and then flushes the buffer, once, before its task sleeps.
//!
//! Nothing waits for data that is not ready, so there is no timer, and large payloads are not
//! copied.
mod backlog;
#[cfg(test)]
mod connection_tests;
mod read_buffer;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Filter, Violation};
use super::socket::Socket;
use crate::telemetry::metrics;
pub(crate) use backlog::Backlog;
use read_buffer::{ReadBuffer, ReadError};

/// Size of the buffer in each direction. Copying this much costs about as much as the system call
/// that it saves.
const MAX: usize = 64 * 1024;

thread_local! {
    /// The last write buffer used on this thread, for the next connection that writes. Connections
    /// with nothing to write hold none.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The socket as `h2` sees it.
#[derive(Debug)]
pub(crate) struct Coalesced<S = Socket> {
    shared: Rc<RefCell<Shared<S>>>,
    asked: Cell<bool>,
}

/// A connection whose [`Coalesced`] writes are flushed after each poll.
#[derive(Debug)]
#[must_use = "nothing is written unless this is polled"]
pub(crate) struct DeferredFlush<F, S = Socket> {
    connection: Pin<Box<F>>,
    shared: Rc<RefCell<Shared<S>>>,
}

/// Becomes a [`DeferredFlush`] once there is a connection to poll.
#[derive(Debug)]
pub(crate) struct FlushHandle<S = Socket>(Rc<RefCell<Shared<S>>>);

#[derive(Debug)]
struct Shared<S> {
    socket: S,
    read_buffer: ReadBuffer,
    /// With few bytes to write, other ready tasks run first: they may add more.
    deferred: bool,
    /// The flush of the last poll was put off to this one.
    put_off: bool,
    buffer: Vec<u8>,
    /// How much of `buffer` is written already.
    written: usize,
    /// Written to the socket, but perhaps still in a buffer of its own (TLS).
    unflushed: bool,
    /// Whether the peer takes what is written.
    backlog: Rc<Backlog>,
    /// A flush failed. The connection gets the error at its next read or write.
    failed: Option<io::Error>,
}

/// Wraps a socket, whose frames go through `filter`: returns the side for `h2`, and the handle for
/// flushing.
pub(crate) fn coalesce<S>(socket: S, filter: Filter) -> (Coalesced<S>, FlushHandle<S>) {
    let shared = Shared {
        socket,
        read_buffer: ReadBuffer::new(filter),
        deferred: false,
        put_off: false,
        buffer: Vec::new(),
        written: 0,
        unflushed: false,
        backlog: Rc::default(),
        failed: None,
    };
    let shared = Rc::new(RefCell::new(shared));
    (Coalesced { shared: Rc::clone(&shared), asked: Cell::new(false) }, FlushHandle(shared))
}

impl<S> FlushHandle<S> {
    /// With few bytes to write, lets other ready tasks run once before flushing.
    pub(crate) fn deferred(self) -> Self {
        self.0.borrow_mut().deferred = true;
        self
    }

    /// Ends the connection when its peer takes nothing of what is written for so long.
    pub(crate) fn write_idle_timeout(self, timeout: Duration) -> Self {
        self.0.borrow().backlog.set_timeout(timeout);
        self
    }

    /// Shows whether the peer takes what is written.
    pub(crate) fn backlog(&self) -> Rc<Backlog> {
        Rc::clone(&self.0.borrow().backlog)
    }

    /// Wraps the connection that uses the [`Coalesced`] side.
    pub(crate) fn of<F>(self, connection: F) -> DeferredFlush<F, S> {
        DeferredFlush { connection: Box::pin(connection), shared: self.0 }
    }
}

impl<F: Future, S: AsyncWrite + Unpin> Future for DeferredFlush<F, S> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.shared.borrow_mut().read_buffer.start_poll();
        let polled = self.connection.as_mut().poll(cx);
        let mut shared = self.shared.borrow_mut();
        if shared.deferred
            && polled.is_pending()
            && !shared.put_off
            && (1..MAX / 2).contains(&shared.pending())
        {
            shared.put_off = true;
            cx.waker().wake_by_ref();
            return polled;
        }
        shared.put_off = false;
        if shared.failed.is_none() {
            let mut flushed = shared.flush(cx);
            shared.backlog.set_blocked(flushed.is_pending());
            if shared.backlog.poll_ended(cx) {
                flushed = Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            if let Poll::Ready(Err(error)) = flushed {
                // The connection gets the error when it reads, which it does in every poll.
                shared.failed = Some(error);
                cx.waker().wake_by_ref();
            }
        }
        polled
    }
}

impl<F, S> Drop for DeferredFlush<F, S> {
    fn drop(&mut self) {
        self.shared.borrow().backlog.set_blocked(false);
    }
}

impl<S> Shared<S> {
    fn failure(&self) -> io::Result<()> {
        self.failed.as_ref().map_or(Ok(()), |error| Err(io::Error::new(error.kind(), error.to_string())))
    }

    fn pending(&self) -> usize {
        self.buffer.len() - self.written
    }

    /// Ends the connection, with an answer if it can be given.
    fn refuse(&mut self, violation: Violation) -> io::Error {
        metrics::connection_ended(violation.cause());
        if violation.is_other_protocol() {
            // HTTP/2's greeting, which is still unsent.
            self.written = 0;
            self.buffer.clear();
        }
        self.buffer.extend(self.read_buffer.filter.farewell(violation));
        io::Error::new(io::ErrorKind::InvalidData, violation)
    }

    fn append(&mut self, bufs: &[IoSlice<'_>], total: usize) {
        if self.buffer.capacity() == 0 {
            self.buffer = SPARE.take();
        }
        self.buffer.reserve(total);
        for buf in bufs {
            self.buffer.extend_from_slice(buf);
        }
    }

    fn advance(&mut self, count: usize) {
        self.written += count;
        if self.written == self.buffer.len() {
            self.written = 0;
            self.buffer.clear();
            SPARE.set(std::mem::take(&mut self.buffer));
        }
    }
}

impl<S: AsyncWrite + Unpin> Shared<S> {
    /// Buffers `bufs` if they fit; otherwise writes them after the buffer's contents.
    fn write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        if self.pending() + total <= MAX {
            self.append(bufs, total);
            self.read_buffer.filter.sent(bufs, total);
            return Poll::Ready(Ok(total));
        }
        loop {
            let before = self.pending();
            let count = {
                let buffered = (before > 0).then(|| IoSlice::new(&self.buffer[self.written..]));
                let all: SmallVec<[IoSlice<'_>; 8]> =
                    buffered.into_iter().chain(bufs.iter().map(|buf| IoSlice::new(buf))).collect();
                ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, &all))?
            };
            self.unflushed = true;
            self.backlog.written(count);
            self.advance(count.min(before));
            if count > before || count == 0 {
                let count = count.saturating_sub(before);
                self.read_buffer.filter.sent(bufs, count);
                return Poll::Ready(Ok(count));
            }
        }
    }

    /// Writes everything out, down to the network.
    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.read_buffer.filter.awaits_preface() {
            return Poll::Ready(Ok(()));
        }
        while self.pending() > 0 {
            let count = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.buffer[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.backlog.written(count);
            self.advance(count);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Coalesced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.borrow_mut();
        shared.failure()?;
        let Shared { socket, read_buffer, .. } = &mut *shared;
        let read = ready!(read_buffer.read(socket, cx, buf));
        Poll::Ready(read.map_err(|error| match error {
            ReadError::Io(error) => error,
            ReadError::Violation(violation) => shared.refuse(violation),
        }))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Coalesced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.shared.borrow_mut();
        shared.failure()?;
        shared.write(cx, bufs)
    }

    /// `h2` calls this once when it is created, and on "no" copies payloads of up to 1 KiB (instead
    /// of 256 bytes) into its own buffer. From the second call on the answer is yes, so that a
    /// frame header and its large payload are written together.
    fn is_write_vectored(&self) -> bool {
        self.asked.replace(true)
    }

    /// Does nothing, since `h2` flushes after each payload; [`DeferredFlush`] does it.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.borrow_mut();
        ready!(shared.flush(cx))?;
        Pin::new(&mut shared.socket).poll_shutdown(cx)
    }
}
