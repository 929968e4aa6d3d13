//! A request that becomes several calls, or a fuller one: sends them in turn and joins the answers.
use http::{HeaderMap, response};
use tonic::Code;

use super::annotations::ResponseAnnotations;
use super::answer::{Answer, WholeAnswer};
use super::context::RequestContext;
use super::send::send;
use crate::fault::Fault;
use crate::repair::calls::{Calls, answer, requests};
use crate::transport::framing::frames;
use crate::upstream::call::{Collected, code};
use crate::wire::Rope;

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
    for (part, rows) in requests(message, calls).map_err(|error| internal(&error))? {
        cx.attempts.start_call();
        let reply = send(cx, &frames(part)).await?;
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
    let whole = match (answer(&parts, calls), calls) {
        (Ok(whole), _) => whole,
        // Being answered is more important than the operator's maximum of rows.
        (Err(error), Calls::Split { whole: true, .. }) => {
            tracing::debug!(%error, "the answers of a split request do not fit together: sending it whole");
            cx.attempts.start_call();
            let reply = send(cx, &frames(message.clone())).await?;
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
    Ok(Answer::Whole(WholeAnswer { metadata, frames: frames(whole), trailers: last }))
}
