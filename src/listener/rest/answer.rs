//! Turns the answer to a call into JSON: reads it to its end, then writes it in one piece.
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, response};
use tonic::Code;

use super::error;
use super::respond;
use crate::fault::{Fault, GRPC_MESSAGE, percent_decode};
use crate::limiter::admission::Ticket;
use crate::pipeline::Answer;
use crate::pipeline::json::Layout;
use crate::pipeline::offload::{MAX_INLINE, Offload};
use crate::rest::write::{self, Answer as Written, Refusal};
use crate::transport::framing::Assembler;
use crate::upstream::call::{Collected, code};
use crate::wire::Rope;

const MODEL_VERSION: HeaderName = HeaderName::from_static("tfs-sidecar-model-version");
/// The headers of an answer that clients see begin so.
const PREFIX: &str = "tfs-sidecar-";

/// How a message is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    Run(Layout),
    Status,
    Metadata,
}

/// The answer of the call, and its code.
///
/// # Errors
/// The connection to TF Serving fails, or the answer takes more memory than there is.
pub(super) async fn of(
    answer: Answer,
    form: Form,
    max_bytes: usize,
    offload: &Offload,
    ticket: &mut Ticket,
) -> Result<(Code, respond::Answer), Fault> {
    let (headers, message) = match collected(answer, ticket).await? {
        Outcome::Message { headers, message } => (headers, message),
        Outcome::Error { headers, trailers } => {
            let code = code(&trailers).unwrap_or(Code::Unknown);
            let text = trailers.get(GRPC_MESSAGE).map(|text| percent_decode(text.as_bytes()));
            return Ok((code, error::of_status(code, &text.unwrap_or_default(), headers)));
        }
    };
    if headers.contains_key("tfs-sidecar-dry-run") && message.is_empty() {
        return Ok((
            Code::Ok,
            respond::Answer { status: StatusCode::OK, headers, body: Bytes::from_static(b"{}") },
        ));
    }
    // JSON of floats is about three times as long as the floats.
    ticket.reserve(2 * message.len() as u64)?;
    let written = if message.len() <= MAX_INLINE / 4 {
        write(&message, form, max_bytes)
    } else {
        offload.run(move || write(&message, form, max_bytes)).await?
    };
    Ok(match written {
        Ok(written) => (Code::Ok, answered(written, headers)),
        Err(Refusal { code, text }) => {
            let code = Code::from_i32(code);
            (code, error::of_status(code, &text, headers))
        }
    })
}

fn write(message: &Rope, form: Form, max_bytes: usize) -> Result<Written, Refusal> {
    match form {
        Form::Run(Layout::Predict(format)) => write::predict(message, format, max_bytes),
        Form::Run(Layout::Classify) => write::classify(message, max_bytes),
        Form::Run(Layout::Regress) => write::regress(message, max_bytes),
        Form::Status => write::status(message, max_bytes).map(whole),
        Form::Metadata => write::metadata(message, max_bytes).map(whole),
    }
}

/// An answer that is about no single version.
fn whole(json: Vec<u8>) -> Written {
    Written { json, version: None, replaced: None }
}

fn answered(written: Written, mut headers: HeaderMap) -> respond::Answer {
    if let Some(version) = written.version {
        headers.insert(MODEL_VERSION, HeaderValue::from(version));
    }
    if let Some(output) = written.replaced {
        let text = format!("output {output} has strings that are not UTF-8; they are shown with U+FFFD");
        if let Ok(text) = HeaderValue::try_from(text) {
            headers.append("tfs-sidecar-warning", text);
        }
    }
    respond::Answer { status: StatusCode::OK, headers, body: written.json.into() }
}

enum Outcome {
    Message { headers: HeaderMap, message: Rope },
    Error { headers: HeaderMap, trailers: HeaderMap },
}

async fn collected(answer: Answer, ticket: &mut Ticket) -> Result<Outcome, Fault> {
    match answer {
        Answer::Upstream { reply, annotations } => {
            match reply.collect(|bytes| ticket.reserve(bytes)).await? {
                Collected::Refused(reply) => {
                    let trailers = reply.trailers().cloned().unwrap_or_default();
                    Ok(Outcome::Error { headers: visible(&[&reply.head.headers]), trailers })
                }
                Collected::Ended { head, message, trailers } => {
                    let mut trailers = trailers.unwrap_or_default();
                    if code(&trailers) == Some(Code::Ok) {
                        return Ok(Outcome::Message {
                            headers: visible(&[&head.headers]),
                            message: plain(message?)?,
                        });
                    }
                    annotations.add_to_trailers(&mut trailers);
                    Ok(Outcome::Error { headers: visible(&[&head.headers]), trailers })
                }
            }
        }
        Answer::Failed { head: response::Parts { headers, .. }, mut trailers, annotations } => {
            annotations.add_to_trailers(&mut trailers);
            Ok(Outcome::Error { headers: visible(&[&headers]), trailers })
        }
        Answer::Whole(whole) => {
            let mut assembler = Assembler::default();
            let framing = whole.frames.into_iter().try_for_each(|frame| assembler.push(frame));
            let message = framing.and_then(|()| assembler.finish());
            let message = message.map_err(|error| Fault::Internal { problem: error.to_string() })?;
            Ok(Outcome::Message { headers: visible(&[&whole.metadata]), message: plain(message)? })
        }
    }
}

fn plain(message: crate::transport::framing::Message) -> Result<Rope, Fault> {
    if message.compressed {
        return Err(Fault::Internal { problem: "TF Serving compressed an answer unasked".to_owned() });
    }
    Ok(message.payload)
}

/// What the client sees of these.
fn visible(all: &[&HeaderMap]) -> HeaderMap {
    let mut visible = HeaderMap::new();
    for (name, value) in all.iter().flat_map(|headers| headers.iter()) {
        if name.as_str().starts_with(PREFIX) {
            visible.append(name.clone(), value.clone());
        }
    }
    visible
}
