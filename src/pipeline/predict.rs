//! `PredictionService/Predict` from end to end: what happens to a request, in order.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, HeaderValue, Request, header};
use smallvec::SmallVec;
use tonic::Code;

use super::Shard;
use super::call::{Call, Stop, grpc_head, now};
use super::deadline::Deadline;
use super::fan_out::FanOut;
use super::forward::Reply;
use super::message::{self, GRPC_ENCODING};
use super::options::{RequestOptions, mark_dry_run, repair_metadata};
use super::relay::{ResponseAnnotations, relay};
use super::request_metrics::RequestMetrics;
use super::resolve::resolve;
use super::send::send;
use super::verdict::{count, explains, is_off, refusal, remember};
use crate::fault::Fault;
use crate::models::catalog::ModelVersion;
use crate::repair::{self, Action, Calls, Mode, Outcome, Verdict, apply, judge};
use crate::telemetry::metrics::Stage;
use crate::transport::framing::frames;
use crate::wire::{PredictView, Rope};

/// How long a refusal by the server may wait for a look at whether the signatures have changed.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// The whole way. Its result is the code that the client was answered with.
pub async fn predict(
    shard: &Shard,
    call: &Call,
    peer: &str,
    request: &mut Request<()>,
    body: &mut RecvStream,
    deadline: Deadline,
    metrics: &mut RequestMetrics,
) -> Result<Code, Stop> {
    let options = RequestOptions::read(request.headers())?;
    if options.dry_run {
        call.is_dry_run();
    }
    let limit = shard.config.limits.max_message_bytes;

    // admit, read
    let mut ticket = shard.admit(deadline)?;
    let mut message = message::read(body, limit, &mut ticket).await?;
    let mut encoding = None;
    if message.compressed {
        // Boxed, as every rare way is: it need not size the task of every Predict.
        Box::pin(message::decompress(&mut message, request.headers(), limit, &mut ticket)).await?;
        encoding = request.headers().get(GRPC_ENCODING).cloned();
    }
    let plain = &message.payload;

    // scan
    let view = match metrics.stage(Stage::Scan, || PredictView::scan(plain)) {
        Ok(view) => Some(view),
        Err(_) if is_off(&shard.config.defaults, options) => None,
        Err(error) => return Err(Fault::malformed(error.to_string()).into()),
    };
    let spec = view.as_ref().map(|view| &view.model_spec);
    let off = is_off(spec.map_or(&shard.config.defaults, |spec| shard.config.policy(&spec.name)), options);

    // In mode off nothing is looked at, so that nothing has to be known.
    if off
        && let Some(spec) = spec
        && let Some(served) = shard.catalog.lookup(spec)
    {
        metrics.served(served.metrics(spec.effective_signature()));
    }
    let Some(view) = view.filter(|_| !off) else {
        let reply = send(shard, call, request, &message.frames, deadline, metrics).await?;
        return relay(call, &shard.pool, reply, ResponseAnnotations::default()).await;
    };

    let mut served = resolve(shard, call, &view.model_spec).await?;
    let mut second = false;
    loop {
        // judge, apply
        let verdict = metrics.stage(Stage::Plan, || decide(shard, plain, &view, &served, options));
        let signature = verdict.signature.as_ref().map_or("", |signature| signature.name.as_str());
        metrics.served(served.metrics(signature));
        metrics.judged(&verdict);
        let repaired: Rope;
        let changed: SmallVec<[Bytes; 4]>;
        let (outgoing, repair_metadata): (&[Bytes], Option<HeaderMap>) = match verdict.action {
            Action::Refuse => {
                remember(shard, peer, &served, &verdict);
                return Err(refusal(&served, &view.model_spec, verdict, true).into());
            }
            Action::Forward => (&message.frames, None),
            Action::Apply => {
                let done = metrics.stage(Stage::Apply, || apply(plain, &view, &verdict.plan));
                repaired = done.map_err(|error| Fault::Internal { problem: error.to_string() })?;
                let repair_metadata = repair_metadata(&verdict.plan.steps);
                if verdict.plan.calls != Calls::One && !options.dry_run {
                    make_plain(request);
                    count(metrics, &verdict);
                    remember(shard, peer, &served, &verdict);
                    let explain = explains(&served, &view.model_spec, &verdict);
                    let annotations =
                        ResponseAnnotations { repair_metadata: repair_metadata.as_ref(), explain };
                    let several = FanOut { shard, call, deadline, metrics, ticket: &mut ticket, annotations };
                    return Box::pin(several.run(request, &repaired, verdict.plan.calls)).await;
                }
                changed = frames(repaired);
                (&changed, repair_metadata)
            }
        };
        if options.dry_run {
            count(metrics, &verdict);
            return dry_run(call, repair_metadata).await;
        }
        match verdict.action {
            Action::Apply => make_plain(request),
            // An earlier round may have taken the header away.
            Action::Forward | Action::Refuse => {
                if let Some(encoding) = &encoding {
                    request.headers_mut().insert(GRPC_ENCODING, encoding.clone());
                }
            }
        }

        // forward
        let sent = now();
        let reply = send(shard, call, request, outgoing, deadline, metrics).await?;
        if !second
            && is_doubtful(&verdict, &reply)
            && let Some(newer) = newer(shard, call, &view, &served, sent).await
        {
            served = newer;
            second = true;
            continue;
        }

        // relay; the metrics is kept by the caller
        count(metrics, &verdict);
        remember(shard, peer, &served, &verdict);
        let explain = explains(&served, &view.model_spec, &verdict);
        return relay(
            call,
            &shard.pool,
            reply,
            ResponseAnnotations { repair_metadata: repair_metadata.as_ref(), explain },
        )
        .await;
    }
}

