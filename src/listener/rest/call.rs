//! One request, from its head to its answer.
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, request};
use http_body::Body as _;
use hyper::body::Incoming;
use scopeguard::ScopeGuard;
use tokio::time::Instant;
use tonic::Code;

use super::answer::{self, Form};
use super::body::{self, BodyError};
use super::counted::{CountedBody, Running};
use super::error;
use super::respond::{self, Accepts};
use super::url::{self, Target, UrlError};
use super::{Client, openapi};
use crate::config::{Config, IdentitySource};
use crate::fault::Fault;
use crate::limiter::admission::Ticket;
use crate::pipeline::json::{JsonRequest, encode, run_json};
use crate::pipeline::options::RequestOptions;
use crate::pipeline::report::Place;
use crate::pipeline::request_metrics::RequestMetrics;
use crate::pipeline::trace::RequestTrace;
use crate::pipeline::{Progress, RequestContext, forward};
use crate::telemetry::events::{RequestId, X_REQUEST_ID};
use crate::telemetry::metrics::{Door, Method as Rpc};
use crate::transport::deadline::{Deadline, GRPC_TIMEOUT};
use crate::transport::framing;
use crate::upstream::call::{CallHead, TRACEPARENT, TRACESTATE};
use crate::wire::Rope;

const X_TIMEOUT: HeaderName = HeaderName::from_static("x-timeout");

/// The client is gone: its connection ends.
#[derive(Debug, thiserror::Error)]
#[error("the connection ended under a request")]
pub(super) struct ClientCancelled;

/// Why there is no answer to write.
enum Stop {
    Fault(Fault),
    ClientCancelled,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<BodyError> for Stop {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Fault(fault) => Self::Fault(fault),
            BodyError::Lost => Self::ClientCancelled,
        }
    }
}

/// Serves a request. The only place where a failure becomes an answer.
///
/// # Errors
/// The client is gone, or the process is ending.
pub(super) async fn serve(
    client: &Client,
    request: Request<Incoming>,
    running: Running,
) -> Result<Response<CountedBody>, ClientCancelled> {
    let is_head = request.method() == Method::HEAD;
    let mut answer = answer(client, request).await?;
    if is_head {
        // Over HTTP/2, hyper would send the body.
        let length = answer.body().size_hint().exact().filter(|length| *length > 0);
        if let Some(length) = length {
            answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        *answer.body_mut() = Body::empty();
    }
    Ok(answer.map(|body| CountedBody::new(body, running)))
}

async fn answer(client: &Client, request: Request<Incoming>) -> Result<Response<Body>, ClientCancelled> {
    let shard = &*client.shard;
    let config = shard.config();
    let accepts = Accepts::read(request.headers(), &config.rest_cors);
    let path = request.uri().path_and_query().map_or("", PathAndQuery::as_str);
    let target = url::read(request.method(), path);
    let answer = match target {
        _ if request.method() == Method::OPTIONS && !matches!(target, Ok(Target::Other)) => {
            accepts.preflight(request.headers())
        }
        _ if !is_known(request.method()) => error::plain(StatusCode::NOT_IMPLEMENTED, "Not Implemented", &[]),
        Ok(Target::Other) => return Ok(other(client, &accepts, request).await),
        target => counted(client, &config, target, request).await?,
    };
    accepts.respond(answer, &shard.offload).await.map_err(|_| ClientCancelled)
}

/// Whether TF Serving's HTTP library knows the method.
fn is_known(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS]
        .contains(method)
}

/// A request for something that the API does not have: for TF Serving's own port, if there is one.
async fn other(client: &Client, accepts: &Accepts, request: Request<Incoming>) -> Response<Body> {
    let passed = match &client.upstream {
        Some(upstream) => upstream.pass(request).await,
        None => Err(Fault::Upstream { code: Code::NotFound, message: "Not Found".to_owned() }),
    };
    match passed {
        Ok(response) => {
            client.complete.set(true);
            response
        }
        Err(fault) => {
            let answer = error::of_fault(&fault);
            accepts.respond(answer, &client.shard.offload).await.unwrap_or_default()
        }
    }
}

