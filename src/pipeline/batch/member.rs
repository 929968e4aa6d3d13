//! A request that may share a run: it waits for one, and gets its rows of the answer or is sent
//! alone.
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::annotations::ResponseAnnotations;
use super::super::answer::{Answer, WholeAnswer};
use super::super::context::RequestContext;
use super::super::fan_out::fan_out;
use super::super::send::{acquire, send, send_with};
use super::{answer, key, without_encoding};
use crate::batch::{self, Bypass, MAX_EXPANSION, Part, compare};
use crate::fault::Fault;
use crate::limiter::Order;
use crate::repair::{Action, Calls, Change, Verdict};
use crate::runs::{Brings, Check, Confirmation, Offered, Outcome, Rows, Running, Runs, WAITING, Waiting};
use crate::telemetry::metrics::FlushCause;
use crate::telemetry::traces::{Kind, SpanContext};
use crate::transport::framing::PREFIX;
use crate::upstream::call::{CallHead, Collected, code};
use crate::wire::{PredictView, Rope, reply};

/// A request that conforms, on its way to TF Serving.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Candidate<'a> {
    /// What is sent if it is sent alone, unless it has to be padded.
    pub frames: &'a [Bytes],
    /// As it came, and what was read of it.
    pub message: &'a Rope,
    pub view: &'a PredictView,
    /// After its repairs, before it is padded.
    pub repaired: Option<&'a Rope>,
    pub calls: Calls,
}

/// Starts a run for this request alone, sent as it is, if it need not wait for one that others can
/// share.
#[inline]
pub(in super::super) fn start_alone(
    cx: &RequestContext<'_>,
    runs: &Arc<Runs>,
    view: &PredictView,
    verdict: &Verdict,
    now: Instant,
) -> Option<Running> {
    if cx.shard.limiter.as_ref().is_some_and(|limiter| !limiter.is_free()) {
        return None;
    }
    runs.start_alone(&cx.shard.runs, rows(view, verdict), now)
}

/// The rows of the request after its repairs.
pub(in super::super) fn rows(view: &PredictView, verdict: &Verdict) -> u64 {
    let steps = match verdict.action {
        Action::Apply => verdict.plan.steps.as_slice(),
        Action::Forward | Action::Refuse => &[],
    };
    let rows = view.inputs.iter().enumerate().find_map(|(at, input)| {
        let repaired = steps.iter().rev().find_map(|step| match &step.change {
            Change::Tensor { after, .. } if step.index == Some(at) => Some(&after.shape),
            _ => None,
        });
        repaired.unwrap_or(&input.tensor.shape).first().copied()
    });
    rows.map_or(1, i64::unsigned_abs)
}

/// Sends a request in a run with others, or alone if it cannot share one.
///
/// # Errors
/// It cannot be answered.
pub(in super::super) async fn share(
    cx: &mut RequestContext<'_>,
    runs: &Arc<Runs>,
    mut request: Candidate<'_>,
) -> Result<Answer, Fault> {
    let scanned;
    let (message, view) = match request.repaired {
        None => (request.message, request.view),
        Some(repaired) => {
            let view = PredictView::scan(repaired);
            scanned = view.map_err(|error| Fault::Internal { problem: error.to_string() })?;
            (repaired, &scanned)
        }
    };
    let part = match part(cx, runs, message, view) {
        Ok(part) => part,
        Err(bypass) => {
            runs.metrics.bypass(bypass.as_str());
            return lone(cx, &request).await;
        }
    };
    let metadata = key::common(cx.head.request().headers());
    let key = batch::key(&runs.hasher, view, &part, &metadata);
    drop(metadata);
    let (source, rows) = ((cx.peer.key(), cx.deadline.at()), part.rows);
    let span = cx.metrics.trace().map(|trace| trace.begin("batch", Kind::Internal, Instant::now()));
    let head = std::mem::take(&mut cx.head);
    let brings = Box::new(Brings { part, head, span: span.map(|span| span.context) });
    let changed = request.repaired.is_some();
    let filled = runs.settings.filled(rows);
    if filled != rows {
        // The model is compiled for the allowed numbers of rows, so a lone run is filled too.
        request.repaired = Some(message);
        request.calls = Calls::Pad { rows: rows as i64, to: filled as i64 };
    }
    cx.progress.set(WAITING);
    let outcome = match runs.offer(&cx.shard.runs, key, source, brings)? {
        Offered::Waits(place, outcome) => wait(place, outcome).await?,
        Offered::Alone(brings, running) => {
            runs.metrics.run(FlushCause::Deadline, 1, rows);
            let permit = acquire(cx, Order::Back, None).await?;
            Outcome::Only { brings, running, permit }
        }
    };
    if let (Some(span), Some(trace)) = (span, cx.metrics.trace()) {
        trace.end(span, |span| span.links.extend(run_of(&outcome)));
    }
    match outcome {
        Outcome::Rows(rows) => {
            cx.metrics.report.set_batch_rows(rows.common.rows);
            cx.ticket.charge(rows.message.len() as u64)?;
            Ok(Answer::Whole(answer(rows)?))
        }
        Outcome::Only { brings, running, permit } => {
            cx.head = brings.head;
            let answer = match request.calls {
                Calls::Pad { .. } => {
                    drop(permit);
                    lone(cx, &request).await?
                }
                _ => Answer::from(send_with(cx, request.frames, permit).await?),
            };
            if answer.is_ok_so_far() {
                running.answered();
            }
            Ok(answer)
        }
        Outcome::Compare { brings, rows, check, place } => {
            take_back(cx, brings.head, changed);
            cx.head.accept_uncompressed();
            let alone = alone(cx, &request).await;
            if let Some(what) = judge(&check, &alone, &rows)
                && let Some(place) = place
            {
                match check.turn(&what) {
                    Some(turn) => {
                        let (part, head) = (brings.part, std::mem::take(&mut cx.head));
                        let confirmation = Confirmation { turn, part, head, rows, place };
                        cx.shard.runs.confirm(Box::new(confirmation));
                    }
                    // The one that is being confirmed decides.
                    None => check.passed(),
                }
            }
            alone.map(Alone::into_answer)
        }
        Outcome::Alone { brings, check } => {
            take_back(cx, brings.head, changed);
            cx.attempts.start_call();
            let answer = lone(cx, &request).await?;
            if let Some(check) = check
                && answer.is_ok_so_far()
            {
                check.passed();
            }
            Ok(answer)
        }
        Outcome::Refused(refused) => {
            let mut head = Response::new(()).into_parts().0;
            head.headers.clone_from(&refused.metadata);
            head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            let (trailers, annotations) = (refused.trailers.clone(), ResponseAnnotations::default());
            Ok(Answer::Failed { head, trailers, annotations })
        }
        Outcome::Failed(fault) => Err(fault),
    }
}

