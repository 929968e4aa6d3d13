//! What a connection writes in one turn goes out in one system call, and what has come is read in
//! one.
//!
//! `h2` writes and flushes after each payload that it does not copy, and each time its own 16 KiB
//! are full; it reads 8 KiB at a time. A turn that passes on twenty messages is twenty writes and
//! forty reads, and a system call costs as much as judging a small message does several times over.
//! [`Coalesced`] stands between `h2` and the socket and keeps what is small; [`DeferredFlush`]
//! polls the connection and writes what it left, once, before its task sleeps.
//!
//! Nothing waits here for what is not ready, so no timer is needed, and large payloads pass without
//! a copy.
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

use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::Socket;
use read_buffer::ReadBuffer;

/// Bytes that are kept each way. Copying so much costs about as much as the system call that it
/// saves.
const MAX: usize = 64 * 1024;

thread_local! {
    /// The buffer of the last turn, for the next one on this thread: connections that have nothing
    /// to write hold none.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A connection's bytes as `h2` sees them.
#[derive(Debug)]
pub struct Coalesced<S = Socket> {
    shared: Rc<RefCell<Shared<S>>>,
    asked: Cell<bool>,
}

/// A connection whose [`Coalesced`] bytes are written at the end of each turn.
#[derive(Debug)]
#[must_use = "nothing is written unless this is polled"]
pub struct DeferredFlush<F, S = Socket> {
    connection: Pin<Box<F>>,
    shared: Rc<RefCell<Shared<S>>>,
}

/// What becomes a [`DeferredFlush`] when there is a connection to poll.
#[derive(Debug)]
pub struct FlushHandle<S = Socket>(Rc<RefCell<Shared<S>>>);

#[derive(Debug)]
struct Shared<S> {
    socket: S,
    read_buffer: ReadBuffer,
    /// Few bytes wait for the tasks that are ready: they may have more.
    deferred: bool,
    /// The last turn left its bytes to this one.
    waited: bool,
    kept: Vec<u8>,
    /// Of `kept`: already written.
    written: usize,
    /// Written to the socket, but perhaps still in its own buffer (TLS).
    unflushed: bool,
    /// A write failed when nobody could be told.
    failed: Option<io::Error>,
}

/// The two sides of a connection: for `h2`, and for the end of each turn.
pub fn coalesce<S>(socket: S) -> (Coalesced<S>, FlushHandle<S>) {
    let shared = Shared {
        socket,
        read_buffer: ReadBuffer::default(),
        deferred: false,
        waited: false,
        kept: Vec::new(),
        written: 0,
        unflushed: false,
        failed: None,
    };
    let shared = Rc::new(RefCell::new(shared));
    (Coalesced { shared: Rc::clone(&shared), asked: Cell::new(false) }, FlushHandle(shared))
}

impl<S> FlushHandle<S> {
    /// Lets the tasks that are ready go first when there are few bytes to write.
    pub fn deferred(self) -> Self {
        self.0.borrow_mut().deferred = true;
        self
    }

    /// `connection` is what uses the [`Coalesced`] side.
    pub fn of<F>(self, connection: F) -> DeferredFlush<F, S> {
        DeferredFlush { connection: Box::pin(connection), shared: self.0 }
    }
}

impl<F: Future, S: AsyncWrite + Unpin> Future for DeferredFlush<F, S> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let polled = self.connection.as_mut().poll(cx);
        let mut shared = self.shared.borrow_mut();
        if shared.deferred
            && polled.is_pending()
            && !shared.waited
            && (1..MAX / 2).contains(&shared.pending())
        {
            shared.waited = true;
            cx.waker().wake_by_ref();
            return polled;
        }
        shared.waited = false;
        if shared.failed.is_none()
            && let Poll::Ready(Err(error)) = shared.flush(cx)
        {
            // The connection learns of it when it reads, which it does in every turn.
            shared.failed = Some(error);
            cx.waker().wake_by_ref();
        }
        polled
    }
}

impl<S> Shared<S> {
    fn failure(&self) -> io::Result<()> {
        self.failed.as_ref().map_or(Ok(()), |error| Err(io::Error::new(error.kind(), error.to_string())))
    }

    fn pending(&self) -> usize {
        self.kept.len() - self.written
    }

    fn keep(&mut self, bufs: &[IoSlice<'_>], total: usize) {
        if self.kept.capacity() == 0 {
            self.kept = SPARE.take();
        }
        self.kept.reserve(total);
        for buf in bufs {
            self.kept.extend_from_slice(buf);
        }
    }

    fn advance(&mut self, count: usize) {
        self.written += count;
        if self.written == self.kept.len() {
            self.written = 0;
            self.kept.clear();
            SPARE.set(std::mem::take(&mut self.kept));
        }
    }
}

impl<S: AsyncWrite + Unpin> Shared<S> {
    /// Keeps `bufs` if they are small, else writes them behind what is kept.
    fn write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        if self.pending() + total <= MAX {
            self.keep(bufs, total);
            return Poll::Ready(Ok(total));
        }
        loop {
            let before = self.pending();
            let count = {
                let kept = (before > 0).then(|| IoSlice::new(&self.kept[self.written..]));
                let all: SmallVec<[IoSlice<'_>; 8]> =
                    kept.into_iter().chain(bufs.iter().map(|buf| IoSlice::new(buf))).collect();
                ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, &all))?
            };
            self.unflushed = true;
            self.advance(count.min(before));
            if count > before || count == 0 {
                return Poll::Ready(Ok(count.saturating_sub(before)));
            }
        }
    }

    /// Everything out, down to the network.
    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.pending() > 0 {
            let count = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.kept[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
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
        read_buffer.read(socket, cx, buf)
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

    /// `h2` asks once when it is built, and takes "no" to mean: copy payloads below 1 KiB (not 256
    /// bytes) behind the other frames of a write. From the second time on the answer is yes, so
    /// that a head and its large payload come together.
    fn is_write_vectored(&self) -> bool {
        self.asked.replace(true)
    }

    /// The end of the turn does it: `h2` flushes after each payload.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.borrow_mut();
        ready!(shared.flush(cx))?;
        Pin::new(&mut shared.socket).poll_shutdown(cx)
    }
}
