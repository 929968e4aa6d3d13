//! Whether a peer takes what is written to its connection, for the calls that have more to write.
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// What a connection could not write to its socket yet.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    blocked: Cell<bool>,
    written: Cell<u64>,
    /// By stream, the tasks that wait for the end of the backlog.
    wakers: RefCell<BTreeMap<u32, Waker>>,
    given_up: Cell<bool>,
    connection: RefCell<Option<Waker>>,
    timeout: Cell<Option<Duration>>,
    /// Runs from the first time that the socket did not take everything.
    timer: RefCell<Option<Timer>>,
}

#[derive(Debug)]
struct Timer {
    sleep: Pin<Box<Sleep>>,
    /// What was written when it was started.
    written: u64,
}

impl Backlog {
    /// Whether the socket took less than there was to write. If not, `h2` holds nothing that it may
    /// send.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.get()
    }

    /// Bytes that the socket took so far while it could not take all.
    pub(crate) fn progress(&self) -> u64 {
        self.written.get()
    }

    /// Waits, on behalf of a stream, until the socket takes everything.
    pub(crate) fn poll_flushed(&self, stream: u32, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_blocked() {
            return Poll::Ready(());
        }
        self.wakers.borrow_mut().insert(stream, cx.waker().clone());
        Poll::Pending
    }

    /// Ends the connection: its peer takes nothing.
    pub(crate) fn give_up(&self) {
        self.given_up.set(true);
        if let Some(connection) = self.connection.take() {
            connection.wake();
        }
    }

    pub(super) fn set_blocked(&self, blocked: bool) {
        if self.blocked.replace(blocked) && !blocked {
            for waker in self.wakers.take().into_values() {
                waker.wake();
            }
        }
    }

    pub(super) fn written(&self, count: usize) {
        self.written.set(self.written.get().wrapping_add(count as u64));
    }

    pub(super) fn set_timeout(&self, timeout: Duration) {
        self.timeout.set(Some(timeout));
    }

    /// Whether the connection is to be ended: somebody gave it up, or the socket took nothing for
    /// too long. To be called by its task in every poll.
    pub(super) fn poll_ended(&self, cx: &mut Context<'_>) -> bool {
        if self.blocked.get() {
            *self.connection.borrow_mut() = Some(cx.waker().clone());
            if self.poll_timeout(cx) {
                return true;
            }
        }
        self.given_up.get()
    }

    fn poll_timeout(&self, cx: &mut Context<'_>) -> bool {
        let Some(timeout) = self.timeout.get() else { return false };
        let mut timer = self.timer.borrow_mut();
        let written = self.written.get();
        let timer = timer.get_or_insert_with(|| Timer { sleep: Box::pin(sleep(timeout)), written });
        while timer.sleep.as_mut().poll(cx).is_ready() {
            // Left over from an earlier time when the socket was full, or there is progress.
            if std::mem::replace(&mut timer.written, written) == written {
                return true;
            }
            timer.sleep.as_mut().reset(Instant::now() + timeout);
        }
        false
    }
}
