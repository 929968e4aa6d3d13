//! What happens to a request, in order: scan, resolve, judge, apply, send, annotate.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::time::Instant;
use tonic::Code;

use super::annotations::ResponseAnnotations;
use super::answer::Answer;
use super::batch::{self, Candidate};
use super::census::take_form;
use super::context::{RequestContext, RequestMessage};
use super::fan_out::fan_out;
use super::mistakes;
use super::operation::Malformed;
use super::profile::{self, Compared};
use super::repair_metadata::repair_metadata;
use super::resolve::resolve;
use super::send::send;
use super::stages;
use super::verdict::{count, first_input, is_off, refusal, remember};
use crate::fault::Fault;
use crate::models::catalog::ModelVersion;
use crate::repair::{Action, Calls, Mode, Outcome, Reason, Verdict};
use crate::retry::policy::{Cause, Decision};
use crate::wire::{ModelSpec, Rope, WireError};

/// How long the server's refusal may wait for a check whether the signatures have changed.
const REVALIDATE_WITHIN: Duration = Duration::from_secs(1);

/// Serves one request whose message was read.
///
/// # Errors
/// The request is refused, or it cannot be answered.
pub(crate) async fn run(cx: &mut RequestContext<'_>, message: &RequestMessage) -> Result<Answer, Fault> {
    let plain = &message.payload;
    cx.count_request();
    let config = cx.config;

    // scan
    // Boxed, as every rare path is: it need not size the task of every request.
    let scanned = match stages::scan(cx, plain) {
        Some(scanned) => scanned,
        None => Box::pin(stages::scan_elsewhere(cx, plain)).await?,
    };
    let operation = match scanned {
        Ok(mut operation) => {
            if !config.rename_model.is_empty() {
                operation.rename(&config.rename_model);
            }
            Some(operation)
        }
        Err(Malformed { error, spec }) if lets_malformed_pass(cx, &spec, &error) => {
            tracing::debug!(%error, "forwarding a message that cannot be parsed");
            None
        }
        Err(Malformed { error, .. }) => return Err(Fault::malformed(error.to_string())),
    };
    if let Some(operation) = &operation {
        stages::charge(cx, operation)?;
    }
    let checked = operation.as_ref().and_then(|operation| Some((operation, operation.model_spec()?)));
    let policy = checked.map_or(&config.defaults, |(_, spec)| config.policy(&spec.name));
    let Some((operation, spec)) = checked.filter(|_| !is_off(policy, cx.options)) else {
        // Mode off checks nothing, so the model need not be known.
        if let Some((_, spec)) = checked
            && let Some(version) = cx.shard.catalog.lookup(spec)
        {
            cx.metrics.set_model(version.metrics(spec.effective_signature()));
        }
        if let Some(theirs) = cx.refusal.take() {
            return Ok(Answer::refused(&theirs));
        }
        return Ok(Answer::from(send(cx, &message.frames).await?));
    };

    // resolve
    let mut version = resolve(cx, spec).await?;
    let mut is_new = config.traffic_census;
    loop {
        // judge
        let mut verdict = match stages::judge(cx, operation, plain, &version, policy) {
            Some(verdict) => verdict,
            None => Box::pin(stages::judge_elsewhere(cx, operation, plain, &version)).await?,
        };
        // compare
        let mut compared = Compared::default();
        if cx.shard.preprocessing.is_active() {
            let comparing = profile::compare(cx, operation, plain, &version, policy, &mut verdict);
            compared = Box::pin(comparing).await?;
        }
        let signature = verdict.signature.as_ref().map_or("", |signature| signature.name.as_str());
        cx.metrics.set_model(version.metrics(signature));
        cx.metrics.set_outcome(&verdict);
        cx.metrics.report.set_rows(|| operation.rows(&verdict));
        if cx.shard.tracer.is_some() {
            cx.trace_verdict(&verdict);
        }
        if is_new && verdict.action != Action::Refuse {
            take_form(cx, operation, &version, &verdict);
            is_new = false;
        }

        // apply
        let mut metadata = repair_metadata(&verdict, cx.options.dry_run);
        let changed: SmallVec<[Bytes; 4]>;
        let mut repaired_message: Option<Rope> = None;
        let outgoing: &[Bytes] = match verdict.action {
            Action::Refuse => {
                if cx.retry(Cause::SignatureChanged) == Decision::Now
                    && let Some(newer) = newer(cx, spec, &version, None).await
                {
                    version = newer;
                    continue;
                }
                if is_new {
                    take_form(cx, operation, &version, &verdict);
                }
                cx.metrics.set_rejected_input(first_input(&verdict));
                remember(cx, &version, &verdict);
                return Err(refusal(&version, spec, verdict, operation.predict().is_some()));
            }
            Action::Forward => &message.frames,
            Action::Apply if cx.options.dry_run => &[],
            Action::Apply => {
                let repaired = match compared.repaired.take() {
                    Some(repaired) => repaired,
                    None => stages::apply(cx, operation, plain, &verdict.plan).await?,
                };
                let shared = version.runs(signature).is_some();
                if shared && matches!(verdict.plan.calls, Calls::Pad { .. }) {
                    // The run that it shares is padded, and need not be padded for each member.
                    repaired_message = Some(repaired);
                    &[]
                } else if verdict.plan.calls != Calls::One {
                    cx.head.set_changed();
                    let annotations = ResponseAnnotations::new(cx, metadata, policy, spec, &verdict);
                    let calls = verdict.plan.calls;
                    let mut answer = Box::pin(fan_out(cx, &repaired, calls, annotations)).await?;
                    if compared.looks_at_answer() && matches!(answer, Answer::Whole(_)) {
                        let mut found = None;
                        Box::pin(compared.look_at(cx, &mut answer, &verdict, &mut found)).await?;
                        answer.set_annotations(ResponseAnnotations::new(cx, found, policy, spec, &verdict));
                    }
                    answer.annotate(plain, operation, &verdict);
                    count(cx, &verdict);
                    remember(cx, &version, &verdict);
                    return Ok(answer);
                } else {
                    if shared {
                        repaired_message = Some(repaired.clone());
                    }
                    changed = stages::frames(cx, repaired)?;
                    &changed
                }
            }
        };
        if cx.options.dry_run {
            count(cx, &verdict);
            remember(cx, &version, &verdict);
            return Ok(Answer::dry_run(metadata));
        }
        match verdict.action {
            Action::Apply => cx.head.set_changed(),
            Action::Forward | Action::Refuse => cx.head.set_unchanged(),
        }

        // send
        if let Some(theirs) = cx.refusal.take() {
            count(cx, &verdict);
            remember(cx, &version, &verdict);
            return Ok(Answer::refused(&theirs));
        }
        let sent = Instant::now();
        let runs = operation.predict().and_then(|view| Some((version.runs(signature)?, view)));
        let alone = runs.and_then(|(runs, view)| batch::start_alone(cx, runs, view, &verdict, sent));
        let mut answer = match runs {
            Some((runs, view)) if alone.is_none() => {
                if verdict.outcome != Outcome::Conforming || !verdict.warnings.is_empty() {
                    // The headers go along with the run.
                    cx.client();
                }
                let (repaired, calls) = (repaired_message.as_ref(), verdict.plan.calls);
                let request = Candidate { frames: outgoing, message: plain, view, repaired, calls };
                Box::pin(batch::share(cx, runs, request)).await?
            }
            _ => Answer::from(send(cx, outgoing).await?),
        };
        if let Some(alone) = alone
            && answer.is_ok_so_far()
        {
            alone.answered();
        }
        if operation.predict().is_some()
            && is_doubtful(&verdict, &answer)
            && cx.retry(Cause::SignatureChanged) == Decision::Now
            && let Some(newer) = newer(cx, spec, &version, Some(Instant::now())).await
        {
            version = newer;
            continue;
        }

        // annotate
        if compared.looks_at_answer() {
            // Boxed: a rare path need not size the task of every request.
            Box::pin(compared.look_at(cx, &mut answer, &verdict, &mut metadata)).await?;
        }
        count(cx, &verdict);
        remember(cx, &version, &verdict);
        let annotations = ResponseAnnotations::new(cx, metadata, policy, spec, &verdict);
        answer.set_annotations(annotations);
        answer.annotate(plain, operation, &verdict);
        return Ok(answer);
    }
}

