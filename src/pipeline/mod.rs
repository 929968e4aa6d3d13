//! Floor 5: the way of a request, one file a stage. `predict.rs` shows the whole of it.
//!
//! admit ([`admission`]) → read ([`message`]) → scan, resolve ([`resolve`]), judge, apply
//! ([`predict`]) → wait for a permit ([`send`]), forward ([`forward`]) → relay ([`relay`]) →
//! metrics ([`metrics`]). A request stays on the thread that accepted its connection.
pub mod call;
pub mod deadline;
mod fan_out;
pub mod forward;
pub mod infer;
pub mod message;
pub mod options;
pub mod passthrough;
pub mod predict;
pub mod relay;
pub mod request_metrics;
pub mod resolve;
mod send;
pub mod sent;
mod verdict;

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderValue, Request, StatusCode, header};

use crate::config::Config;
use crate::fault::Fault;
use crate::lifecycle::DrainHandle;
use crate::limiter::ShardHandle;
use crate::limiter::admission::Admission;
use crate::models::catalog::Catalog;
use crate::models::refresher::Refresher;
use crate::retry::budget::Budget;
use crate::telemetry::metrics::Method;
use crate::telemetry::recent::Recent;
use crate::upstream::pool::Pool;
use call::{Call, Stop, now};
use deadline::Deadline;
use request_metrics::RequestMetrics;

/// What the requests of one thread share.
#[derive(Debug)]
pub struct Shard {
    pub config: Arc<Config>,
    pub pool: Rc<Pool>,
    pub catalog: Arc<Catalog>,
    pub refresher: Refresher,
    pub admission: Arc<Admission>,
    /// None: TF Serving gets what comes.
    pub limiter: Option<ShardHandle>,
    pub budget: RefCell<Budget>,
    pub drain: DrainHandle,
    /// What the operators' page shows.
    pub recent: Arc<Recent>,
    pub served: Cell<u32>,
}

/// What a method is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Predict,
    /// Classify, Regress, MultiInference.
    Infer(Method),
    Reload,
    /// Streamed through, untouched.
    Other(Method),
}

impl Route {
    pub fn of(path: &str) -> Self {
        let Some((service, method)) =
            path.strip_prefix("/tensorflow.serving.").and_then(|path| path.split_once('/'))
        else {
            return Self::Other(Method::Other);
        };
        match (service, method) {
            ("PredictionService", "Predict") => Self::Predict,
            ("PredictionService", "Classify") => Self::Infer(Method::Classify),
            ("PredictionService", "Regress") => Self::Infer(Method::Regress),
            ("PredictionService", "MultiInference") => Self::Infer(Method::MultiInference),
            ("PredictionService", "GetModelMetadata") => Self::Other(Method::GetModelMetadata),
            ("ModelService", "GetModelStatus") => Self::Other(Method::GetModelStatus),
            ("ModelService", "HandleReloadConfigRequest") => Self::Reload,
            _ => Self::Other(Method::Other),
        }
    }

    fn method(self) -> Method {
        match self {
            Self::Predict => Method::Predict,
            Self::Infer(method) | Self::Other(method) => method,
            Self::Reload => Method::HandleReloadConfigRequest,
        }
    }
}

/// Serves one call from its first header to its last trailer. The only caller of the stages, and
/// the only permit where a failure becomes an answer.
pub async fn serve(
    shard: Rc<Shard>,
    peer: Rc<str>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let arrived = now();
    let route = Route::of(request.uri().path());
    let number = shard.served.get();
    shard.served.set(number.wrapping_add(1));
    let mut metrics = RequestMetrics::new(route.method(), arrived, number);
    let call = Call::new(respond);
    if !is_grpc(&request) {
        call.http(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        return;
    }
    let stopped = match Deadline::read(request.headers(), arrived) {
        Err(fault) => Err(fault.into()),
        Ok(deadline) => {
            // Lent to the stages, not handed on: what an async function is given lies in its future
            // twice.
            let (head, mut body) = request.into_parts();
            let mut request = shard.upstream_request(head);
            let (shard, peer, call, metrics) = (&*shard, &*peer, &call, &mut metrics);
            let (request, body) = (&mut request, &mut body);
            let work = pin!(async move {
                if shard.drain.is_draining() {
                    return Err(Fault::Draining.into());
                }
                match route {
                    Route::Predict => {
                        predict::predict(shard, call, peer, request, body, deadline, metrics).await
                    }
                    // Boxed: rarer methods need not size the task of every Predict.
                    Route::Infer(_) => {
                        Box::pin(infer::infer(shard, call, peer, request, body, deadline, metrics)).await
                    }
                    Route::Reload if !shard.config.allow_reload => Err(Fault::ReloadForbidden.into()),
                    Route::Reload | Route::Other(_) => {
                        Box::pin(passthrough::pass(shard, call, request, body, deadline, metrics)).await
                    }
                }
            });
            call.bounded(deadline, work).await
        }
    };
    match stopped {
        Ok(code) => metrics.answered(code),
        Err(Stop::ClientCancelled) => metrics.gone(),
        Err(Stop::Fault(fault)) => {
            tracing::debug!(method = metrics.method.as_str(), code = ?fault.code(), %fault, "request failed");
            call.fail(fault.trailers());
            metrics.failed(&fault);
        }
    }
}

/// As gRPC servers do: POST with a content type that begins so.
fn is_grpc(request: &Request<RecvStream>) -> bool {
    request.method() == http::Method::POST
        && request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

impl Shard {
    /// Lets a request in that TF Serving is to run, or refuses it before its message is read.
    fn admit(&self, deadline: Deadline) -> Result<crate::limiter::admission::Ticket, Fault> {
        if let Some(limiter) = &self.limiter {
            limiter.check(deadline.at())?;
        }
        self.admission.enter()
    }

    /// The request as it goes to TF Serving: the client's metadata, our path to it.
    fn upstream_request(&self, head: http::request::Parts) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        if let Some(path) = head.uri.path_and_query() {
            *request.uri_mut() = self.pool.target().uri(path.clone());
        }
        *request.headers_mut() = head.headers;
        // gRPC servers ask for it; a client that left it out gets its trailers all the same.
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_its_route() {
        assert_eq!(Route::of("/tensorflow.serving.PredictionService/Predict"), Route::Predict);
        assert_eq!(Route::of("/tensorflow.serving.PredictionService/Regress"), Route::Infer(Method::Regress));
        assert_eq!(Route::of("/tensorflow.serving.ModelService/HandleReloadConfigRequest"), Route::Reload);
        assert_eq!(
            Route::of("/tensorflow.serving.ModelService/GetModelStatus"),
            Route::Other(Method::GetModelStatus)
        );
        for path in [
            "/tensorflow.serving.PredictionService/Predict/",
            "/predict",
            "",
            "/tensorflow.serving.X/Predict",
        ] {
            assert_eq!(Route::of(path), Route::Other(Method::Other), "{path}");
        }
    }
}
