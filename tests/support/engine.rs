//! Runs the repair engine without a sidecar, and writes its verdict on one line, as the test tables
//! do.
use tfs_sidecar::config::Config;
use tfs_sidecar::config::load::{File, Settings, load};
use tfs_sidecar::repair::policy::ModelPolicy;
use tfs_sidecar::repair::{Action, Limits, Outcome, Request, Step, Verdict, judge, report};
use tfs_sidecar::signature::Signatures;
use tfs_sidecar::wire::{PredictView, Rope};

/// The policies of a model `m` whose signature `serving_default` has these keys; the defaults if
/// empty.
pub(crate) fn policy(signature: &str) -> Result<ModelPolicy, String> {
    if signature.is_empty() {
        return Ok(Config::default().policy("m").clone());
    }
    let text = format!("models: {{m: {{signatures: {{serving_default: {{{signature}}}}}}}}}");
    let config = load(&Settings::default(), Some(File { name: "test", text: &text }));
    config.map(|config| config.policy("m").clone()).map_err(|problems| problems.to_string())
}

/// Scans and judges a request; `None` if the message is not a PredictRequest.
pub(crate) fn decide(message: &Rope, signatures: &Signatures, policy: &ModelPolicy) -> Option<Verdict> {
    let view = PredictView::scan(message).ok()?;
    Some(judge(&Request {
        message,
        view: &view,
        signatures,
        policy,
        limits: Limits::default(),
        raised: None,
        text: None,
    }))
}

/// `conforms`, `passed`, the steps as `rule old->new`, or the reasons of the refusal.
pub(crate) fn line(verdict: &Verdict) -> String {
    let all = |parts: Vec<String>| parts.join(" + ");
    match (verdict.action, verdict.outcome) {
        (Action::Forward, Outcome::Conforming) => "conforms".to_owned(),
        (Action::Forward, _) => "passed".to_owned(),
        (Action::Apply, _) => {
            let step = |step: &Step| format!("{} {}", step.rule.name, report::change(step));
            all(verdict.plan.steps.iter().map(step).collect())
        }
        (Action::Refuse, _) => {
            all(verdict.problems.iter().map(|problem| problem.reason.as_str().to_owned()).collect())
        }
    }
}