/// A message that was changed goes on uncompressed, and its length is another one.
fn make_plain(request: &mut Request<()>) {
    request.headers_mut().remove(GRPC_ENCODING);
    request.headers_mut().remove(header::CONTENT_LENGTH);
}

fn decide(
    shard: &Shard,
    plain: &Rope,
    view: &PredictView,
    served: &ModelVersion,
    options: RequestOptions,
) -> Verdict {
    let raised = (options.mode > Mode::Off).then_some(options.mode);
    judge(&repair::Request {
        message: plain,
        view,
        signatures: &served.signatures,
        policy: &served.policy,
        limits: shard.config.request_limits(),
        raised,
    })
}

/// Whether the server refused what, as far as we know its signatures, it should have taken.
fn is_doubtful(verdict: &Verdict, reply: &Reply) -> bool {
    matches!(verdict.outcome, Outcome::Conforming | Outcome::Repaired)
        && matches!(reply.refusal(), Some(Code::InvalidArgument | Code::FailedPrecondition | Code::NotFound))
}

/// Other signatures than those that the request was planned on, if the model has been replaced
/// meanwhile.
async fn newer(
    shard: &Shard,
    call: &Call,
    view: &PredictView,
    old: &Arc<ModelVersion>,
    sent: tokio::time::Instant,
) -> Option<Arc<ModelVersion>> {
    call.waits_for("looking whether the model has changed");
    let look = Box::pin(shard.refresher.revalidate(&old.model, sent));
    tokio::time::timeout(SECOND_LOOK, look).await.ok();
    let newer = shard.catalog.lookup(&view.model_spec)?;
    (!Arc::ptr_eq(&newer, old) && newer.signatures != old.signatures).then_some(newer)
}

/// OK, an empty PredictResponse, and what would have been repaired.
pub(super) async fn dry_run(call: &Call, repair_metadata: Option<HeaderMap>) -> Result<Code, Stop> {
    const EMPTY: Bytes = Bytes::from_static(&[0; 5]);
    let mut headers = repair_metadata.unwrap_or_default();
    mark_dry_run(&mut headers);
    call.head(grpc_head(headers), false)?;
    call.data(EMPTY).await?;
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    call.end(Some(trailers))?;
    Ok(Code::Ok)
}
