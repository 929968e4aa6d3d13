//! What follows from a verdict: the refusal for the client, the counters, the operators' page.
use std::time::SystemTime;

use smallvec::SmallVec;
use tonic::Code;

use super::context::RequestContext;
use super::mistakes;
use super::options::RequestOptions;
use super::report::note;
use crate::fault::{Fault, code_of};
use crate::models::catalog::ModelVersion;
use crate::repair::policy::ModelPolicy;
use crate::repair::report::repair_entry;
use crate::repair::{Mode, Outcome, Verdict};
use crate::telemetry::metrics;
use crate::telemetry::recent::Entry;
use crate::wire::ModelSpec;

/// Whether neither the configuration nor the request asks for any check.
pub(super) fn is_off(policy: &ModelPolicy, options: RequestOptions) -> bool {
    options.mode == Mode::Off
        && !options.dry_run
        && policy.defaults.mode == Mode::Off
        && policy.signatures.values().all(|policy| policy.mode == Mode::Off)
}

/// The name of the signature that the request was judged by, or asked for where there is none.
pub(super) fn effective_signature<'a>(spec: &'a ModelSpec, verdict: &'a Verdict) -> &'a str {
    match &verdict.signature {
        Some(signature) => &signature.name,
        None => spec.effective_signature(),
    }
}

/// The refusal of a request: all its problems, with the code of the first. `predict` tells Predict
/// from the other methods.
pub(super) fn refusal(version: &ModelVersion, spec: &ModelSpec, verdict: Verdict, predict: bool) -> Fault {
    let signature = effective_signature(spec, &verdict).to_owned();
    let code =
        verdict.problems.first().map_or(Code::InvalidArgument, |problem| code_of(problem.reason, predict));
    Fault::Refused { model: version.model.clone(), signature, problems: verdict.problems, code, theirs: None }
}

/// Counts what was done, or what a dry run or mode observe would have done. A refusal is counted
/// with the fault that it becomes.
pub(super) fn count(cx: &RequestContext<'_>, verdict: &Verdict) {
    let metrics = cx.metrics.model();
    if !cx.options.dry_run {
        for warning in &verdict.warnings {
            metrics.warning(warning.reason.as_str(), cx.client());
        }
    }
    match verdict.outcome {
        Outcome::Conforming | Outcome::Rejected | Outcome::Passed => {}
        Outcome::Repaired if !cx.options.dry_run => {
            for step in &verdict.plan.steps {
                metrics.repair(&step.input, step.rule.name, cx.client());
            }
        }
        Outcome::Repaired | Outcome::WouldRepair => {
            for step in &verdict.plan.steps {
                metrics.would_repair(&step.input, step.rule.name, cx.client());
            }
        }
        Outcome::WouldReject => {
            if let Some(problem) = verdict.problems.first() {
                metrics.would_reject(first_input(verdict), problem.reason.as_str(), cx.client());
            }
        }
    }
}

/// The input that the first problem is about, as metrics name it: an alias of the signature, or
/// empty for the whole request.
pub(super) fn first_input(verdict: &Verdict) -> &str {
    input_label(verdict, verdict.problems.first().map_or("", |problem| &problem.input))
}

/// An input as metrics name it.
pub(super) fn input_label<'a>(verdict: &Verdict, input: &'a str) -> &'a str {
    let declared = verdict.signature.as_ref().is_some_and(|signature| signature.input(input).is_some());
    if input.is_empty() || declared { input } else { metrics::UNKNOWN }
}

/// For the operators' page: everything that did not conform, and every warning.
pub(super) fn remember(cx: &RequestContext<'_>, version: &ModelVersion, verdict: &Verdict) {
    let warned = !verdict.warnings.is_empty();
    let outcome = match verdict.outcome {
        Outcome::Conforming if warned => "warned",
        Outcome::Conforming => return,
        Outcome::Passed if verdict.plan.is_empty() && verdict.problems.is_empty() => {
            if !warned {
                return;
            }
            "warned"
        }
        Outcome::Passed => "passed",
        Outcome::Repaired if !cx.options.dry_run => "repaired",
        Outcome::Repaired | Outcome::WouldRepair => "would repair",
        Outcome::Rejected if !cx.options.dry_run => "rejected",
        Outcome::Rejected | Outcome::WouldReject => "would reject",
    };
    note(cx, outcome, verdict);
    let kind = kind(verdict);
    let lines: SmallVec<[String; 2]> = if verdict.problems.is_empty() {
        let warnings = verdict.warnings.iter().map(|warning| warning.text.clone());
        verdict.plan.steps.iter().map(repair_entry).chain(warnings).collect()
    } else {
        verdict.problems.iter().map(ToString::to_string).collect()
    };
    let now = SystemTime::now();
    mistakes::record(cx, version, verdict, &lines, now);
    let signature = verdict.signature.as_ref().map_or("", |signature| &signature.name);
    let client = cx.client().name();
    cx.shard
        .recent
        .push(Entry { outcome, kind, model: &version.model, signature, client, lines: &lines }, now);
}

/// The first reason or rule.
fn kind(verdict: &Verdict) -> &'static str {
    let problem = verdict.problems.first().map(|problem| problem.reason.as_str());
    let step = || verdict.plan.steps.first().map(|step| step.rule.name);
    let warning = || verdict.warnings.first().map(|warning| warning.reason.as_str());
    problem.or_else(step).or_else(warning).unwrap_or_default()
}