/// Sends a request on without judging it.
///
/// # Errors
/// It cannot be answered.
pub(crate) async fn forward(cx: &mut RequestContext<'_>, frames: &[Bytes]) -> Result<Answer, Fault> {
    let mut reply = send(cx, frames).await?;
    reply.explain_unimplemented();
    Ok(Answer::from(reply))
}

/// Whether a message that cannot be parsed is forwarded all the same: in the modes that refuse
/// nothing. `spec` names its model if that is readable; otherwise the defaults decide.
fn lets_malformed_pass(cx: &mut RequestContext<'_>, spec: &ModelSpec, error: &WireError) -> bool {
    let config = cx.config;
    if let Some(version) = cx.shard.catalog.lookup(spec) {
        cx.metrics.set_model(version.metrics(spec.effective_signature()));
    }
    let policy = config.policy(&spec.name).for_signature(spec.effective_signature());
    let mode = policy.mode.max(cx.options.mode);
    if mode == Mode::Observe && !cx.options.dry_run {
        let client = cx.client().clone();
        cx.metrics.would_reject(Reason::Malformed, &client);
        mistakes::record_malformed(cx, error);
        cx.metrics.report.note_one(cx, "would_reject", Reason::Malformed, error.to_string());
    }
    mode <= Mode::Observe && !cx.options.dry_run
}

/// Whether the server refused a request that conforms to the signatures that we know.
fn is_doubtful(verdict: &Verdict, answer: &Answer) -> bool {
    let Answer::Upstream { reply, .. } = answer else { return false };
    matches!(verdict.outcome, Outcome::Conforming | Outcome::Repaired)
        && matches!(reply.refusal(), Some(Code::InvalidArgument | Code::FailedPrecondition | Code::NotFound))
}

/// The model's version now, if its signatures differ from those that the request was judged by.
/// `refused`: when TF Serving refused it; `None` if it is refused here.
async fn newer(
    cx: &RequestContext<'_>,
    spec: &ModelSpec,
    old: &Arc<ModelVersion>,
    refused: Option<Instant>,
) -> Option<Arc<ModelVersion>> {
    cx.progress.set("checking whether the model has changed");
    let refresher = &cx.shard.refresher;
    let revalidated = Box::pin(async {
        match refused {
            Some(refused) => refresher.revalidate(&old.model, refused).await,
            None => refresher.recheck(&old.model).await,
        }
    });
    tokio::time::timeout(REVALIDATE_WITHIN, revalidated).await.ok();
    let newer = cx.shard.catalog.lookup(spec)?;
    (!Arc::ptr_eq(&newer, old) && newer.signatures != old.signatures).then_some(newer)
}
