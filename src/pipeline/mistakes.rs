//! What a request did wrong, for the operators' list of who must change what.
use std::time::SystemTime;

use smallvec::SmallVec;

use super::Shard;
use super::context::RequestContext;
use super::request_metrics::RequestMetrics;
use super::verdict::input_label;
use crate::fault::Fault;
use crate::models::catalog::ModelVersion;
use crate::repair::report::ascii;
use crate::repair::{Outcome, Reason, Step, Verdict};
use crate::telemetry::clients::Client;
use crate::telemetry::metrics::OutcomeLabel;
use crate::telemetry::mistakes::Mistake;
use crate::wire::WireError;

/// Mistakes of one request that are recorded.
const MAX_MISTAKES: usize = 4;

/// The words of [`Mistake::outcome`].
const WARNED: &str = "warned";
const PASSED: &str = "passed";

/// Records what a verdict found: all problems, or else the repairs, and the warnings. `lines` are
/// the texts of the problems, or else of the repairs and the warnings.
pub(super) fn record(
    cx: &RequestContext<'_>,
    version: &ModelVersion,
    verdict: &Verdict,
    lines: &[String],
    now: SystemTime,
) {
    let outcome = match verdict.outcome {
        Outcome::Conforming => WARNED,
        Outcome::Passed => PASSED,
        Outcome::Repaired if !cx.options.dry_run => OutcomeLabel::Repaired.as_str(),
        Outcome::Repaired | Outcome::WouldRepair => OutcomeLabel::WouldRepair.as_str(),
        Outcome::Rejected if !cx.options.dry_run => OutcomeLabel::Rejected.as_str(),
        Outcome::Rejected | Outcome::WouldReject => OutcomeLabel::WouldReject.as_str(),
    };
    let signature = verdict.signature.as_ref().map_or("", |signature| &signature.name);
    let of = |input, kind, outcome, text| {
        let (model, version) = (version.model.as_str(), Some(version.version));
        Mistake { model, version, signature, input, kind, outcome, text }
    };
    let mut all = SmallVec::<[Mistake<'_>; MAX_MISTAKES]>::new();
    for (problem, line) in verdict.problems.iter().zip(lines).take(MAX_MISTAKES) {
        all.push(of(input_label(verdict, &problem.input), problem.reason.as_str(), outcome, line));
    }
    if verdict.problems.is_empty() {
        for (step, line) in verdict.plan.steps.iter().zip(lines).take(MAX_MISTAKES) {
            all.push(of(&step.input, step.rule.name, outcome, change_of(step, line)));
        }
    }
    for warning in verdict.warnings.iter().take(MAX_MISTAKES - all.len()) {
        all.push(of(input_label(verdict, &warning.input), warning.reason.as_str(), WARNED, &warning.text));
    }
    let mismatch = !matches!(verdict.outcome, Outcome::Conforming | Outcome::Passed);
    let client = cx.client();
    cx.shard.mistakes.record(client.name(), cx.metrics.language(client), mismatch, &all, now);
}

/// The change in `input;rule;change`.
fn change_of<'a>(step: &Step, line: &'a str) -> &'a str {
    let before = ascii(&step.input).len() + step.rule.name.len() + 2;
    line.get(before..).unwrap_or_default()
}

/// Records a message that cannot be parsed and is forwarded all the same.
pub(super) fn record_malformed(cx: &RequestContext<'_>, error: &WireError) {
    let outcome = OutcomeLabel::WouldReject.as_str();
    let mistake = of_request(cx.metrics, Reason::Malformed, outcome);
    push(cx.shard, cx.metrics, cx.client(), &[Mistake { text: &error.to_string(), ..mistake }]);
}

/// Records a refusal of a request that no verdict was made of.
pub(super) fn record_fault(
    shard: &Shard,
    metrics: &RequestMetrics,
    client: &Client,
    fault: &Fault,
    reason: Reason,
) {
    if !metrics.is_counted()
        && let Some((traffic, _)) = shard.mistakes.traffic(client.name(), SystemTime::now())
    {
        traffic.request();
    }
    let outcome = if metrics.is_dry_run() { OutcomeLabel::WouldReject } else { OutcomeLabel::Rejected };
    let mut mistake = of_request(metrics, reason, outcome.as_str());
    match fault {
        // Recorded with the verdict.
        Fault::Refused { .. } => return,
        Fault::ModelUnknown { model, .. } | Fault::ModelUndeclared { model } => mistake.model = model,
        _ => {}
    }
    push(shard, metrics, client, &[Mistake { text: &fault.to_string(), ..mistake }]);
}

fn of_request<'a>(metrics: &'a RequestMetrics, reason: Reason, outcome: &'static str) -> Mistake<'a> {
    let model = metrics.model();
    Mistake {
        model: model.name(),
        version: None,
        signature: model.signature(),
        input: "",
        kind: reason.as_str(),
        outcome,
        text: "",
    }
}

fn push(shard: &Shard, metrics: &RequestMetrics, client: &Client, mistakes: &[Mistake<'_>]) {
    shard.mistakes.record(client.name(), metrics.language(client), true, mistakes, SystemTime::now());
}
