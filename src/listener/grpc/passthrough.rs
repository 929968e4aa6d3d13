//! Methods that are not judged: streamed through both ways as they come, unread.
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use h2::RecvStream;
use tokio::time::Instant;
use tonic::Code;

use super::responder::{Responder, Stop};
use super::write::Writer;
use crate::fault::Fault;
use crate::limiter::admission::Ticket;
use crate::pipeline::request_metrics::RequestMetrics;
use crate::pipeline::{Answer, ResponseAnnotations, Shard};
use crate::transport::body::{self, BodyReader};
use crate::transport::deadline::Deadline;
use crate::upstream::call::{CallHead, First, Reply, ReplyBody, code, explain_unimplemented};
use crate::upstream::pool::Opened;

/// Opens the same call at TF Serving and moves chunks as each side has room. Memory: what the two
/// windows hold.
pub(super) async fn pass(
    shard: &Shard,
    responder: &Responder,
    mut ticket: Ticket,
    mut head: CallHead,
    body: RecvStream,
    deadline: Deadline,
    metrics: &RequestMetrics,
) -> Result<Code, Stop> {
    let sent = Instant::now();
    head.set_deadline(deadline, sent)?;
    responder.progress.set("waiting for the upstream");
    let span = metrics.trace().map(|trace| trace.upstream(&mut head, sent));
    let opened = shard.pool.open(head.request(), body.is_end_stream()).await?;
    let Opened { response, body: mut upload, lease } = opened;
    // What waits for a server that does not read takes memory too.
    let mut waiting = ticket.memory();
    let up = async {
        let mut body = BodyReader::new(body);
        if body.is_end_stream() {
            return Ok(());
        }
        if body::copy(&mut body, &mut upload, |held| waiting.set_charge(held as u64)).await?.is_err() {
            // The client broke off: the call is over, and `Responder::bounded` sees that too.
            upload.send_reset(h2::Reason::CANCEL);
        }
        Ok::<(), Fault>(())
    };
    let config = shard.config();
    let mut writer = Writer::new(responder, &mut ticket, &config.limits);
    let down = async {
        let response = response.await.map_err(|error| lease.fault(&error))?;
        metrics.call().answered(sent);
        if let (Some(span), Some(trace)) = (span, metrics.trace()) {
            let code = code(response.headers()).unwrap_or(Code::Ok);
            trace.upstream_ended(span, metrics.method, code);
        }
        let (mut head, body) = response.into_parts();
        let end = body.is_end_stream();
        let mut body = ReplyBody::new(body, lease);
        if end {
            explain_unimplemented(&mut head.headers);
            let reply = Reply { head, first: First::End, body };
            let annotations = ResponseAnnotations::default();
            return writer.write(Answer::Upstream { reply, annotations }).await;
        }
        // Unlike those of Predict, headers are passed on at once: it may take long until the first
        // message of a stream.
        responder.head(http::Response::from_parts(head, ()), false)?;
        writer.chunks(&mut body).await?;
        let mut trailers = body.trailers().await?;
        drop(body);
        if let Some(trailers) = &mut trailers {
            explain_unimplemented(trailers);
        }
        writer.end(trailers).await
    };
    // The answer decides when the call is over.
    let (mut up, mut down) = (pin!(up), pin!(down));
    let mut uploading = true;
    poll_fn(|cx| {
        if uploading {
            match up.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => uploading = false,
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault.into())),
                Poll::Pending => {}
            }
        }
        down.as_mut().poll(cx)
    })
    .await
}
