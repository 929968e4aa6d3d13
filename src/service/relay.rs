//! Hands TF Serving's answer to the client: headers, frames and trailers as they come, unread.
use http::{HeaderMap, Response};
use tonic::Code;

use super::call::{Call, Stop};
use super::forward::{First, Reply, code};
use crate::upstream::pool::Pool;
use crate::upstream::unary;

/// Passes an answer on and gives its code. `notes` (what was repaired) go into the initial metadata, and into the trailers of an
/// error, which is where error handlers of clients look.
pub async fn relay(call: &Call, pool: &Pool, reply: Reply, notes: Option<&HeaderMap>) -> Result<Code, Stop> {
    let Reply { mut head, first, mut body, lease } = reply;
    if let Some(notes) = notes {
        add(&mut head.headers, notes);
    }
    let mut next = match first {
        First::End => {
            let code = code(&head.headers).unwrap_or(Code::Unknown);
            call.head(Response::from_parts(head, ()), true)?;
            return Ok(code);
        }
        First::Data(data) => {
            call.head(Response::from_parts(head, ()), false)?;
            data
        }
        First::Trailers(trailers) => {
            call.head(Response::from_parts(head, ()), false)?;
            return end(call, trailers, notes);
        }
    };
    call.waits_for("reading the answer of the upstream");
    let broken = |error: h2::Error| unary::fault(pool, &error);
    loop {
        let length = next.len();
        call.data(next).await?;
        // Only now may the server send as much again: a client that does not read stops it.
        body.flow_control().release_capacity(length).map_err(broken)?;
        match body.data().await {
            Some(data) => next = data.map_err(broken)?,
            None => break,
        }
    }
    let trailers = body.trailers().await.map_err(broken)?;
    drop(lease);
    end(call, trailers, notes)
}

fn end(call: &Call, trailers: Option<HeaderMap>, notes: Option<&HeaderMap>) -> Result<Code, Stop> {
    let code = trailers.as_ref().and_then(code).unwrap_or(Code::Unknown);
    let trailers = match (trailers, notes) {
        (Some(mut trailers), Some(notes)) if code != Code::Ok => {
            add(&mut trailers, notes);
            Some(trailers)
        }
        (trailers, _) => trailers,
    };
    call.end(trailers)?;
    Ok(code)
}

fn add(headers: &mut HeaderMap, notes: &HeaderMap) {
    for (name, value) in notes {
        headers.append(name.clone(), value.clone());
    }
}
