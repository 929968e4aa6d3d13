//! Tests of all rules: examples, verdicts, hints, and properties over all dtypes and encodings.
mod agreement;
mod hints;
#[cfg(feature = "image")]
mod images;
mod properties;
mod transforms;
mod transforms_golden;
mod values;
mod verdicts;

use super::*;
use crate::signature::Signatures;
use crate::wire::{PredictView, Rope};

fn set(policy: &mut Policy, rule: &str, on: bool) {
    policy.rules.set(Repair::find(rule).unwrap(), on);
}

/// An input whose rows are padded with 0, with a mask under this name.
fn padded(mask: Option<&str>) -> RuleValues {
    let mut pad = RuleValues::from([(&rules::PAD_VALUE, policy::Literal::Int(0).into())]);
    if let Some(mask) = mask {
        pad.set(&rules::PAD_MASK, policy::Literal::Text(mask.to_owned()).into());
    }
    RuleValues::from([(&rules::PAD, RuleValue::Section(pad))])
}

/// A request and the signature to check it against, both in the notation of the command line.
struct Case {
    signatures: Signatures,
    message: Rope,
    policy: ModelPolicy,
    limits: Limits,
}

impl Case {
    fn new(signature: &str, request: &str) -> Self {
        Self {
            signatures: notation::signature(signature).unwrap(),
            message: notation::request("m", request).unwrap(),
            policy: ModelPolicy::default(),
            limits: Limits::default(),
        }
    }

    fn mode(mut self, mode: Mode) -> Self {
        self.policy.defaults.mode = mode;
        self
    }

    fn judge(&self) -> Verdict {
        self.judge_bytes(&self.message)
    }

    fn judge_bytes(&self, message: &Rope) -> Verdict {
        let view = PredictView::scan(message).unwrap();
        judge(&Request {
            message,
            view: &view,
            signatures: &self.signatures,
            policy: &self.policy,
            limits: self.limits,
            raised: None,
            text: None,
        })
    }

    fn applied(&self) -> Rope {
        let view = PredictView::scan(&self.message).unwrap();
        apply(&self.message, &view, &self.judge().plan).unwrap()
    }

    /// Rules and changes of the plan, or the problems, in one line.
    fn says(&self) -> String {
        let verdict = self.judge();
        if verdict.problems.is_empty() {
            let steps: Vec<String> = verdict.plan.steps.iter().map(report::repair_entry).collect();
            return if steps.is_empty() { "conforms".to_owned() } else { steps.join(" ") };
        }
        verdict
            .problems
            .iter()
            .map(|problem| problem.for_client().to_string())
            .collect::<Vec<_>>()
            .join(" | ")
    }
}
