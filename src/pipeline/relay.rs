//! Hands TF Serving's answer to the client: headers, frames and trailers as they come; only the
//! text of an error may be read.
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use tonic::Code;

use super::call::{Call, Stop};
use super::forward::{First, Reply, code};
use crate::explain::{self, Context};
use crate::fault::{GRPC_MESSAGE, TRAILERS_LIMIT, percent_decode, percent_encode};
use crate::upstream::pool::Pool;
use crate::upstream::unary;

/// What is added to an answer; nothing, unless it was asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResponseAnnotations<'a> {
    /// What was repaired: into the initial metadata, and into the trailers of an error, which is
    /// where error handlers of clients look.
    pub repair_metadata: Option<&'a HeaderMap>,
    /// Whether an error's text is followed by what it means.
    pub explain: bool,
}

/// Passes an answer on and gives its code.
pub async fn relay(
    call: &Call,
    pool: &Pool,
    reply: Reply,
    annotations: ResponseAnnotations<'_>,
) -> Result<Code, Stop> {
    let Reply { mut head, first, mut body, lease } = reply;
    annotations.to_metadata(&mut head.headers);
    let mut next = match first {
        First::End => {
            let code = code(&head.headers).unwrap_or(Code::Unknown);
            if code != Code::Ok {
                annotations.to_text(&mut head.headers);
            }
            call.head(Response::from_parts(head, ()), true)?;
            return Ok(code);
        }
        First::Data(data) => {
            call.head(Response::from_parts(head, ()), false)?;
            data
        }
        First::Trailers(trailers) => {
            call.head(Response::from_parts(head, ()), false)?;
            return end(call, trailers, annotations);
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
    end(call, trailers, annotations)
}

fn end(
    call: &Call,
    mut trailers: Option<HeaderMap>,
    annotations: ResponseAnnotations<'_>,
) -> Result<Code, Stop> {
    let code = trailers.as_ref().and_then(code).unwrap_or(Code::Unknown);
    if let Some(trailers) = trailers.as_mut().filter(|_| code != Code::Ok) {
        annotations.to_metadata(trailers);
        annotations.to_text(trailers);
    }
    call.end(trailers)?;
    Ok(code)
}

impl ResponseAnnotations<'_> {
    /// Adds what was repaired.
    pub(super) fn to_metadata(self, headers: &mut HeaderMap) {
        for (name, value) in self.repair_metadata.into_iter().flatten() {
            headers.append(name.clone(), value.clone());
        }
    }

    /// Adds to the text of an error what it means. What was there stays, byte for byte, as its
    /// beginning.
    pub(super) fn to_text(self, trailers: &mut HeaderMap) {
        let Some(message) = trailers.get(GRPC_MESSAGE).filter(|_| self.explain) else { return };
        let Some(meaning) = explain::explain(&percent_decode(message.as_bytes()), &Context::default()) else {
            return;
        };
        let meaning = percent_encode(&meaning.to_string());
        let size: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        if size + meaning.len() > TRAILERS_LIMIT {
            return;
        }
        let text = Bytes::from([message.as_bytes(), meaning.as_bytes()].concat());
        if let Ok(value) = HeaderValue::from_maybe_shared(text) {
            trailers.insert(GRPC_MESSAGE, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: &str, explain: bool) -> String {
        let mut trailers = HeaderMap::new();
        trailers.insert(GRPC_MESSAGE, HeaderValue::try_from(message).unwrap());
        ResponseAnnotations { repair_metadata: None, explain }.to_text(&mut trailers);
        trailers[GRPC_MESSAGE].to_str().unwrap().to_owned()
    }

    #[test]
    fn the_text_stays_as_it_was_and_is_followed_by_its_meaning() {
        // An escape of half a character, which no decoder can keep.
        let odd = "Incompatible shapes: %C3 %zz%0A\t 100%25";
        let found = text(odd, true);
        assert!(found.starts_with(odd) && found.contains(" [tfs-sidecar: "), "{found}");
        assert_eq!(text(odd, false), odd);
        assert_eq!(text("some other error", true), "some other error");
    }

    #[test]
    fn a_text_that_fills_the_trailers_is_left_alone() {
        let long = format!("Incompatible shapes{}", "x".repeat(TRAILERS_LIMIT));
        assert_eq!(text(&long, true), long);
        let mut none = HeaderMap::new();
        ResponseAnnotations { repair_metadata: None, explain: true }.to_text(&mut none);
        assert!(none.is_empty());
    }
}
