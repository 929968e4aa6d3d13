//! Makes one call for all members of a run, and hands each its rows of the answer.
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use http::HeaderMap;
use tokio::time::Instant;
use tonic::Code;

use super::super::context::{Progress, RequestContext};
use super::super::options::RequestOptions;
use super::super::request_metrics::RequestMetrics;
use super::super::send::{acquire, send_with};
use super::super::trace::RequestTrace;
use super::super::{Shard, stages};
use super::without_encoding;
use crate::batch::{Cause, Formed, Part, Request, Slicer, is_of_copies, join};
use crate::config::{AccessLog, Config};
use crate::explain::overload;
use crate::fault::{Fault, GRPC_MESSAGE, percent_decode};
use crate::limiter::Order;
use crate::runs::{
    Brings, Check, Common, Member, Outcome, Place, Refused, Reserved, Rows, RunHandle, Running, Runs,
};
use crate::telemetry::metrics::{Door, FlushCause, Method};
use crate::telemetry::traces::{Kind, SpanContext};
use crate::transport::deadline::Deadline;
use crate::upstream::call::{CallHead, Collected, First, Reply, code};
use crate::wire::rows::RowsError;
use crate::wire::{Rope, reply};

/// What came of the call.
pub(super) enum Called {
    /// A message and the metadata around it.
    Answered {
        metadata: HeaderMap,
        trailers: HeaderMap,
        message: Rope,
    },
    Refused(Refused),
    /// Together the rows are a message that is too large, or there is not enough memory for them.
    TooLarge,
    Failed(Fault),
}

/// Makes a run: waits for its permit, takes its members, calls TF Serving, and hands out the rows.
pub(crate) async fn make(shard: Rc<Shard>, reserved: Reserved) {
    let runs = Arc::clone(reserved.runs());
    let progress = Progress::new("waiting for the upstream");
    let since = Instant::now();
    let mut metrics = RequestMetrics::new(Door::Grpc, Method::Predict, since, 1, AccessLog::Off);
    metrics.set_model(&runs.model_metrics);
    let config = shard.config();
    let mut cx = own_context(&shard, &config, &progress, &mut metrics);
    let permit = match acquire(&cx, Order::Back, None).await {
        Ok(permit) => permit,
        // The queue of the limiter is full: the members are told so.
        Err(fault) => {
            if let Some((_, formed)) = reserved.form() {
                hand_out(&shard.runs, formed.members, |_| Outcome::Failed(fault.clone()));
            }
            return;
        }
    };
    let Some((running, formed)) = reserved.form() else { return };
    let Formed { cause, rows, mut members, .. } = formed;
    runs.metrics.run(label(cause), members.len(), rows);
    let filled = runs.settings.filled(rows);
    if members.len() == 1
        && filled == rows
        && let Some(request) = members.pop()
    {
        let Request { payload: Member { brings, outcome, shard: to }, .. } = request;
        let mut outcomes = shard.runs.outcomes();
        outcomes.push(to, outcome, Outcome::Only { brings, running, permit });
        outcomes.send();
        return;
    }
    let permit = permit.map(|permit| permit.shared_by(members.len() as u32));
    let parts: Vec<_> = members.iter().map(|request| &request.payload.brings.part).collect();
    let message = join(&runs.signature, &parts, filled);
    drop(parts);
    if let Some(first) = members.first_mut() {
        cx.head = std::mem::take(&mut first.payload.brings.head);
    }
    let own_trace = trace(&cx, since, &members).then(|| cx.head.take_trace());
    cx.head.set_changed();
    cx.head.accept_uncompressed();
    cx.deadline = latest(&runs, &members);
    let sent = Instant::now();
    let called = {
        let call = pin!(call(&mut cx, message, permit, running, &runs, sent));
        unless_left(call, &mut members).await
    };
    let span = cx.metrics.trace().map(RequestTrace::context);
    if let Some(trace) = cx.metrics.take_trace() {
        let code = called.as_ref().map_or(Code::Cancelled, Called::code);
        trace.finish_run(&runs.model_metrics, members.len(), rows, code);
    }
    // Nobody waits for the answer: the call is cancelled.
    let Some(called) = called else { return };
    if let Some(own_trace) = own_trace {
        cx.head.restore_trace(own_trace);
    }
    if let Some(first) = members.first_mut() {
        first.payload.brings.head = std::mem::take(&mut cx.head);
    }
    answer(&shard.runs, &runs, called, members, (rows, filled, span));
}

