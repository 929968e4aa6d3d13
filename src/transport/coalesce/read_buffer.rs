//! The read buffer: one large read from the socket for many small ones by `h2`, through the filter
//! of the connection's frames.
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::MAX;
use crate::transport::frames::{Filter, Violation};

/// What one connection may hand on in one poll of its task. Then other tasks of the thread run:
/// reading and answering this much takes a millisecond or two.
const FRAMES_PER_POLL: usize = 256;
const BYTES_PER_POLL: usize = 512 * 1024;
/// Less than a frame header.
const MAX_CARRIED: usize = 8;

thread_local! {
    /// The last read buffer used on this thread, for the next connection that reads. Idle
    /// connections hold none.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes that were read from the socket but not yet by the connection.
#[derive(Debug)]
pub(super) struct ReadBuffer {
    pub(super) filter: Filter,
    buffer: Vec<u8>,
    /// Filtered bytes, for `h2`.
    ready: std::ops::Range<usize>,
    /// Bytes that are still to be filtered.
    raw: std::ops::Range<usize>,
    /// The begin of a frame header whose end has not arrived yet, so that an idle connection holds
    /// no buffer for it.
    carried: [u8; MAX_CARRIED],
    carried_len: usize,
    budget: PollBudget,
}

/// What may still be handed on in this poll of the connection's task.
#[derive(Debug)]
struct PollBudget {
    frames: usize,
    bytes: usize,
}

/// Why nothing more is read.
#[derive(Debug)]
pub(super) enum ReadError {
    Io(io::Error),
    Violation(Violation),
}

impl ReadBuffer {
    pub(super) fn new(filter: Filter) -> Self {
        Self {
            filter,
            buffer: Vec::new(),
            ready: 0..0,
            raw: 0..0,
            carried: [0; MAX_CARRIED],
            carried_len: 0,
            budget: PollBudget::new(),
        }
    }

    /// A poll of the connection's task begins.
    pub(super) fn start_poll(&mut self) {
        self.budget = PollBudget::new();
    }

    /// Fills `buf` from the buffer, or reads. Payload for a large `buf` is read into it directly,
    /// without a copy.
    pub(super) fn read<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), ReadError>> {
        loop {
            if !self.ready.is_empty() {
                self.fill(buf);
                return Poll::Ready(Ok(()));
            }
            if self.budget.is_over() {
                // Runs again after the tasks that are ready now.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !self.raw.is_empty() {
                self.walk()?;
                continue;
            }
            let before = buf.filled().len();
            let is_end = if buf.remaining() >= MAX / 2 && self.filter.has_payload(MAX / 2) {
                ready!(self.read_directly(socket, cx, buf))?
            } else {
                ready!(self.read_more(socket, cx))?
            };
            if is_end || buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn fill(&mut self, buf: &mut ReadBuf<'_>) {
        let count = buf.remaining().min(self.ready.len());
        buf.put_slice(&self.buffer[self.ready.start..self.ready.start + count]);
        self.ready.start += count;
        if self.ready.is_empty() && self.raw.is_empty() {
            give_back(std::mem::take(&mut self.buffer));
        }
    }

    /// Reads into `buf`; what follows its payload is filtered in place. Returns whether the peer
    /// has closed the connection.
    fn read_directly<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<bool, ReadError>> {
        let before = buf.filled().len();
        ready!(Pin::new(socket).poll_read(cx, buf))?;
        let fresh = &mut buf.filled_mut()[before..];
        if fresh.is_empty() {
            return Poll::Ready(Ok(true));
        }
        self.budget.bytes = self.budget.bytes.saturating_sub(fresh.len());
        let walked = self.filter.walk(fresh, &mut self.budget.frames)?;
        let rest = &fresh[walked.rest..];
        if rest.len() <= MAX_CARRIED {
            self.carried[..rest.len()].copy_from_slice(rest);
            self.carried_len = rest.len();
        } else {
            let mut buffer = spare(rest.len());
            buffer[..rest.len()].copy_from_slice(rest);
            self.raw = 0..rest.len();
            self.buffer = buffer;
        }
        buf.set_filled(before + walked.ready);
        Poll::Ready(Ok(false))
    }

    /// Reads into the buffer. Returns whether the peer has closed the connection.
    fn read_more<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, ReadError>> {
        let mut buffer = spare(MAX);
        let mut into = ReadBuf::new(&mut buffer[self.carried_len..]);
        let polled = Pin::new(socket).poll_read(cx, &mut into);
        let count = into.filled().len();
        if count == 0 {
            // Pending, end of file, or an error.
            give_back(buffer);
            ready!(polled)?;
            return Poll::Ready(Ok(true));
        }
        buffer[..self.carried_len].copy_from_slice(&self.carried[..self.carried_len]);
        self.budget.bytes = self.budget.bytes.saturating_sub(count);
        self.raw = 0..self.carried_len + count;
        self.carried_len = 0;
        self.buffer = buffer;
        self.walk()?;
        Poll::Ready(Ok(false))
    }

    /// Filters what is raw, as far as this poll may go.
    fn walk(&mut self) -> Result<(), Violation> {
        let Self { filter, buffer, raw, budget, .. } = self;
        let walked = filter.walk(&mut buffer[raw.clone()], &mut budget.frames)?;
        self.ready = self.raw.start..self.raw.start + walked.ready;
        self.raw.start += walked.rest;
        if self.raw.len() <= MAX_CARRIED {
            self.carried_len = self.raw.len();
            self.carried[..self.carried_len].copy_from_slice(&self.buffer[self.raw.clone()]);
            self.raw = 0..0;
        }
        if self.ready.is_empty() && self.raw.is_empty() {
            give_back(std::mem::take(&mut self.buffer));
        }
        Ok(())
    }

    /// Bytes of memory held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }
}

impl PollBudget {
    fn new() -> Self {
        Self { frames: FRAMES_PER_POLL, bytes: BYTES_PER_POLL }
    }

    fn is_over(&self) -> bool {
        self.frames == 0 || self.bytes == 0
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Violation> for ReadError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// A buffer of at least `length` bytes.
fn spare(length: usize) -> Vec<u8> {
    let mut buffer = SPARE.take();
    if buffer.len() < length {
        buffer.resize(length.max(MAX), 0);
    }
    buffer
}

fn give_back(buffer: Vec<u8>) {
    if buffer.len() <= MAX {
        SPARE.set(buffer);
    }
}
