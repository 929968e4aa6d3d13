//! The stages that only compute: on the thread of the shard, or, if they take long, on another.
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::context::RequestContext;
use super::offload::{MAX_INLINE, MAX_INLINE_FIELDS};
use super::operation::{Malformed, Operation};
use crate::fault::Fault;
use crate::models::catalog::ModelVersion;
use crate::repair::policy::ModelPolicy;
use crate::repair::{Plan, Verdict};
use crate::telemetry::metrics::Stage;
use crate::transport::framing;
use crate::wire::Rope;

/// A scanned request is charged for its memory above this size.
const FREE: usize = 16 << 10;
/// More steps than this take long by their number.
const MAX_INLINE_STEPS: usize = 1024;

/// Scans the message here; `None` if that takes long.
#[inline]
pub(super) fn scan(cx: &RequestContext<'_>, message: &Rope) -> Option<Result<Operation, Malformed>> {
    let method = cx.metrics.method;
    cx.metrics.stage(Stage::Scan, || Operation::scan(method, message, MAX_INLINE_FIELDS))
}

/// Scans the message on another thread. What was read of it so far is read again, which costs less
/// than making a scan resumable.
///
/// # Errors
/// The process is ending.
pub(super) async fn scan_elsewhere(
    cx: &RequestContext<'_>,
    message: &Rope,
) -> Result<Result<Operation, Malformed>, Fault> {
    let (method, message) = (cx.metrics.method, message.clone());
    let scanned = elsewhere(cx, Stage::Scan, move || Operation::scan(method, &message, usize::MAX)).await?;
    scanned.ok_or_else(|| Fault::Internal { problem: "a scan without a limit stopped".to_owned() })
}

/// Charges the request for what was scanned.
///
/// # Errors
/// It takes more memory than there is.
pub(super) fn charge(cx: &mut RequestContext<'_>, operation: &Operation) -> Result<(), Fault> {
    match operation.heap_size() {
        0..=FREE => Ok(()),
        size => cx.ticket.reserve(size as u64),
    }
}

/// Decides on the request here; `None` if that takes long.
#[inline]
pub(super) fn judge(
    cx: &RequestContext<'_>,
    operation: &Operation,
    message: &Rope,
    version: &Arc<ModelVersion>,
    policy: &ModelPolicy,
) -> Option<Verdict> {
    if message.len() > MAX_INLINE && operation.unlike(version, policy) > MAX_INLINE {
        return None;
    }
    let (limits, mode) = (cx.config.request_limits(), cx.options.mode);
    Some(
        cx.metrics.stage(Stage::Plan, || {
            operation.judge(message, version, policy, limits, mode, cx.text.as_deref())
        }),
    )
}

/// Decides on the request on another thread.
///
/// # Errors
/// The process is ending.
pub(super) async fn judge_elsewhere(
    cx: &RequestContext<'_>,
    operation: &Operation,
    message: &Rope,
    version: &Arc<ModelVersion>,
) -> Result<Verdict, Fault> {
    let (limits, mode, config) = (cx.config.request_limits(), cx.options.mode, Arc::clone(cx.config));
    let text = cx.text.clone();
    let (operation, message, version) = (operation.clone(), message.clone(), Arc::clone(version));
    let judge = move || {
        let policy = config.policy(&version.model);
        operation.judge(&message, &version, policy, limits, mode, text.as_deref())
    };
    elsewhere(cx, Stage::Plan, judge).await
}

/// Makes the steps of the plan. What they allocate is charged first.
///
/// # Errors
/// The repaired message would be too large, or take more memory than there is.
pub(super) async fn apply(
    cx: &mut RequestContext<'_>,
    operation: &Operation,
    message: &Rope,
    plan: &Plan,
) -> Result<Rope, Fault> {
    let cost = operation.cost(plan);
    check_size(cx, cost.values)?;
    if cost.memory > 0 {
        cx.ticket.reserve(cost.memory)?;
    }
    let repaired = if cost.memory <= MAX_INLINE as u64 && plan.steps.len() <= MAX_INLINE_STEPS {
        cx.metrics.stage(Stage::Apply, || operation.apply(message, plan))?
    } else {
        let (operation, message, plan) = (operation.clone(), message.clone(), plan.clone());
        Box::pin(elsewhere(cx, Stage::Apply, move || operation.apply(&message, &plan))).await??
    };
    check_size(cx, repaired.len() as u64)?;
    Ok(repaired)
}

/// The frames of a message that was made here.
///
/// # Errors
/// TF Serving would refuse a message of its size.
pub(super) fn frames(cx: &RequestContext<'_>, message: Rope) -> Result<SmallVec<[Bytes; 4]>, Fault> {
    check_size(cx, message.len() as u64)?;
    framing::frames(message).map_err(|error| Fault::Internal { problem: error.to_string() })
}

/// Runs work of a stage on another thread.
///
/// # Errors
/// The process is ending.
pub(super) async fn elsewhere<T: Send + 'static>(
    cx: &RequestContext<'_>,
    stage: Stage,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    cx.progress.set("checking the message");
    let since = Instant::now();
    let done = cx.shard.offload.run(work).await?;
    cx.metrics.stage_took(stage, since);
    Ok(done)
}

fn check_size(cx: &RequestContext<'_>, size: u64) -> Result<(), Fault> {
    let limit = cx.config.limits.max_message_bytes as u64;
    if size <= limit {
        return Ok(());
    }
    let (what, setting) = ("the repaired message", "limits.max_message_bytes");
    Err(Fault::Outgrown { what, size, limit, setting })
}