/// For a call that no single request makes.
pub(super) fn own_context<'a>(
    shard: &'a Shard,
    config: &'a Arc<Config>,
    progress: &'a Progress,
    metrics: &'a mut RequestMetrics,
) -> RequestContext<'a> {
    RequestContext {
        shard,
        config,
        peer: shard.own.peer(),
        options: RequestOptions::NONE,
        deadline: Deadline::default(),
        ticket: shard.own.memory(),
        progress,
        metrics,
        attempts: shard.attempts(config),
        head: CallHead::default(),
        text: None,
        refusal: None,
    }
}

/// Traces the run if one of its members is traced.
fn trace(cx: &RequestContext<'_>, since: Instant, members: &[Request<Member>]) -> bool {
    let Some(tracer) = &cx.shard.tracer else { return false };
    let spans = members.iter().filter_map(|member| member.payload.brings.span);
    cx.metrics.set_trace(RequestTrace::of_run(tracer, since, spans));
    let Some(trace) = cx.metrics.trace() else { return false };
    let queue = trace.begin("queue", Kind::Internal, since);
    trace.end(queue, |_| {});
    true
}

impl Called {
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Answered { .. } | Self::TooLarge => Code::Ok,
            Self::Refused(refused) => code(&refused.trailers).unwrap_or(Code::Unknown),
            Self::Failed(fault) => fault.code(),
        }
    }
}

async fn call(
    cx: &mut RequestContext<'_>,
    message: Rope,
    permit: Option<crate::limiter::Permit>,
    running: Running,
    runs: &Arc<Runs>,
    sent: Instant,
) -> Called {
    let called = async {
        let frames = stages::frames(cx, message)?;
        let reply = send_with(cx, &frames, permit).await?;
        if matches!(reply.first, First::Data(_)) {
            runs.metrics.answered(sent.elapsed().as_secs_f64());
            // The next run is sent before this answer is cut.
            running.answered();
            tokio::task::yield_now().await;
        }
        match read(cx, reply).await {
            // Alone, an answer is passed on as it comes and is not held in memory.
            Err(Fault::QueueFull { .. } | Fault::ShareFull { .. } | Fault::TooLarge { .. }) => {
                Ok(Called::TooLarge)
            }
            called => called,
        }
    };
    called.await.unwrap_or_else(Called::Failed)
}

pub(super) async fn read(cx: &mut RequestContext<'_>, reply: Reply) -> Result<Called, Fault> {
    Ok(match reply.collect(|bytes| cx.ticket.charge(bytes)).await? {
        Collected::Refused(reply) => {
            let metadata = without_encoding(reply.head.headers);
            let (metadata, trailers) = match reply.first {
                First::Trailers(Some(trailers)) => (metadata, trailers),
                // The headers are the trailers.
                First::End => (HeaderMap::new(), metadata),
                First::Trailers(None) | First::Data(_) => (metadata, HeaderMap::new()),
            };
            Called::Refused(Refused { metadata, trailers })
        }
        Collected::Ended { head, message, trailers } => {
            let (metadata, trailers) = (without_encoding(head.headers), trailers.unwrap_or_default());
            if code(&trailers) != Some(Code::Ok) {
                return Ok(Called::Refused(Refused { metadata, trailers }));
            }
            let message = message?;
            if message.compressed {
                let problem = "answer of the upstream: expected it uncompressed".to_owned();
                return Err(Fault::Internal { problem });
            }
            Called::Answered { metadata, trailers, message: message.payload }
        }
    })
}

/// Hands each member what the call gave it.
fn answer(
    handle: &RunHandle,
    runs: &Arc<Runs>,
    called: Called,
    members: Vec<Request<Member>>,
    (rows, filled, span): (u64, u64, Option<SpanContext>),
) {
    match called {
        // Its rows may depend on each other, and nothing is known of that yet.
        Called::Answered { message, .. } if is_of_another_version(&message, runs.version) => {
            hand_out(handle, members, |brings| Outcome::Alone { brings, check: None });
        }
        Called::Answered { metadata, trailers, message } => {
            let common = Arc::new(Common { metadata, trailers, rows, span });
            match cut(&message, &members, &common, filled) {
                Ok(cut) => hand_out_rows(handle, runs, members, cut, filled),
                Err(error) => {
                    tracing::debug!(%error, "the answer of a shared run cannot be cut: sending its members alone");
                    send_alone(handle, runs, members);
                }
            }
        }
        Called::Refused(refused) if is_for_all(&refused.trailers) => {
            let refused = Arc::new(refused);
            hand_out(handle, members, |_| Outcome::Refused(Arc::clone(&refused)));
        }
        Called::Refused(_) => send_alone(handle, runs, members),
        Called::TooLarge => hand_out(handle, members, |brings| Outcome::Alone { brings, check: None }),
        Called::Failed(fault) => hand_out(handle, members, |_| Outcome::Failed(fault.clone())),
    }
}