/// Serves a request of the API, and counts it.
async fn counted(
    client: &Client,
    config: &Arc<Config>,
    target: Result<Target, UrlError>,
    request: Request<Incoming>,
) -> Result<respond::Answer, ClientCancelled> {
    let arrived = Instant::now();
    let shard = &*client.shard;
    let rpc = match &target {
        Ok(Target::Run(rpc, _)) => *rpc,
        Ok(Target::Status(_)) => Rpc::GetModelStatus,
        Ok(Target::Metadata(_)) => Rpc::GetModelMetadata,
        Ok(Target::OpenApi | Target::Other) | Err(_) => Rpc::Other,
    };
    let place = Place { shard, config, peer: client.share.peer() };
    let metrics = RequestMetrics::new(Door::Rest, rpc, arrived, shard.next_number(), config.access_log);
    // When the connection ends, the request is dropped where it waits.
    let mut metrics = scopeguard::guard(metrics, |metrics| metrics.cancelled(place));
    let (head, body) = request.into_parts();
    let id = head.headers.get(X_REQUEST_ID).and_then(RequestId::echo);
    if let Some(id) = head.headers.get(X_REQUEST_ID) {
        metrics.report.set_id(id);
    }
    // The headers are gone when a request fails.
    place.identify(&head.headers, &metrics);
    if let Some(tracer) = &shard.tracer {
        metrics.set_trace(RequestTrace::drawn(tracer, &head.headers, arrived));
    }
    let progress = Progress::new("reading the request");
    let served = match deadline(&head.headers, config.rest_timeout, arrived) {
        Err(fault) => Err(fault.into()),
        Ok(deadline) => {
            let call = Call { client, config, deadline, progress: &progress };
            let work = pin!(dispatch(call, target, &head, body, &mut metrics));
            match deadline.at() {
                None => work.await,
                Some(at) => tokio::time::timeout_at(at, work)
                    .await
                    .unwrap_or_else(|_| Err(Fault::Deadline { during: progress.get() }.into())),
            }
        }
    };
    let metrics = ScopeGuard::into_inner(metrics);
    let mut answer = match served {
        Ok((code, answer)) => {
            metrics.answered(code, place);
            answer
        }
        Err(Stop::ClientCancelled) => {
            metrics.cancelled(place);
            return Err(ClientCancelled);
        }
        Err(Stop::Fault(fault)) => {
            tracing::debug!(method = rpc.as_str(), code = ?fault.code(), %fault, "request failed");
            let mut answer = error::of_fault(&fault);
            if let Ok(id) = HeaderValue::from_str(metrics.report.request_id()) {
                answer.headers.insert(X_REQUEST_ID, id);
            }
            if metrics.is_dry_run() {
                answer.headers.insert("tfs-sidecar-dry-run", HeaderValue::from_static("1"));
            }
            metrics.failed(&fault, place);
            answer
        }
    };
    if let Some(id) = id {
        answer.headers.insert(X_REQUEST_ID, id);
    }
    Ok(answer)
}

/// What the parts of a call share.
#[derive(Clone, Copy)]
struct Call<'a> {
    client: &'a Client,
    config: &'a Arc<Config>,
    deadline: Deadline,
    progress: &'a Progress,
}

async fn dispatch(
    call: Call<'_>,
    target: Result<Target, UrlError>,
    head: &request::Parts,
    body: Incoming,
    metrics: &mut RequestMetrics,
) -> Result<(Code, respond::Answer), Stop> {
    let Call { client, config, .. } = call;
    let shard = &*client.shard;
    match target {
        Ok(Target::Run(method, spec)) => {
            let options = RequestOptions::read(&head.headers)?;
            if options.dry_run {
                metrics.set_dry_run();
            }
            let mut ticket = shard.admit(&client.share, call.deadline)?;
            let limits = &config.limits;
            let body = body::read(body, &head.headers, limits, &shard.offload, &mut ticket).await?;
            client.complete.set(true);
            metrics.report.set_request_bytes(body.len());
            let path = match method {
                Rpc::Classify => "/tensorflow.serving.PredictionService/Classify",
                Rpc::Regress => "/tensorflow.serving.PredictionService/Regress",
                _ => "/tensorflow.serving.PredictionService/Predict",
            };
            let mut cx = call.context(options, ticket, path, head, metrics);
            let request = JsonRequest { method, spec, body };
            let (answer, layout) =
                run_json(&mut cx, &request).await.inspect_err(|fault| cx.identify_refused(fault))?;
            let RequestContext { mut ticket, .. } = cx;
            drop(request);
            let form = Form::Run(layout);
            Ok(answer::of(answer, form, limits.max_message_bytes, &shard.offload, &mut ticket).await?)
        }
        Ok(Target::Status(spec)) => {
            let path = "/tensorflow.serving.ModelService/GetModelStatus";
            // `GetModelStatusRequest.model_spec` is field 1.
            call.unary(path, Form::Status, field(1, &encode(spec)), head, metrics).await
        }
        Ok(Target::Metadata(spec)) => {
            let path = "/tensorflow.serving.PredictionService/GetModelMetadata";
            // `model_spec` is field 1, `metadata_field` field 2.
            let message = [field(1, &encode(spec)), field(2, b"signature_def")].concat();
            call.unary(path, Form::Metadata, message, head, metrics).await
        }
        Ok(Target::OpenApi) => {
            let body = openapi::document(shard);
            Ok((Code::Ok, respond::Answer { status: StatusCode::OK, headers: HeaderMap::new(), body }))
        }
        Ok(Target::Other) => {
            Err(Fault::Upstream { code: Code::NotFound, message: "Not Found".to_owned() }.into())
        }
        Err(wrong) => {
            let path = head.uri.path_and_query().map_or("", PathAndQuery::as_str);
            Ok((Code::InvalidArgument, error::of_url(&wrong, head.method.as_str(), path)))
        }
    }
}

