//! What follows from a verdict, for every method that is judged: told to the client, counted,
//! remembered for the operators.
use tonic::Code;

use super::Shard;
use super::options::RequestOptions;
use super::request_metrics::RequestMetrics;
use crate::fault::{Fault, code_of};
use crate::models::catalog::ModelVersion;
use crate::repair::policy::ModelPolicy;
use crate::repair::report::repair_entry;
use crate::repair::{Mode, Outcome, Verdict};
use crate::telemetry::recent::Entry;
use crate::wire::ModelSpec;

/// Whether neither the configuration nor the request wants anything looked at.
pub(super) fn is_off(policy: &ModelPolicy, options: RequestOptions) -> bool {
    options.mode == Mode::Off
        && !options.dry_run
        && policy.defaults.mode == Mode::Off
        && policy.signatures.values().all(|policy| policy.mode == Mode::Off)
}

/// The refusal of a request: all its problems, with the code of the first. `predict` tells Predict
/// from the other methods.
pub(super) fn refusal(served: &ModelVersion, spec: &ModelSpec, verdict: Verdict, predict: bool) -> Fault {
    let signature = match &verdict.signature {
        Some(signature) => signature.name.clone(),
        None => spec.effective_signature().to_owned(),
    };
    let code =
        verdict.problems.first().map_or(Code::InvalidArgument, |problem| code_of(problem.reason, predict));
    Fault::Refused { model: served.model.clone(), signature, problems: verdict.problems, code }
}

/// Whether an error of TF Serving is explained: as the policy of the signature says, and never
/// where nothing is looked at.
pub(super) fn explains(served: &ModelVersion, spec: &ModelSpec, verdict: &Verdict) -> bool {
    let signature = match &verdict.signature {
        Some(signature) => signature.name.as_str(),
        None => spec.effective_signature(),
    };
    verdict.mode != Mode::Off && served.policy.for_signature(signature).explain_upstream
}

/// What was done, or in mode observe would have been. A refusal is counted with the fault that it
/// becomes.
pub(super) fn count(metrics: &RequestMetrics, verdict: &Verdict) {
    let metrics = metrics.metrics();
    match verdict.outcome {
        Outcome::Conforming | Outcome::Rejected => {}
        Outcome::Repaired => {
            for step in &verdict.plan.steps {
                metrics.repair(&step.input, step.rule.name);
            }
        }
        Outcome::Passed if verdict.mode == Mode::Observe => match verdict.problems.first() {
            Some(problem) => metrics.would_reject(problem.reason.as_str()),
            None => {
                for step in &verdict.plan.steps {
                    metrics.would_repair(&step.input, step.rule.name);
                }
            }
        },
        Outcome::Passed => {}
    }
}

/// For the operators' page: everything that did not conform.
pub(super) fn remember(shard: &Shard, peer: &str, served: &ModelVersion, verdict: &Verdict) {
    let outcome = match (verdict.outcome, verdict.problems.is_empty()) {
        (Outcome::Conforming, _) => return,
        (Outcome::Repaired, _) => "repaired",
        (Outcome::Rejected, _) => "rejected",
        (Outcome::Passed, true) if verdict.plan.is_empty() => return,
        (Outcome::Passed, true) => "would repair",
        (Outcome::Passed, false) => "would reject",
    };
    let lines = match outcome {
        "repaired" | "would repair" => verdict.plan.steps.iter().map(repair_entry).collect(),
        _ => verdict.problems.iter().map(ToString::to_string).collect(),
    };
    let signature = verdict.signature.as_ref().map_or_else(String::new, |signature| signature.name.clone());
    let entry = Entry { outcome, model: served.model.clone(), signature, client: peer.to_owned(), lines };
    shard.recent.push(entry, std::time::SystemTime::now());
}