fn cut(
    message: &Rope,
    members: &[Request<Member>],
    common: &Arc<Common>,
    filled: u64,
) -> Result<Vec<Rows>, RowsError> {
    let mut slicer = Slicer::new(message, filled)?;
    let cut = members.iter().map(|request| {
        let count = request.rows;
        Ok(Rows { message: slicer.next(count)?, common: Arc::clone(common), count })
    });
    cut.collect()
}

fn hand_out_rows(
    handle: &RunHandle,
    runs: &Arc<Runs>,
    members: Vec<Request<Member>>,
    cut: Vec<Rows>,
    filled: u64,
) {
    runs.trust.answered();
    let probation = Check::probation(runs, members.len());
    let checks: Vec<_> = members
        .iter()
        .map(|_| match &probation {
            Some(check) => Some(Arc::clone(check)),
            None => runs.trust.is_sampled().then(|| Check::sample(runs)),
        })
        .collect();
    let can_confirm = checks.iter().any(Option::is_some) && {
        let parts: Vec<&Part> = members.iter().map(|request| &request.payload.brings.part).collect();
        !is_of_copies(&runs.signature, &parts, filled)
    };
    let mut outcomes = handle.outcomes();
    let mut offset = 0;
    for ((request, rows), check) in members.into_iter().zip(cut).zip(checks) {
        let Member { brings, outcome, shard } = request.payload;
        let place = can_confirm.then_some(Place { offset, rows: filled });
        offset += rows.count;
        let what = match check {
            Some(check) => Outcome::Compare { brings, rows, check, place },
            None => Outcome::Rows(rows),
        };
        outcomes.push(shard, outcome, what);
    }
    outcomes.send();
}

/// TF Serving refused the run: one of the members is to blame, or it is not for sharing.
fn send_alone(handle: &RunHandle, runs: &Arc<Runs>, members: Vec<Request<Member>>) {
    let check = Check::refused(runs, members.len());
    hand_out(handle, members, |brings| Outcome::Alone { brings, check: Some(Arc::clone(&check)) });
}

fn hand_out(handle: &RunHandle, members: Vec<Request<Member>>, outcome: impl Fn(Box<Brings>) -> Outcome) {
    let mut outcomes = handle.outcomes();
    for request in members {
        let Member { brings, outcome: member, shard } = request.payload;
        outcomes.push(shard, member, outcome(brings));
    }
    outcomes.send();
}

/// Whether TF Serving has answered with a version that was not asked for by number, and is not the
/// one that the runs are for: it was loaded a moment ago.
pub(super) fn is_of_another_version(message: &Rope, version: i64) -> bool {
    reply::version(message).is_ok_and(|found| found.is_some_and(|found| found != version))
}

/// Whether an error has nothing to do with what was sent, so that the members alone would get the
/// same.
fn is_for_all(trailers: &HeaderMap) -> bool {
    match code(trailers) {
        Some(Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled) => true,
        // The members alone may need less memory.
        Some(Code::ResourceExhausted) => {
            let text = trailers.get(GRPC_MESSAGE).map(|text| percent_decode(text.as_bytes()));
            text.is_some_and(|text| overload(&text).is_some())
        }
        _ => false,
    }
}

/// The deadline of the member that has most time; none if one has no deadline.
fn latest(runs: &Runs, members: &[Request<Member>]) -> Deadline {
    let deadlines = members.iter().map(|request| request.deadline);
    let latest = deadlines.reduce(|latest, deadline| Some(latest?.max(deadline?))).flatten();
    latest.map_or_else(Deadline::default, |latest| Deadline::until(runs.instant(latest)))
}

/// Waits for the call, or until all members have left.
async fn unless_left<F: Future>(
    mut call: std::pin::Pin<&mut F>,
    members: &mut [Request<Member>],
) -> Option<F::Output> {
    // Those before it have left.
    let mut first = 0;
    poll_fn(|cx| {
        if let Poll::Ready(called) = call.as_mut().poll(cx) {
            return Poll::Ready(Some(called));
        }
        while let Some(request) = members.get_mut(first) {
            if request.payload.outcome.poll_closed(cx).is_pending() {
                return Poll::Pending;
            }
            first += 1;
        }
        Poll::Ready(None)
    })
    .await
}

fn label(cause: Cause) -> FlushCause {
    match cause {
        Cause::Idle => FlushCause::Idle,
        Cause::Full => FlushCause::Full,
        Cause::Returned => FlushCause::Returned,
        Cause::Delay => FlushCause::Delay,
        Cause::Deadline => FlushCause::Deadline,
        Cause::Drain => FlushCause::Drain,
    }
}