/// The span of the run that gave the rows.
fn run_of(outcome: &Outcome) -> Option<SpanContext> {
    match outcome {
        Outcome::Rows(rows) | Outcome::Compare { rows, .. } => rows.common.span,
        Outcome::Alone { .. } | Outcome::Only { .. } | Outcome::Refused(_) | Outcome::Failed(_) => None,
    }
}

/// The call may have been made for a run, whose message is another one, with this head.
fn take_back(cx: &mut RequestContext<'_>, head: CallHead, changed: bool) {
    cx.head = head;
    if !changed {
        cx.head.set_unchanged();
    }
}

/// Sends the request alone.
async fn lone(cx: &mut RequestContext<'_>, request: &Candidate<'_>) -> Result<Answer, Fault> {
    match (request.calls, request.repaired) {
        (Calls::Pad { .. }, Some(message)) => {
            cx.head.set_changed();
            cx.head.accept_uncompressed();
            fan_out(cx, message, request.calls, ResponseAnnotations::default()).await
        }
        _ => Ok(Answer::from(send(cx, request.frames).await?)),
    }
}

/// What the request brings.
///
/// # Errors
/// Why it cannot share a run.
fn part(
    cx: &mut RequestContext<'_>,
    runs: &Runs,
    message: &Rope,
    view: &PredictView,
) -> Result<Part, Bypass> {
    if runs.trust.off().is_some() {
        return Err(Bypass::NotBatchable);
    }
    if key::opts_out(cx.head.request().headers()) {
        return Err(Bypass::OptedOut);
    }
    let expansion = batch::expansion(view);
    // What is short enough to be sent as it is must not fail for the memory that sharing takes.
    if expansion > MAX_EXPANSION || expansion > 0 && !cx.ticket.try_reserve(expansion) {
        return Err(Bypass::TooLarge);
    }
    Part::of(&runs.signature, message, view)
}

/// Waits for the outcome.
async fn wait(place: Waiting, outcome: oneshot::Receiver<Outcome>) -> Result<Outcome, Fault> {
    let received = outcome.await;
    place.done();
    received.map_err(|_| Fault::Internal {
        problem: "the run of this request ended without an answer".to_owned(),
    })
}

/// The answer of a request that was sent alone.
enum Alone {
    Whole(Rope, WholeAnswer),
    /// An error, or an answer that is not OK.
    Other(Answer),
}

impl Alone {
    fn into_answer(self) -> Answer {
        match self {
            Self::Whole(_, whole) => Answer::Whole(whole),
            Self::Other(answer) => answer,
        }
    }
}

/// Sends the request alone, and reads the whole answer.
async fn alone(cx: &mut RequestContext<'_>, request: &Candidate<'_>) -> Result<Alone, Fault> {
    cx.attempts.start_call();
    let reply = match lone(cx, request).await? {
        Answer::Upstream { reply, .. } => reply,
        Answer::Whole(whole) => {
            let all: Rope = whole.frames.iter().cloned().collect();
            return Ok(Alone::Whole(all.slice(PREFIX..all.len()), whole));
        }
        answer @ Answer::Failed { .. } => return Ok(Alone::Other(answer)),
    };
    match reply.collect(|bytes| cx.ticket.charge(bytes)).await? {
        Collected::Refused(reply) => Ok(Alone::Other(Answer::from(*reply))),
        Collected::Ended { head, message, trailers } => {
            let trailers = trailers.unwrap_or_default();
            let message = message?;
            if code(&trailers) != Some(tonic::Code::Ok) {
                let annotations = ResponseAnnotations::default();
                return Ok(Alone::Other(Answer::Failed { head, trailers, annotations }));
            }
            let mut metadata = head.headers;
            if !message.compressed {
                metadata = without_encoding(metadata);
            }
            let whole = WholeAnswer { metadata, frames: message.frames, trailers };
            Ok(Alone::Whole(message.payload, whole))
        }
    }
}

/// Compares what the run gave with what the request got alone. Returns a difference that may be
/// rounding.
fn judge(check: &Check, alone: &Result<Alone, Fault>, rows: &Rows) -> Option<String> {
    let Ok(Alone::Whole(message, _)) = alone else { return None };
    // Versions may differ as they like.
    if reply::version(&rows.message).ok() != reply::version(message).ok() {
        return None;
    }
    match compare(&rows.message, message) {
        Ok(()) => check.passed(),
        Err(divergence) if divergence.is_small => return Some(divergence.to_string()),
        Err(divergence) => check.diverged(&divergence.to_string()),
    }
    None
}
