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
use crate::wire::Rope;
use crate::wire::rows::RowsError;

/// Makes the calls of `calls` with a message that conforms but for its rows. The first call that TF
/// Serving refuses is the answer.
pub(super) async fn fan_out(
    cx: &mut RequestContext<'_>,
    message: &Rope,
    calls: Calls,
    annotations: ResponseAnnotations,
) -> Result<Answer, Fault> {
    let internal = |error: &dyn std::fmt::Display| Fault::Internal { problem: error.to_string() };
    let mut parts: Vec<(Rope, i64)> = Vec::new();
    let mut first: Option<response::Parts> = None;
    let mut last = HeaderMap::new();
    for (part, rows) in split(cx, message, calls).await?.map_err(|error| internal(&error))? {
        cx.attempts.start_call();
        cx.ticket.reserve(copied_bytes(&part) as u64)?;
        let reply = send(cx, &stages::frames(cx, part)?).await?;
        // An answer takes memory like a request's message and is charged like one.
        match reply.collect(|bytes| cx.ticket.charge(bytes)).await? {
            Collected::Refused(reply) => return Ok(Answer::Upstream { reply: *reply, annotations }),
            Collected::Ended { head, message, trailers } => {
                let trailers = trailers.unwrap_or_default();
                if code(&trailers) != Some(Code::Ok) {
                    return Ok(Answer::Failed { head, trailers, annotations });
                }
                let message = message?;
                if message.compressed {
                    return Err(internal(&"answer of the upstream: expected it uncompressed"));
                }
                parts.push((message.payload, rows));
                first.get_or_insert(head);
                last = trailers;
            }
        }
    }
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
    let mut metadata = first.map(|head| head.headers).unwrap_or_default();
    annotations.add_metadata(&mut metadata);
    cx.ticket.reserve(copied_bytes(&whole) as u64)?;
    let frames = frames(whole).map_err(|error| internal(&error))?;
    Ok(Answer::Whole(WholeAnswer { metadata, frames, trailers: last }))
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
