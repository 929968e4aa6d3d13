//! Classify, Regress and MultiInference: the signature's name is checked, and that there are
//! examples; the bytes go on.
use bytes::Bytes;
use h2::RecvStream;
use http::{Request, header};
use smallvec::SmallVec;
use tonic::Code;

use super::Shard;
use super::call::{Call, Stop};
use super::deadline::Deadline;
use super::message::{self, GRPC_ENCODING};
use super::options::{RequestOptions, repair_metadata};
use super::predict::dry_run;
use super::relay::{ResponseAnnotations, relay};
use super::request_metrics::RequestMetrics;
use super::resolve::resolve;
use super::send::send;
use super::verdict::{count, explains, is_off, refusal, remember};
use crate::fault::Fault;
use crate::repair::infer::{apply_infer, judge_infer};
use crate::repair::{Action, Mode};
use crate::telemetry::metrics::Method;
use crate::transport::framing::frames;
use crate::wire::infer::InferView;

/// As `predict`, without a second look at the signatures: a refusal here is about the examples, as
/// a rule.
pub async fn infer(
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
    let mut ticket = shard.admit(deadline)?;
    let mut message = message::read(body, limit, &mut ticket).await?;
    if message.compressed {
        message::decompress(&mut message, request.headers(), limit, &mut ticket).await?;
    }
    let plain = &message.payload;

    let scanned = match metrics.method {
        Method::MultiInference => InferView::scan_multi(plain),
        _ => InferView::scan_single(plain),
    };
    let view = scanned.map_err(|error| Fault::malformed(error.to_string()))?;
    // All tasks of a MultiInference must name one model (`multi_inference.cc`); one without tasks
    // is for TF Serving to refuse.
    let spec = view.tasks.first().map(|task| &task.model_spec);
    let policy = spec.map_or(&shard.config.defaults, |spec| shard.config.policy(&spec.name));
    let Some(spec) = spec.filter(|_| !is_off(policy, options)) else {
        let reply = send(shard, call, request, &message.frames, deadline, metrics).await?;
        return relay(call, &shard.pool, reply, ResponseAnnotations::default()).await;
    };

    let served = resolve(shard, call, spec).await?;
    let raised = (options.mode > Mode::Off).then_some(options.mode);
    let verdict = judge_infer(&view, &served.signatures, &served.policy, raised);
    let signature = verdict.signature.as_ref().map_or("", |signature| signature.name.as_str());
    metrics.served(served.metrics(signature));
    metrics.judged(&verdict);
    remember(shard, peer, &served, &verdict);
    let changed: SmallVec<[Bytes; 4]>;
    let (outgoing, repair_metadata) = match verdict.action {
        Action::Refuse => return Err(refusal(&served, spec, verdict, false).into()),
        Action::Forward => (&message.frames, None),
        Action::Apply => {
            changed = frames(apply_infer(plain, &view, &verdict.plan));
            (&changed, repair_metadata(&verdict.plan.steps))
        }
    };
    count(metrics, &verdict);
    if options.dry_run {
        return dry_run(call, repair_metadata).await;
    }
    if verdict.action == Action::Apply {
        request.headers_mut().remove(GRPC_ENCODING);
        request.headers_mut().remove(header::CONTENT_LENGTH);
    }
    let reply = send(shard, call, request, outgoing, deadline, metrics).await?;
    let annotations = ResponseAnnotations {
        repair_metadata: repair_metadata.as_ref(),
        explain: explains(&served, spec, &verdict),
    };
    relay(call, &shard.pool, reply, annotations).await
}