impl<'a> Call<'a> {
    /// Calls a method of TF Serving that is not judged.
    async fn unary(
        self,
        path: &'static str,
        form: Form,
        message: Vec<u8>,
        head: &request::Parts,
        metrics: &'a mut RequestMetrics,
    ) -> Result<(Code, respond::Answer), Stop> {
        let Self { client, config, .. } = self;
        let ticket = client.share.open()?;
        let frames = framing::frames(Rope::from(message))
            .map_err(|error| Fault::Internal { problem: error.to_string() })?;
        let mut cx = self.context(RequestOptions::NONE, ticket, path, head, metrics);
        let answer = forward(&mut cx, &frames).await.inspect_err(|fault| cx.identify_refused(fault))?;
        let RequestContext { mut ticket, .. } = cx;
        let (offload, limit) = (&client.shard.offload, config.limits.max_message_bytes);
        Ok(answer::of(answer, form, limit, offload, &mut ticket).await?)
    }

    fn context(
        self,
        options: RequestOptions,
        ticket: Ticket,
        path: &'static str,
        head: &request::Parts,
        metrics: &'a mut RequestMetrics,
    ) -> RequestContext<'a> {
        let Self { client, config, deadline, progress } = self;
        let metadata = metadata(config, &head.headers);
        let head = CallHead::new(client.shard.pool.target(), Some(PathAndQuery::from_static(path)), metadata);
        RequestContext {
            shard: &client.shard,
            config,
            peer: client.share.peer(),
            options,
            deadline,
            ticket,
            progress,
            metrics,
            attempts: client.shard.attempts(config),
            head,
            text: None,
            refusal: None,
        }
    }
}

/// A field of bytes, of a number below 16.
fn field(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(payload.len() as u64, &mut field);
    field.extend_from_slice(payload);
    field
}

/// The headers that go on to TF Serving: those that name the sender of a request, and its trace.
fn metadata(config: &Config, headers: &HeaderMap) -> HeaderMap {
    let named = config.client_identity.iter().filter_map(|source| match source {
        IdentitySource::Metadata(key) => Some(key.clone()),
        _ => None,
    });
    let fixed = [USER_AGENT, X_REQUEST_ID, TRACEPARENT, TRACESTATE];
    let mut metadata = HeaderMap::with_capacity(8);
    for name in fixed.into_iter().chain(named) {
        for value in headers.get_all(&name) {
            metadata.append(name.clone(), value.clone());
        }
    }
    metadata.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    metadata
}

/// When the request must be answered.
///
/// # Errors
/// A header that cannot be read.
fn deadline(headers: &HeaderMap, normal: Duration, arrived: Instant) -> Result<Deadline, Fault> {
    if headers.contains_key(GRPC_TIMEOUT) {
        return Deadline::read(headers, arrived);
    }
    let timeout = match headers.get(X_TIMEOUT) {
        None => normal,
        Some(value) => value.to_str().ok().and_then(timeout).ok_or_else(|| {
            Fault::malformed(format!(
                "expected x-timeout in seconds or with a unit such as `500ms`, got {value:?}"
            ))
        })?,
    };
    Ok(arrived.checked_add(timeout).map_or_else(Deadline::default, Deadline::until))
}

/// `2.5` (seconds), `500ms` or `1m`.
fn timeout(text: &str) -> Option<Duration> {
    match text.trim().parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => humantime::parse_duration(text.trim()).ok(),
    }
    .filter(|timeout| !timeout.is_zero())
}
