//! PINGs to clients that send nothing, so that one that is gone does not keep its connection.
//!
//! TCP finds out that a host is gone. It does not find a client process that hangs, or a proxy that
//! has forgotten the client behind it.
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::Limits;

/// The PINGs of one connection.
#[derive(Debug)]
pub(super) struct Keepalive {
    /// `None`: there are none.
    timer: Option<Pin<Box<Sleep>>>,
    pings: Option<PingPong>,
    interval: Duration,
    timeout: Duration,
    /// Whether a PING waits for its answer.
    asked: bool,
    /// Calls accepted until the last check.
    accepted: u64,
}

impl Keepalive {
    pub(super) fn new(limits: &Limits, pings: impl FnOnce() -> Option<PingPong>) -> Self {
        let (interval, timeout) = (limits.keepalive_interval, limits.keepalive_timeout);
        let first = Instant::now().checked_add(interval).filter(|_| !interval.is_zero());
        let timer = first.map(|first| Box::pin(sleep_until(first)));
        let pings = timer.as_ref().and_then(|_| pings());
        Self { timer, pings, interval, timeout, asked: false, accepted: 0 }
    }

    pub(super) fn is_on(&self) -> bool {
        self.timer.is_some()
    }

    /// Waits until [`Keepalive::is_gone`] has something to do.
    pub(super) async fn due(&mut self) {
        match &mut self.timer {
            Some(timer) => timer.await,
            None => std::future::pending().await,
        }
    }

    /// Whether the client has not answered the last PING in time. Sends the next one to a client
    /// that has sent no call since the last check. One that does not read what it is sent may not
    /// have got the PING: others see to it.
    pub(super) fn is_gone(&mut self, accepted: u64, is_blocked: bool) -> bool {
        let is_silent = self.accepted == accepted;
        self.accepted = accepted;
        let answered = self.asked && self.pings.as_mut().is_some_and(is_answered);
        if self.asked && !answered && is_silent && !is_blocked {
            return true;
        }
        // After an answer, the next PING is due after the interval.
        self.asked = if self.asked {
            !answered
        } else {
            is_silent && self.pings.as_mut().is_some_and(|pings| pings.send_ping(Ping::opaque()).is_ok())
        };
        let next = Instant::now().checked_add(if self.asked { self.timeout } else { self.interval });
        match (next, &mut self.timer) {
            (Some(next), Some(timer)) => timer.as_mut().reset(next),
            (_, timer) => *timer = None,
        }
        false
    }
}

/// Whether the answer to the last PING has come.
fn is_answered(pings: &mut PingPong) -> bool {
    matches!(pings.poll_pong(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(_)))
}
