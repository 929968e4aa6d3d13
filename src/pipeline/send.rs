//! Sends a message to TF Serving under a permit, again if the retry policy says so: the only place
//! where requests that it runs are sent.
use std::pin::pin;

use bytes::Bytes;
use tokio::time::Instant;
use tonic::Code;

use super::context::RequestContext;
use super::trace::code_of;
use crate::explain::{Overload, overload};
use crate::fault::{Fault, GRPC_MESSAGE, percent_decode};
use crate::limiter::{Order, Permit, ShardHandle, Source};
use crate::retry::policy::{Cause, Decision};
use crate::telemetry::metrics::{self, Stage};
use crate::telemetry::traces::Kind;
use crate::upstream::call::{CallError, First, Reply, call};

/// What came of one call.
type Outcome = Result<Reply, CallError>;

/// Waits for a permit, sends, and gives the beginning of the answer.
///
/// # Errors
/// No permit before the deadline, or no answer.
pub(super) async fn send(cx: &mut RequestContext<'_>, frames: &[Bytes]) -> Result<Reply, Fault> {
    let permit = acquire(cx, Order::Back, None).await?;
    send_with(cx, frames, permit).await
}

/// Sends under a permit that was acquired.
///
/// # Errors
/// No answer, or no permit for a retry before the deadline.
pub(super) async fn send_with(
    cx: &mut RequestContext<'_>,
    frames: &[Bytes],
    mut permit: Option<Permit>,
) -> Result<Reply, Fault> {
    cx.shard.retry_budget.borrow_mut().earn();
    loop {
        cx.progress.set("waiting for the upstream");
        let sent = Instant::now();
        let span = cx.metrics.trace().map(|trace| trace.upstream(&mut cx.head, sent));
        let outcome = call(&cx.shard.pool, &mut cx.head, frames, cx.deadline, sent).await;
        if let (Some(span), Some(trace)) = (span, cx.metrics.trace()) {
            trace.upstream_ended(span, cx.metrics.method, code_of(&outcome));
        }
        let Some(cause) = cause(&outcome) else {
            if let Some(permit) = permit {
                permit.answered();
            }
            if outcome.is_ok() {
                cx.metrics.call().answered(sent);
            }
            return outcome.map_err(CallError::into_fault);
        };
        // Boxed: a rare path need not size the task of every request.
        permit = match Box::pin(retry(cx, permit, cause)).await? {
            Next::Call(permit) => permit,
            Next::GiveUp => return outcome.map_err(CallError::into_fault),
        };
    }
}

/// What follows a call that could be made again.
enum Next {
    /// The next call, under this permit.
    Call(Option<Permit>),
    /// The client gets what came of the last call.
    GiveUp,
}

async fn retry(cx: &mut RequestContext<'_>, permit: Option<Permit>, cause: Cause) -> Result<Next, Fault> {
    let decision = cx.retry(cause);
    if cause == Cause::Unprocessed && decision == Decision::Now {
        return Ok(Next::Call(permit));
    }
    if let Some(label) = label(cause).filter(|_| cx.shard.limiter.is_some()) {
        if cause != Cause::ConnectionLost {
            metrics::upstream_refusal(label);
        }
        if cause == Cause::NoThread
            && let Some(limiter) = &cx.shard.limiter
        {
            limiter.count_refusal();
        }
        if decision != Decision::GiveUp {
            metrics::retry(label);
        }
    }
    let withheld = match (permit, cause) {
        (Some(permit), Cause::NoThread | Cause::BatchQueueFull) => permit.refused(),
        (permit, _) => {
            drop(permit);
            None
        }
    };
    if decision == Decision::GiveUp {
        return Ok(Next::GiveUp);
    }
    if let Decision::After(pause) = decision {
        cx.progress.set("waiting for the upstream to take the request");
        tokio::time::sleep(pause).await;
    }
    acquire(cx, Order::Front, withheld).await.map(Next::Call)
}

/// Waits in the queue, if there is one. `None`: there is no limit. `withheld`: until when the
/// permit of a refused call is withheld.
pub(super) async fn acquire(
    cx: &RequestContext<'_>,
    order: Order,
    withheld: Option<Instant>,
) -> Result<Option<Permit>, Fault> {
    let Some(limiter) = &cx.shard.limiter else { return Ok(None) };
    match limiter.take() {
        Some(permit) => Ok(Some(permit)),
        // Boxed, for the same reason as retries.
        None => Box::pin(queue(cx, limiter, order, withheld)).await.map(Some),
    }
}

async fn queue(
    cx: &RequestContext<'_>,
    limiter: &ShardHandle,
    order: Order,
    withheld: Option<Instant>,
) -> Result<Permit, Fault> {
    cx.progress.set("waiting in the queue for the upstream");
    let since = Instant::now();
    let span = cx.metrics.trace().map(|trace| trace.begin("queue", Kind::Internal, since));
    let source = Source { model: cx.metrics.model().name(), peer: cx.peer.key() };
    let mut outcome = pin!(limiter.wait(source, cx.deadline.at(), order)?.outcome());
    let outcome = match withheld {
        Some(until) => match tokio::time::timeout_at(until, &mut outcome).await {
            Ok(outcome) => outcome,
            Err(_) => {
                limiter.resume();
                outcome.await
            }
        },
        None => outcome.await,
    };
    if let (Some(span), Some(trace)) = (span, cx.metrics.trace()) {
        trace.end(span, |_| {});
    }
    // The queue drops a waiter only when the process ends.
    let permit = outcome.ok_or(Fault::Draining)?.into_permit()?;
    let waited = since.elapsed();
    cx.metrics.report.set_queue(waited);
    metrics::stage_seconds(Stage::Queue, waited.as_secs_f64());
    Ok(permit)
}

/// Why the call could be made again; `None` for an answer of any other kind.
fn cause(outcome: &Outcome) -> Option<Cause> {
    let reply = match outcome {
        Ok(reply) => reply,
        Err(CallError::Unprocessed(_)) => return Some(Cause::Unprocessed),
        Err(CallError::ConnectionLost(_)) => return Some(Cause::ConnectionLost),
        Err(CallError::Other(_)) => return None,
    };
    if matches!(reply.first, First::Data(_)) {
        return None;
    }
    let code = reply.refusal().filter(|code| matches!(code, Code::ResourceExhausted | Code::Unavailable))?;
    let message = percent_decode(reply.trailers()?.get(GRPC_MESSAGE)?.as_bytes());
    match (code, overload(&message)?) {
        (Code::ResourceExhausted, Overload::NoThread) => Some(Cause::NoThread),
        (Code::Unavailable, Overload::BatchQueueFull) => Some(Cause::BatchQueueFull),
        _ => None,
    }
}

/// What retries and refusals are counted under.
fn label(cause: Cause) -> Option<metrics::Cause> {
    match cause {
        Cause::NoThread => Some(metrics::Cause::Threads),
        Cause::BatchQueueFull => Some(metrics::Cause::BatchQueue),
        Cause::ConnectionLost => Some(metrics::Cause::Connection),
        Cause::Unprocessed | Cause::SignatureChanged => None,
    }
}
