//! A unary call of the sidecar itself to TF Serving: metadata, status, the runs of `batch-probe`.
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use tonic::Code;

use super::pool::Pool;
use crate::fault::{Fault, percent_decode};
use crate::transport::body::{self, BodyReader};
use crate::transport::framing::{Assembler, FramingError, frames};
use crate::wire::Rope;

/// The largest answer, above all metadata of a model: several times what gRPC's clients accept by
/// default.
const MAX_ANSWER: usize = 16 << 20;

/// The gRPC status in the trailers of a call, or in its headers when there is nothing else.
pub(crate) fn status(trailers: &HeaderMap) -> Option<(Code, String)> {
    let code = Code::from_bytes(trailers.get("grpc-status")?.as_bytes());
    let message =
        trailers.get("grpc-message").map(|value| percent_decode(value.as_bytes())).unwrap_or_default();
    Some((code, message))
}

/// Sends `request` to `path` and decodes the answer.
///
/// # Errors
/// No connection, no answer within the time, an answer that is not the message expected, or the
/// error status of TF Serving as [`Fault::Upstream`].
pub(crate) async fn call<Answer>(
    pool: &Pool,
    path: &'static str,
    request: &impl prost::Message,
    within: Duration,
) -> Result<Answer, Fault>
where
    Answer: prost::Message + Default,
{
    let call = exchange(pool, path, Rope::from(request.encode_to_vec()), MAX_ANSWER);
    let answer = tokio::time::timeout(within, call)
        .await
        .map_err(|_| Fault::Deadline { during: "waiting for the model's metadata" })??;
    Answer::decode(answer.to_bytes())
        .map_err(|error| Fault::Internal { problem: format!("cannot decode the answer of {path}: {error}") })
}

/// Sends `message` to `path` and returns the answer of at most `limit` bytes.
///
/// # Errors
/// No connection, an answer that is too large, or the error status of TF Serving as
/// [`Fault::Upstream`].
pub(crate) async fn exchange(
    pool: &Pool,
    path: &'static str,
    message: Rope,
    limit: usize,
) -> Result<Rope, Fault> {
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

    let message = frames(message).map_err(|error| broken(path, &error))?;
    let mut opened = pool.open(&request, false).await?;
    // If the server stopped reading, its response says why.
    body::send_now(&mut opened.body, &message, true).ok();
    let response = opened.response.await.map_err(|error| pool.target().fault(&error))?;
    if let Some((code, message)) = status(response.headers()).filter(|(code, _)| *code != Code::Ok) {
        return Err(Fault::Upstream { code, message });
    }
    let http = response.status();
    let mut body = BodyReader::new(response.into_body());
    let mut assembler = Assembler::default();
    let mut received = 0;
    while let Some(chunk) = body.next().await.map_err(|error| pool.target().fault(&error))? {
        received += chunk.len();
        if received > limit {
            let problem = format!("the answer of {path} is too large (limit {limit} bytes)");
            return Err(Fault::Internal { problem });
        }
        assembler.push(chunk).map_err(|error| broken(path, &error))?;
    }
    let trailers = body.trailers().await.map_err(|error| pool.target().fault(&error))?;
    match trailers.as_ref().and_then(status) {
        Some((Code::Ok, _)) => {}
        Some((code, message)) => return Err(Fault::Upstream { code, message }),
        None => {
            return Err(Fault::Upstream {
                code: Code::Unknown,
                message: format!("expected a gRPC status, got HTTP {http} without one"),
            });
        }
    }
    Ok(assembler.finish().map_err(|error| broken(path, &error))?.payload)
}

fn broken(path: &str, error: &FramingError) -> Fault {
    Fault::Internal { problem: format!("invalid message of {path}: {error}") }
}
