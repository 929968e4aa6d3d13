//! Every other method: streamed through both ways as it comes, with no idea of what it says.
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::Request;
use tonic::Code;

use super::Shard;
use super::call::{Call, Stop, now};
use super::deadline::Deadline;
use super::forward::{First, Reply};
use super::relay::{ResponseAnnotations, relay};
use super::request_metrics::RequestMetrics;
use crate::upstream::pool::Opened;
use crate::upstream::unary;

/// Opens the same call at TF Serving and moves frames as each side has room. Memory: what the two
/// windows hold.
pub async fn pass(
    shard: &Shard,
    call: &Call,
    request: &mut Request<()>,
    body: &mut RecvStream,
    deadline: Deadline,
    metrics: &mut RequestMetrics,
) -> Result<Code, Stop> {
    let _ticket = shard.admission.enter()?;
    deadline.stamp(request.headers_mut(), now())?;
    call.waits_for("waiting for the upstream");
    let sent = now();
    let broken = |error: h2::Error| Stop::from(unary::fault(&shard.pool, &error));

    let Opened { response, body: mut upload, lease } = shard.pool.open(request, body.is_end_stream()).await?;
    let up = async {
        if upstream_half(body, &mut upload).await.is_err() {
            // The client has broken off: the call is over, and `Call::bounded` sees it as well.
            upload.send_reset(h2::Reason::CANCEL);
        }
    };
    let down = async {
        let response = response.await.map_err(broken)?;
        metrics.upstream(sent);
        let (head, mut body) = response.into_parts();
        // Unlike Predict, headers are handed on at once: a stream may have nothing else to say for
        // long.
        if body.is_end_stream() {
            let reply = Reply { head, first: First::End, body, lease };
            return relay(call, &shard.pool, reply, ResponseAnnotations::default()).await;
        }
        call.head(http::Response::from_parts(head, ()), false)?;
        while let Some(data) = body.data().await {
            let data = data.map_err(broken)?;
            let length = data.len();
            call.data(data).await?;
            body.flow_control().release_capacity(length).map_err(broken)?;
        }
        let trailers = body.trailers().await.map_err(broken)?;
        drop(lease);
        let code = trailers.as_ref().and_then(super::forward::code).unwrap_or(Code::Unknown);
        call.end(trailers)?;
        Ok(code)
    };
    // The answer decides when the call is over; the upload merely goes along with it.
    let (mut up, mut down) = (pin!(up), pin!(down));
    let mut uploading = true;
    poll_fn(|cx| {
        if uploading {
            uploading = up.as_mut().poll(cx).is_pending();
        }
        match down.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// From the client to the server, until the client's end.
async fn upstream_half(body: &mut RecvStream, upload: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    if body.is_end_stream() {
        return Ok(());
    }
    while let Some(data) = body.data().await {
        let mut data = data?;
        let length = data.len();
        while !data.is_empty() {
            upload.reserve_capacity(data.len());
            let mut room = upload.capacity();
            if room == 0 {
                room = match poll_fn(|cx| upload.poll_capacity(cx)).await {
                    Some(capacity) => capacity?,
                    // The server reads no more; its answer says why.
                    None => return Ok(()),
                };
            }
            let part = data.split_to(room.min(data.len()));
            upload.send_data(part, false)?;
        }
        body.flow_control().release_capacity(length)?;
    }
    match body.trailers().await? {
        Some(trailers) => upload.send_trailers(trailers),
        None => upload.send_data(Bytes::new(), true),
    }
}
