//! A request that becomes several calls, or a fuller one: sends them in turn and joins the answers.
use http::{HeaderMap, response};
use tonic::Code;

use super::annotations::ResponseAnnotations;
use super::answer::{Answer, WholeAnswer};
use super::context::RequestContext;
use super::offload::MAX_INLINE;
use super::send::send;
use super::stages;
use crate::fault::Fault;
use crate::repair::calls::{Calls, answer, requests};
use crate::telemetry::metrics::Stage;
use crate::transport::framing::{copied_bytes, frames};
use crate::upstream::call::{Collected, code};
use crate::wire::emit::pinned;
use crate::wire::rows::RowsError;
use crate::wire::{Rope, reply};

/// What TF Serving answered to one of the calls.
struct Part {
    message: Rope,
    rows: i64,
    version: Option<i64>,
}

/// What the calls have in common so far: the metadata of the first answer, and the trailers of the
/// last one.
#[derive(Default)]
struct Around {
    head: Option<response::Parts>,
    trailers: HeaderMap,
}

/// Makes the calls of `calls` with a message that conforms but for its rows. The first call that TF
/// Serving refuses is the answer.
pub(super) async fn fan_out(
    cx: &mut RequestContext<'_>,
    message: &Rope,
    calls: Calls,
    annotations: ResponseAnnotations,
) -> Result<Answer, Fault> {
    let sent = split(cx, message, calls).await?.map_err(|error| internal(&error))?;
    let (mut parts, mut around) = (Vec::with_capacity(sent.len()), Around::default());
    for (part, rows) in &sent {
        match call(cx, part.clone(), *rows, &mut around).await? {
            Ok(part) => parts.push(part),
            Err(mut refusal) => {
                refusal.set_annotations(annotations);
                return Ok(refusal);
            }
        }
    }
    // Rows of two versions do not belong into one answer.
    if let Some(version) = parts.last().and_then(|part| part.version) {
        for (part, (message, rows)) in parts.iter_mut().zip(&sent) {
            if part.version != Some(version) {
                tracing::debug!(version, "asking one version again for rows that another one answered");
                match call(cx, pinned(message, version), *rows, &mut around).await? {
                    Ok(again) => *part = again,
                    Err(mut refusal) => {
                        refusal.set_annotations(annotations);
                        return Ok(refusal);
                    }
                }
            }
        }
    }
    let parts = parts.into_iter().map(|part| (part.message, part.rows)).collect();
    let whole = match (join(cx, parts, calls).await?, calls) {
        (Ok(whole), _) => whole,
        // Being answered is more important than the operator's maximum of rows.
        (Err(error), Calls::Split { whole: true, .. }) => {
            tracing::debug!(%error, "the answers of a split request do not fit together: sending it whole");
            cx.attempts.start_call();
            let reply = send(cx, &stages::frames(cx, message.clone())?).await?;
            return Ok(Answer::Upstream { reply, annotations });
        }
        (Err(error), _) => {
            let message =
                format!("the answers of the calls that this request became do not fit together: {error}");
            return Err(Fault::Upstream { code: Code::FailedPrecondition, message });
        }
    };
    let mut metadata = around.head.map(|head| head.headers).unwrap_or_default();
    annotations.add_metadata(&mut metadata);
    cx.ticket.reserve(copied_bytes(&whole) as u64)?;
    let frames = frames(whole).map_err(|error| internal(&error))?;
    Ok(Answer::Whole(WholeAnswer { metadata, frames, trailers: around.trailers }))
}

/// Makes one of the calls. The inner error is the refusal of TF Serving.
async fn call(
    cx: &mut RequestContext<'_>,
    part: Rope,
    rows: i64,
    around: &mut Around,
) -> Result<Result<Part, Answer>, Fault> {
    cx.attempts.start_call();
    cx.ticket.reserve(copied_bytes(&part) as u64)?;
    let reply = send(cx, &stages::frames(cx, part)?).await?;
    // An answer takes memory like a request's message and is charged like one.
    let (head, message, trailers) = match reply.collect(|bytes| cx.ticket.charge(bytes)).await? {
        Collected::Refused(reply) => return Ok(Err(Answer::from(*reply))),
        Collected::Ended { head, message, trailers } => (head, message, trailers.unwrap_or_default()),
    };
    if code(&trailers) != Some(Code::Ok) {
        return Ok(Err(Answer::Failed { head, trailers, annotations: ResponseAnnotations::default() }));
    }
    let message = message?;
    if message.compressed {
        return Err(internal(&"answer of the upstream: expected it uncompressed"));
    }
    around.head.get_or_insert(head);
    around.trailers = trailers;
    let version = reply::version(&message.payload).map_err(|error| internal(&error))?;
    Ok(Ok(Part { message: message.payload, rows, version }))
}

fn internal(problem: &dyn std::fmt::Display) -> Fault {
    Fault::Internal { problem: problem.to_string() }
}

/// The messages of the calls; see [`requests`].
async fn split(
    cx: &RequestContext<'_>,
    message: &Rope,
    calls: Calls,
) -> Result<Result<Vec<(Rope, i64)>, RowsError>, Fault> {
    if message.len() <= MAX_INLINE {
        return Ok(requests(message, calls));
    }
    let message = message.clone();
    stages::elsewhere(cx, Stage::Apply, move || requests(&message, calls)).await
}

/// The response to the request; see [`answer`].
async fn join(
    cx: &RequestContext<'_>,
    parts: Vec<(Rope, i64)>,
    calls: Calls,
) -> Result<Result<Rope, RowsError>, Fault> {
    if parts.iter().map(|(part, _)| part.len()).sum::<usize>() <= MAX_INLINE {
        return Ok(answer(&parts, calls));
    }
    stages::elsewhere(cx, Stage::Apply, move || answer(&parts, calls)).await
}
