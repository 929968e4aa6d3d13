//! One call of a client, from its first header to its last trailer.
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, StatusCode, header, request};
use tokio::time::Instant;
use tonic::Code;

use super::responder::{Responder, Stop};
use super::route::Route;
use super::write::Writer;
use super::{Client, message, passthrough};
use crate::config::Config;
use crate::fault::Fault;
use crate::limiter::admission::{Share, Ticket};
use crate::pipeline::options::RequestOptions;
use crate::pipeline::report::Place;
use crate::pipeline::request_metrics::RequestMetrics;
use crate::pipeline::trace::RequestTrace;
use crate::pipeline::{Answer, RequestContext, Shard, forward, run};
use crate::telemetry::events::{RequestId, X_REQUEST_ID};
use crate::telemetry::metrics::{Door, OutcomeLabel};
use crate::transport::body::BodyReader;
use crate::transport::deadline::Deadline;
use crate::upstream::call::CallHead;

/// Bounds on what is read of a request that was answered already.
const MAX_DISCARDED: usize = 1 << 20;
const DISCARD_WITHIN: Duration = Duration::from_secs(1);
/// How long a client may take to notice that it was told to go elsewhere. What it has sent until
/// then is served.
const NOTICED_WITHIN: Duration = Duration::from_secs(1);

/// What the parts of a call share.
#[derive(Clone, Copy)]
struct Call<'a> {
    shard: &'a Shard,
    config: &'a Arc<Config>,
    share: &'a Arc<Share>,
    responder: &'a Responder,
    deadline: Deadline,
    /// The client was told to go elsewhere, and had the time to notice.
    late: bool,
}

/// Serves the call. The only place where a failure becomes an answer.
pub(super) async fn serve(
    shard: Rc<Shard>,
    client: Rc<Client>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let arrived = Instant::now();
    let route = Route::of(request.uri());
    let config = shard.config();
    let mut metrics =
        RequestMetrics::new(Door::Grpc, route.method(), arrived, shard.next_number(), config.access_log);
    let responder = Responder::new(respond, Rc::clone(&client.backlog));
    if let Some(id) = request.headers().get(X_REQUEST_ID) {
        responder.set_request_id(RequestId::echo(id));
        metrics.report.set_id(id);
    }
    let place = Place { shard: &shard, config: &config, peer: client.share.peer() };
    if metrics.report.has_access() {
        place.identify(request.headers(), &metrics);
    }
    if !is_grpc(&request) {
        responder.http(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        discard(request.into_body()).await;
        return;
    }
    if let Some(tracer) = &shard.tracer {
        metrics.set_trace(RequestTrace::drawn(tracer, request.headers(), arrived));
        if metrics.trace().is_some() {
            place.identify(request.headers(), &metrics);
        }
    }
    let outcome = match Deadline::read(request.headers(), arrived) {
        Err(fault) => {
            place.identify(request.headers(), &metrics);
            metrics.trace_mismatch(shard.tracer.as_ref(), request.headers());
            Err(fault.into())
        }
        Ok(deadline) => {
            let (head, body) = request.into_parts();
            let (shard, config, share) = (&*shard, &config, &client.share);
            let told = client.told.get();
            let late = told.is_some_and(|told| arrived.duration_since(told) > NOTICED_WITHIN);
            let call = Call { shard, config, share, responder: &responder, deadline, late };
            let work = pin!(dispatch(call, route, head, body, &mut metrics));
            responder.bounded(deadline, work).await
        }
    };
    match outcome {
        Ok(code) => metrics.answered(code, place),
        Err(Stop::ClientCancelled) => metrics.cancelled(place),
        Err(Stop::Fault(fault)) => {
            tracing::debug!(method = route.method().as_str(), code = ?fault.code(), %fault, "request failed");
            responder.fail(fault.trailers(Some(metrics.report.request_id())));
            metrics.failed(&fault, place);
        }
    }
}

/// Reads what is left of a small body. Some HTTP clients take a stream that ends under their upload
/// for a failed request, and drop the answer.
async fn discard(body: RecvStream) {
    let mut body = BodyReader::new(body);
    let mut left = MAX_DISCARDED;
    let read = async {
        while let Ok(Some(chunk)) = body.next().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                return;
            }
        }
    };
    tokio::time::timeout(DISCARD_WITHIN, read).await.ok();
}

/// Whether the request is gRPC, as other gRPC servers decide it: POST with a content type of
/// `application/grpc`, with or without a suffix (`+proto`) or parameters (`;...`).
pub(super) fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let rest = content_type.and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    request.method() == http::Method::POST && rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}

