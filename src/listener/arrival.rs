//! Waits for the body of a request as long as it keeps arriving.
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::config::Limits;
use crate::fault::Fault;
use crate::limiter::admission::Ticket;

/// A body on its way.
pub(super) trait Arriving {
    type Error: From<Fault>;

    /// Takes what has arrived, and charges it; ready at the end of the body.
    fn poll(&mut self, cx: &mut Context<'_>, ticket: &mut Ticket) -> Poll<Result<(), Self::Error>>;

    /// Bytes that have arrived.
    fn arrived(&self) -> u64;
}

/// Reads a body to its end.
///
/// # Errors
/// Reading it fails, or it arrives too slowly.
pub(super) async fn arrive<B: Arriving>(
    body: &mut B,
    limits: &Limits,
    ticket: &mut Ticket,
) -> Result<(), B::Error> {
    // Usually all of it is here already.
    match poll_fn(|cx| Poll::Ready(body.poll(cx, ticket))).await {
        Poll::Ready(outcome) => outcome,
        // Boxed, as every rare path is: it need not size the task of every request.
        Poll::Pending => Box::pin(rest(body, limits, ticket)).await,
    }
}

/// Waits for the rest. The request counts as one that waits for its client meanwhile.
async fn rest<B: Arriving>(body: &mut B, limits: &Limits, ticket: &mut Ticket) -> Result<(), B::Error> {
    ticket.set_waiting()?;
    let Limits { body_idle_timeout: idle, body_timeout, .. } = *limits;
    let start = Instant::now();
    let mut timer = pin!(sleep_until(start + idle.min(body_timeout)));
    let mut before = body.arrived();
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = body.poll(cx, ticket) {
            return Poll::Ready(outcome);
        }
        // A clock is only read, and the progress only judged, when the timer fires.
        while timer.as_mut().poll(cx).is_ready() {
            let now = timer.deadline();
            let elapsed = now - start;
            if let Some(fault) = too_slow(limits, elapsed, body.arrived(), before) {
                return Poll::Ready(Err(fault.into()));
            }
            before = body.arrived();
            timer.as_mut().reset((now + idle).min(start + body_timeout));
        }
        Poll::Pending
    })
    .await?;
    Ok(ticket.set_running()?)
}

/// Why a request that takes this long is given up: `arrived` bytes of it are here, `before` were at
/// the last check.
fn too_slow(limits: &Limits, elapsed: Duration, arrived: u64, before: u64) -> Option<Fault> {
    let stalled = |what, setting| Some(Fault::ClientStalled { what, setting });
    if elapsed >= limits.body_timeout {
        stalled("the request took too long to arrive", "limits.body_timeout")
    } else if arrived == before {
        stalled("nothing of the request arrived for too long", "limits.body_idle_timeout")
    } else if (arrived as f64) < limits.min_body_rate as f64 * elapsed.as_secs_f64() {
        stalled("the request arrives too slowly", "limits.min_body_rate")
    } else {
        None
    }
}
