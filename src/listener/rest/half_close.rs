//! Tells a client that has left from one that has only closed its half of the connection.
//!
//! Both look the same to a read: the end of what the client sends. A client that has left answers
//! the next bytes with a reset; one that waits for its answer reads them. So when the end comes
//! while a request runs, an interim response is sent, which clients skip, and its fate is watched.
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::Client;
use crate::transport::socket::Socket;

/// Clients skip every interim response (RFC 9110, section 15.2), but some, such as Python's
/// `http.client`, only this one.
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// The beginning of HTTP/2.
const PREFACE: &[u8] = b"PRI";
/// How soon a reset is looked for; each time takes twice as long.
const SOON: Duration = Duration::from_millis(2);
const LATER: Duration = Duration::from_millis(500);
/// Turns of its task in which a request takes what was read of its body, once the end came.
const MAX_TURNS: u8 = 8;

/// A socket whose end is not read while an answer is under way.
pub(super) struct HalfClose {
    socket: Socket,
    client: Rc<Client>,
    /// How many bytes were found to be those of HTTP/2's preface; none once one was another.
    preface: Option<usize>,
    /// Whether anything was written since the last bytes were read: perhaps a part of an answer.
    answering: bool,
    flushed: bool,
    /// Turns since the end came.
    turns: u8,
    ended: Option<Watch>,
}

/// What is known after the end of what the client sends.
struct Watch {
    /// Bytes of the probe that are written.
    sent: usize,
    timer: Pin<Box<Sleep>>,
    wait: Duration,
}

impl HalfClose {
    pub(super) fn new(socket: Socket, client: Rc<Client>) -> Self {
        Self { socket, client, preface: Some(0), answering: false, flushed: true, turns: 0, ended: None }
    }

    fn is_http2(&self) -> bool {
        self.preface == Some(PREFACE.len())
    }

    fn note(&mut self, read: &[u8]) {
        self.answering = false;
        for byte in read {
            let Some(known) = self.preface.filter(|known| *known < PREFACE.len()) else { return };
            self.preface = (PREFACE[known] == *byte).then_some(known + 1);
        }
    }

    /// Whether a request was read to its end and its answer is not written to its end.
    fn owes_answer(&self) -> bool {
        !self.flushed || self.client.running.get() > 0 && self.client.complete.get()
    }

    /// Writes what is left of the probe.
    fn probe(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, ended: Some(watch), .. } = self else { return Poll::Ready(Ok(())) };
        if watch.sent == PROBE.len() {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest) = PROBE.get(watch.sent..).filter(|rest| !rest.is_empty()) {
            watch.sent += ready!(Pin::new(&mut *socket).poll_write(cx, rest))?;
        }
        Pin::new(socket).poll_flush(cx)
    }

    /// Before an answer: no probe that is not begun is sent any more.
    fn begin_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.answering = true;
        self.flushed = false;
        match &mut self.ended {
            Some(watch) if watch.sent == 0 => watch.sent = PROBE.len(),
            _ => {}
        }
        self.probe(cx)
    }
}

impl AsyncRead for HalfClose {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ended.is_none() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
            let read = &buf.filled()[before..];
            if !read.is_empty() || buf.remaining() == 0 {
                this.note(read);
                return Poll::Ready(Ok(()));
            }
            if this.is_http2() {
                return Poll::Ready(Ok(()));
            }
            if !this.owes_answer() {
                if this.client.running.get() == 0 || this.turns == MAX_TURNS {
                    return Poll::Ready(Ok(()));
                }
                // Perhaps the last of the body is on its way from the connection to the request.
                this.turns += 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let sent = if this.answering { PROBE.len() } else { 0 };
            this.ended = Some(Watch { sent, timer: Box::pin(sleep(SOON)), wait: SOON });
        }
        if !this.owes_answer() {
            return Poll::Ready(Ok(()));
        }
        ready!(this.probe(cx))?;
        let Some(watch) = &mut this.ended else { return Poll::Pending };
        loop {
            if let Some(error) = this.socket.take_error()? {
                return Poll::Ready(Err(error));
            }
            ready!(watch.timer.as_mut().poll(cx));
            watch.wait = (2 * watch.wait).min(LATER);
            watch.timer.as_mut().reset(Instant::now() + watch.wait);
        }
    }
}

impl AsyncWrite for HalfClose {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.begin_answer(cx))?;
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.begin_answer(cx))?;
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        self.flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
