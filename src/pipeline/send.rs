//! Sends a message to TF Serving when there is a permit for it, and again when TF Serving had none:
//! the only way to it for what it runs.
use std::time::Duration;

use bytes::Bytes;
use tonic::Code;

use super::Shard;
use super::call::{Call, Stop, now};
use super::deadline::Deadline;
use super::forward::{Failed, First, Reply, forward};
use super::request_metrics::RequestMetrics;
use crate::fault::percent_decode;
use crate::limiter::{Grant, Order, Outcome, Permit, ShardHandle};
use crate::telemetry::metrics::{self, Cause, Stage};

/// What TF Serving's gRPC says of a call for which it has no thread.
const NO_THREAD: &str = "Server Threadpool Exhausted";
/// And its batching, of a request for which there is no room.
const NO_ROOM: &str = "The batch scheduling queue";
/// Times that a request is sent again; then the client gets the server's answer. With the pauses
/// about half a second: whoever else holds the server's threads has had time to give some back.
const MAX: u32 = 16;
/// The pauses double from a millisecond; the first repetition only waits for its permit.
const MAX_PAUSE: u32 = 6;

/// One message on its way.
struct Sending<'a> {
    shard: &'a Shard,
    call: &'a Call,
    request: &'a mut http::Request<()>,
    frames: &'a [Bytes],
    deadline: Deadline,
}

/// Waits for a permit, forwards, and gives the beginning of the answer.
pub(super) async fn send(
    shard: &Shard,
    call: &Call,
    request: &mut http::Request<()>,
    frames: &[Bytes],
    deadline: Deadline,
    metrics: &RequestMetrics,
) -> Result<Reply, Stop> {
    let Some(limiter) = &shard.limiter else {
        call.waits_for("waiting for the upstream");
        let sent = now();
        let reply =
            forward(&shard.pool, request, frames, deadline, sent).await.map_err(Failed::into_fault)?;
        metrics.upstream(sent);
        return Ok(reply);
    };
    shard.budget.borrow_mut().earn();
    let permit = match limiter.take() {
        Some(permit) => permit,
        None => queue(limiter, call, deadline, Order::Back).await?,
    };
    call.waits_for("waiting for the upstream");
    let sent = now();
    let outcome = forward(&shard.pool, request, frames, deadline, sent).await;
    let outcome = match cause(&outcome) {
        None => {
            permit.answered();
            metrics.upstream(sent);
            outcome
        }
        // Boxed: a rare way need not size the task of every request.
        Some(cause) => {
            let sending = Sending { shard, call, request, frames, deadline };
            Box::pin(sending.again(limiter, permit, outcome, cause, metrics)).await?
        }
    };
    outcome.map_err(|failed| failed.into_fault().into())
}

impl Sending<'_> {
    async fn again(
        self,
        limiter: &ShardHandle,
        mut permit: Permit,
        mut outcome: Result<Reply, Failed>,
        mut cause: Cause,
        metrics: &RequestMetrics,
    ) -> Result<Result<Reply, Failed>, Stop> {
        let mut tries = 0;
        loop {
            match cause {
                Cause::Threads | Cause::BatchQueue => {
                    metrics::upstream_refusal(cause);
                    permit.refused();
                }
                Cause::Connection => drop(permit),
            }
            tries += 1;
            let may = match cause {
                // Nothing was run, and the permit that it waits for keeps it from coming too often.
                Cause::Threads => tries <= MAX,
                Cause::BatchQueue => tries <= MAX && self.shard.budget.borrow_mut().spend(),
                // Once: should the request be what ended the server, then not again and again.
                Cause::Connection => tries == 1 && self.shard.budget.borrow_mut().spend(),
            };
            if !may {
                return Ok(outcome);
            }
            drop(outcome);
            metrics::retry(cause);
            self.call.waits_for("waiting for the upstream to take the request");
            if cause == Cause::BatchQueue || tries > 1 {
                tokio::time::sleep(self.pause(tries)).await;
            }
            permit = queue(limiter, self.call, self.deadline, Order::Front).await?;
            self.call.waits_for("waiting for the upstream");
            let sent = now();
            outcome = forward(&self.shard.pool, self.request, self.frames, self.deadline, sent).await;
            match self::cause(&outcome) {
                Some(next) => cause = next,
                None => {
                    permit.answered();
                    metrics.upstream(sent);
                    return Ok(outcome);
                }
            }
        }
    }

    /// From half of the full time up to the full time.
    fn pause(&self, tries: u32) -> Duration {
        let full = 1_000_u64 << tries.min(MAX_PAUSE);
        // Spread by the number of the request and by the try: those that were sent back together do
        // not come together.
        let spread =
            (u64::from(self.shard.served.get()) << 5 | u64::from(tries)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Duration::from_micros(full / 2 + (spread >> 32) % (full / 2))
    }
}

/// Stands in the queue, if there is one.
async fn queue(limiter: &ShardHandle, call: &Call, deadline: Deadline, order: Order) -> Result<Permit, Stop> {
    if let Some(permit) = limiter.take() {
        return Ok(permit);
    }
    call.waits_for("waiting in the queue for the upstream");
    let since = now();
    let waiter = limiter.wait(deadline.at(), order, None)?;
    // Nothing else comes while this thread lives.
    let Some(Outcome::Grant(Grant { permit, .. })) = waiter.outcome().await else {
        return Err(Stop::ClientCancelled);
    };
    metrics::stage_seconds(Stage::Queue, since.elapsed().as_secs_f64());
    Ok(permit)
}

/// Why a request that came to this may be sent again; none for an answer of any other kind.
fn cause(outcome: &Result<Reply, Failed>) -> Option<Cause> {
    let reply = match outcome {
        Ok(reply) => reply,
        Err(Failed::ConnectionLost(_)) => return Some(Cause::Connection),
        Err(Failed::Otherwise(_)) => return None,
    };
    if matches!(reply.first, First::Data(_)) {
        return None;
    }
    let (cause, text) = match reply.refusal()? {
        Code::ResourceExhausted => (Cause::Threads, NO_THREAD),
        Code::Unavailable => (Cause::BatchQueue, NO_ROOM),
        _ => return None,
    };
    let message = reply.trailers()?.get("grpc-message")?;
    percent_decode(message.as_bytes()).starts_with(text).then_some(cause)
}
