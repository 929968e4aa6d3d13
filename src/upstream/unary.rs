//! A unary call of our own to TF Serving (metadata, status), on a pool and with prost messages.
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use tonic::Code;

use super::pool::Pool;
use super::target::Target;
use crate::fault::{Fault, percent_decode};
use crate::transport::framing::{Assembler, FramingError, frames};
use crate::wire::Rope;

/// The status of a finished call as its trailers (or its only headers) say it.
pub fn status(trailers: &HeaderMap) -> Option<(Code, String)> {
    let code = Code::from_bytes(trailers.get("grpc-status")?.as_bytes());
    let message =
        trailers.get("grpc-message").map(|value| percent_decode(value.as_bytes())).unwrap_or_default();
    Some((code, message))
}

/// What an error of the HTTP/2 layer on a call to the upstream means for the one who waits for it.
pub fn fault(target: &Target, error: &h2::Error) -> Fault {
    let address = target.address.clone();
    let cause = error.to_string();
    match error.reason().filter(|_| error.is_reset()) {
        // gRPC over HTTP/2, "HTTP2 Transport Mapping / Errors", but for CANCEL: it is the server
        // that broke off, and CANCELLED would tell a client that it had done so itself.
        Some(h2::Reason::ENHANCE_YOUR_CALM) => {
            Fault::UpstreamReset { address, cause, code: Code::ResourceExhausted }
        }
        Some(h2::Reason::INADEQUATE_SECURITY) => {
            Fault::UpstreamReset { address, cause, code: Code::PermissionDenied }
        }
        Some(h2::Reason::REFUSED_STREAM | h2::Reason::CANCEL) | None => {
            Fault::UpstreamUnavailable { address, cause }
        }
        Some(_) => Fault::UpstreamReset { address, cause, code: Code::Internal },
    }
}

/// Sends `request` to `path` and decodes the answer. An error status of TF Serving is a
/// [`Fault::Upstream`].
pub async fn call<Answer>(
    pool: &Pool,
    path: &'static str,
    request: &impl prost::Message,
    within: Duration,
) -> Result<Answer, Fault>
where
    Answer: prost::Message + Default,
{
    let call = exchange(pool, path, Bytes::from(request.encode_to_vec()));
    let answer = tokio::time::timeout(within, call)
        .await
        .map_err(|_| Fault::Deadline { during: "asking the upstream about a model" })??;
    Answer::decode(answer)
        .map_err(|error| Fault::Internal { problem: format!("expected the answer of {path}, found {error}") })
}

async fn exchange(pool: &Pool, path: &'static str, message: Bytes) -> Result<Bytes, Fault> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = pool.target().uri(PathAndQuery::from_static(path));
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("tfs-sidecar/", env!("CARGO_PKG_VERSION"))),
    );

    let mut opened = pool.open(&request, false).await?;
    let mut parts = frames(Rope::from(message)).into_iter().peekable();
    while let Some(part) = parts.next() {
        // These requests are a few dozen bytes: there is no backpressure to wait for.
        opened.body.send_data(part, parts.peek().is_none()).map_err(|error| fault(pool.target(), &error))?;
    }
    let response = opened.response.await.map_err(|error| fault(pool.target(), &error))?;
    if let Some((code, message)) = status(response.headers()).filter(|(code, _)| *code != Code::Ok) {
        return Err(Fault::Upstream { code, message });
    }
    let http = response.status();
    let mut body = response.into_body();
    let mut assembler = Assembler::default();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| fault(pool.target(), &error))?;
        let length = data.len();
        assembler.push(data).map_err(|error| broken(path, &error))?;
        body.flow_control().release_capacity(length).map_err(|error| fault(pool.target(), &error))?;
    }
    let trailers = body.trailers().await.map_err(|error| fault(pool.target(), &error))?;
    match trailers.as_ref().and_then(status) {
        Some((Code::Ok, _)) => {}
        Some((code, message)) => return Err(Fault::Upstream { code, message }),
        None => {
            return Err(Fault::Upstream {
                code: Code::Unknown,
                message: format!("expected a gRPC answer, found HTTP {http} without a status"),
            });
        }
    }
    Ok(assembler.finish().map_err(|error| broken(path, &error))?.payload.to_bytes())
}

fn broken(path: &str, error: &FramingError) -> Fault {
    Fault::Internal { problem: format!("answer of {path}: {error}") }
}
