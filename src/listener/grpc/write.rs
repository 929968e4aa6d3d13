//! Writes an answer to the client: headers, chunks and trailers as they come.
use http::{HeaderMap, Response};
use tonic::Code;

use super::responder::{Responder, Stop, grpc_head};
use crate::pipeline::{Answer, ResponseAnnotations, WholeAnswer};
use crate::upstream::call::{First, Reply, ReplyBody, code};

/// Writes the answer and gives its code.
///
/// # Errors
/// The client cancelled, or the upstream failed in the middle of its answer.
pub(super) async fn write(responder: &Responder, answer: Answer) -> Result<Code, Stop> {
    match answer {
        Answer::Upstream { reply, annotations } => pass_on(responder, reply, &annotations).await,
        Answer::Failed { head, mut trailers, annotations } => {
            annotations.add_to_trailers(&mut trailers);
            responder.head(Response::from_parts(head, ()), false)?;
            end(responder, Some(trailers))
        }
        Answer::Whole(WholeAnswer { metadata, frames, trailers }) => {
            responder.head(grpc_head(metadata), false)?;
            for frame in frames {
                responder.data(frame).await?;
            }
            end(responder, Some(trailers))
        }
    }
}

async fn pass_on(
    responder: &Responder,
    reply: Reply,
    annotations: &ResponseAnnotations,
) -> Result<Code, Stop> {
    let Reply { head, first, mut body } = reply;
    match first {
        First::End => {
            let code = code(&head.headers).unwrap_or(Code::Unknown);
            responder.head(Response::from_parts(head, ()), true)?;
            Ok(code)
        }
        First::Data(data) => {
            responder.head(Response::from_parts(head, ()), false)?;
            responder.progress.set("reading the answer of the upstream");
            responder.data(data).await?;
            chunks(responder, &mut body).await?;
            let mut trailers = body.trailers().await?;
            drop(body);
            if let Some(trailers) = &mut trailers {
                annotations.add_to_trailers(trailers);
            }
            end(responder, trailers)
        }
        First::Trailers(trailers) => {
            responder.head(Response::from_parts(head, ()), false)?;
            end(responder, trailers)
        }
    }
}

/// Passes on what is left of a body.
pub(super) async fn chunks(responder: &Responder, body: &mut ReplyBody) -> Result<(), Stop> {
    while let Some(data) = body.next().await? {
        responder.data(data).await?;
    }
    Ok(())
}

/// Ends the answer and gives its code.
pub(super) fn end(responder: &Responder, trailers: Option<HeaderMap>) -> Result<Code, Stop> {
    let code = trailers.as_ref().and_then(code).unwrap_or(Code::Unknown);
    responder.end(trailers)?;
    Ok(code)
}
