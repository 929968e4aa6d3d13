//! Clients that do not read their answer: what waits for them is charged, and not for long.
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::responder::{Responder, Stop};
use crate::config::Limits;
use crate::fault::Fault;
use crate::limiter::admission::Ticket;
use crate::transport::body::TICK;
use crate::transport::http2::SEND_BUFFER;
use crate::upstream::call::ReplyBody;

/// What waits for a client.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) data: Bytes,
    /// Where more of it is received meanwhile.
    pub(super) body: Option<&'a mut ReplyBody>,
}

/// How long the answer has waited for its client.
#[derive(Debug, Default)]
pub(super) struct Stall {
    /// In all.
    waited: Duration,
    /// Bytes that the client took in that time.
    taken: u64,
    /// Since it took something.
    idle: Duration,
    /// What is charged for what waits.
    held: u64,
}

impl Source<'_> {
    fn held(&mut self) -> u64 {
        let body = self.body.as_mut().map_or(0, |body| body.held());
        body.max(self.data.len()) as u64
    }
}

impl Stall {
    /// Waits until the client has taken the data.
    ///
    /// # Errors
    /// It cancelled, or does not read.
    pub(super) async fn client(
        &mut self,
        responder: &Responder,
        ticket: &mut Ticket,
        limits: &Limits,
        mut source: Source<'_>,
    ) -> Result<(), Stop> {
        ticket.set_waiting()?;
        let mut left = source.data.len();
        let mut timer = pin!(sleep(TICK));
        let outcome = poll_fn(|cx| {
            loop {
                if let Poll::Ready(outcome) = responder.poll_data(cx, &mut source.data) {
                    return Poll::Ready(outcome);
                }
                ready!(timer.as_mut().poll(cx));
                timer.as_mut().reset(Instant::now() + TICK);
                let taken = left - source.data.len();
                left = source.data.len();
                if let Err(fault) = self.tick(taken as u64, source.held(), ticket, limits) {
                    if responder.backlog().is_blocked() {
                        responder.backlog().give_up();
                    }
                    return Poll::Ready(Err(fault.into()));
                }
            }
        })
        .await;
        self.took((left - source.data.len()) as u64, ticket);
        outcome
    }

    /// Waits until the client's connection has taken everything, which includes the answer of the
    /// stream. A connection that takes nothing is ended.
    ///
    /// # Errors
    /// It took nothing for too long.
    pub(super) async fn connection(
        &mut self,
        responder: &Responder,
        ticket: &mut Ticket,
        limits: &Limits,
        stream: u32,
    ) -> Result<(), Stop> {
        ticket.set_waiting().ok();
        let backlog = responder.backlog();
        let mut before = backlog.progress();
        let mut timer = pin!(sleep(TICK));
        poll_fn(|cx: &mut Context<'_>| {
            loop {
                if backlog.poll_flushed(stream, cx).is_ready() {
                    return Poll::Ready(Ok(()));
                }
                ready!(timer.as_mut().poll(cx));
                timer.as_mut().reset(Instant::now() + TICK);
                let taken = backlog.progress().wrapping_sub(before);
                before = backlog.progress();
                // At most this much of the answer is left.
                if let Err(fault) = self.tick(taken, SEND_BUFFER as u64, ticket, limits) {
                    backlog.give_up();
                    return Poll::Ready(Err(fault.into()));
                }
            }
        })
        .await
    }

    /// The wait is over; so many bytes were taken since the last tick.
    fn took(&mut self, bytes: u64, ticket: &mut Ticket) {
        self.taken += bytes;
        self.idle = Duration::ZERO;
        ticket.release(std::mem::take(&mut self.held));
    }

    /// After each [`TICK`] of waiting.
    ///
    /// # Errors
    /// The client has taken too little, or memory is short and it has taken nothing.
    fn tick(&mut self, taken: u64, held: u64, ticket: &mut Ticket, limits: &Limits) -> Result<(), Fault> {
        self.waited += TICK;
        self.taken += taken;
        self.idle = if taken > 0 { Duration::ZERO } else { self.idle + TICK };
        let charged = ticket.charge(held.saturating_sub(self.held));
        self.held = self.held.max(held);
        if taken == 0 {
            charged?;
        }
        let normal = limits.write_idle_timeout;
        if self.idle >= ticket.patience(normal) && !self.idle.is_zero() {
            let what = "the client read nothing of its answer for too long";
            return Err(Fault::ClientStalled { what, setting: "limits.write_idle_timeout" });
        }
        let enough = limits.min_body_rate as f64 * self.waited.as_secs_f64();
        if self.waited >= normal && (self.taken as f64) < enough {
            let what = "the client reads its answer too slowly";
            return Err(Fault::ClientStalled { what, setting: "limits.min_body_rate" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::admission::tests::ticket;

    fn limits() -> Limits {
        Limits {
            write_idle_timeout: TICK * 8,
            min_body_rate: 1000,
            max_inflight_bytes: 1000,
            ..Limits::default()
        }
    }

    /// Ticks until the client is given up; the number of ticks and the setting.
    fn given_up(stall: &mut Stall, taken: u64, ticket: &mut Ticket) -> (usize, &'static str) {
        for ticks in 1..100 {
            match stall.tick(taken, 10, ticket, &limits()) {
                Ok(()) => {}
                Err(Fault::ClientStalled { setting, .. }) => return (ticks, setting),
                Err(fault) => panic!("{fault}"),
            }
        }
        panic!("the client is waited for without end")
    }

    #[test]
    fn a_client_that_takes_nothing_or_very_little_is_given_up() {
        let mut ticket = ticket(&limits());
        assert_eq!(given_up(&mut Stall::default(), 0, &mut ticket), (8, "limits.write_idle_timeout"));
        assert_eq!(given_up(&mut Stall::default(), 1, &mut ticket), (8, "limits.min_body_rate"));
    }

    #[test]
    fn a_client_that_pauses_before_each_chunk_is_waited_for() {
        let (mut stall, mut ticket) = (Stall::default(), ticket(&limits()));
        for _ in 0..100 {
            stall.tick(0, 10, &mut ticket, &limits()).unwrap();
            stall.tick(0, 10, &mut ticket, &limits()).unwrap();
            stall.took(2000, &mut ticket);
        }
        assert_eq!(stall.held, 0);
    }

    #[test]
    fn a_client_is_waited_for_less_when_memory_is_short() {
        let mut ticket = ticket(&limits());
        ticket.charge(740).unwrap();
        // Half of the upper half is left.
        assert_eq!(given_up(&mut Stall::default(), 0, &mut ticket), (4, "limits.write_idle_timeout"));
    }

    #[test]
    fn what_waits_when_no_memory_is_left_is_refused() {
        let (mut stall, mut ticket) = (Stall::default(), ticket(&limits()));
        let fault = stall.tick(0, 1001, &mut ticket, &limits()).unwrap_err();
        assert!(matches!(fault, Fault::TooLarge { .. }), "{fault}");
    }
}