async fn dispatch(
    call: Call<'_>,
    route: Route,
    head: request::Parts,
    body: RecvStream,
    metrics: &mut RequestMetrics,
) -> Result<Code, Stop> {
    if call.late {
        return Err(Fault::Draining.into());
    }
    match route {
        Route::Judged(_) => {
            let options = RequestOptions::read(&head.headers)
                .map_err(|fault| call.identified(&head.headers, metrics, fault.into()))?;
            if options.dry_run {
                call.responder.set_dry_run();
                metrics.set_dry_run();
            }
            let mut ticket = call
                .shard
                .admit(call.share, call.deadline)
                .map_err(|fault| call.identified(&head.headers, metrics, fault.into()))?;
            let limits = &call.config.limits;
            let offload = Some(&call.shard.offload);
            let message = message::read(body, &head.headers, limits, offload, &mut ticket)
                .await
                .map_err(|stop| call.identified(&head.headers, metrics, stop))?;
            metrics.report.set_request_bytes(message.payload.len());
            let mut cx = call.context(options, ticket, head, metrics);
            let answer = run(&mut cx, &message).await.inspect_err(|fault| cx.identify_refused(fault))?;
            // A client that takes its time to read the answer need not hold its request too.
            drop(message);
            let RequestContext { mut ticket, .. } = cx;
            if matches!(answer, Answer::Upstream { .. }) {
                ticket.release(u64::MAX);
            }
            Writer::new(call.responder, &mut ticket, limits).write(answer).await
        }
        Route::Reload if !call.config.allow_reload => {
            Err(call.identified(&head.headers, metrics, Fault::ReloadForbidden.into()))
        }
        // Boxed: rarer methods need not size the task of every Predict.
        Route::Reload | Route::Unary(_) => Box::pin(unary(call, head, body, metrics)).await,
        Route::Other(_) => {
            let ticket =
                call.share.open().map_err(|fault| call.identified(&head.headers, metrics, fault.into()))?;
            let Call { shard, responder, deadline, .. } = call;
            let head = call_head(shard, head);
            Box::pin(passthrough::pass(shard, responder, ticket, head, body, deadline, metrics)).await
        }
    }
}

/// Sends a request on that is not judged. Its message is read first: a client that does not finish
/// it must not hold a permit.
async fn unary(
    call: Call<'_>,
    head: request::Parts,
    body: RecvStream,
    metrics: &mut RequestMetrics,
) -> Result<Code, Stop> {
    let mut ticket =
        call.share.open().map_err(|fault| call.identified(&head.headers, metrics, fault.into()))?;
    let limits = &call.config.limits;
    let message = message::read(body, &head.headers, limits, None, &mut ticket)
        .await
        .map_err(|stop| call.identified(&head.headers, metrics, stop))?;
    metrics.report.set_request_bytes(message.payload.len());
    let mut cx = call.context(RequestOptions::NONE, ticket, head, metrics);
    let answer = forward(&mut cx, &message.frames).await.inspect_err(|fault| cx.identify_refused(fault))?;
    drop(message);
    let RequestContext { mut ticket, .. } = cx;
    ticket.release(u64::MAX);
    Writer::new(call.responder, &mut ticket, limits).write(answer).await
}

impl<'a> Call<'a> {
    /// Finds out who sent a request that is refused.
    fn identified(&self, headers: &HeaderMap, metrics: &RequestMetrics, stop: Stop) -> Stop {
        if let Stop::Fault(fault) = &stop
            && fault.is_refusal()
        {
            Place { shard: self.shard, config: self.config, peer: self.share.peer() }
                .identify(headers, metrics);
            if fault.outcome() == OutcomeLabel::Rejected {
                metrics.trace_mismatch(self.shard.tracer.as_ref(), headers);
            }
        }
        stop
    }

    /// Inlined, so that the context is made where it stays.
    #[inline]
    fn context(
        &self,
        options: RequestOptions,
        ticket: Ticket,
        head: request::Parts,
        metrics: &'a mut RequestMetrics,
    ) -> RequestContext<'a> {
        let Self { shard, config, share, responder, deadline, .. } = *self;
        RequestContext {
            shard,
            config,
            peer: share.peer(),
            options,
            deadline,
            ticket,
            progress: &responder.progress,
            metrics,
            attempts: shard.attempts(config),
            head: call_head(shard, head),
            text: None,
            refusal: None,
        }
    }
}

/// The client's path and metadata, for TF Serving.
fn call_head(shard: &Shard, head: request::Parts) -> CallHead {
    let path = head.uri.into_parts().path_and_query;
    CallHead::new(shard.pool.target(), path, head.headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_content_types_of_grpc_are_grpc() {
        let is_grpc = |content_type: &str| {
            is_grpc(&Request::post("/s/m").header("content-type", content_type).body(()).unwrap())
        };
        for content_type in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc+json",
            "application/grpc;charset=utf-8",
        ] {
            assert!(is_grpc(content_type), "{content_type}");
        }
        for content_type in
            ["application/grpcevil", "application/grpc-web", "application/grpc ", "application/json", ""]
        {
            assert!(!is_grpc(content_type), "{content_type}");
        }
        let get = Request::get("/s/m").header("content-type", "application/grpc");
        assert!(!super::is_grpc(&get.body(()).unwrap()));
        assert!(!super::is_grpc(&Request::post("/s/m").body(()).unwrap()));
    }
}
