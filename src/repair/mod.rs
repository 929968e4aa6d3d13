//! Repair: whether a request conforms to its signature, what would make it conform, and what it must be told otherwise.
pub mod policy;
pub mod problem;
pub mod reason;
pub mod report;

// STUB until the engine lands: every request conforms.
use std::sync::Arc;

pub use policy::{Mode, ModelPolicy};
pub use problem::Problem;
pub use reason::Reason;

use crate::signature::{Signature, Signatures};
use crate::wire::{PredictView, Rope};

#[derive(Debug)]
pub struct Judged<'a> {
    pub message: &'a Rope,
    pub view: &'a PredictView,
    pub model: &'a str,
    pub signatures: &'a Signatures,
    pub policy: &'a ModelPolicy,
    pub mode: Mode,
}

#[derive(Debug)]
pub struct Verdict {
    pub signature: Option<Arc<Signature>>,
    pub plan: Plan,
    pub problems: Vec<Problem>,
    pub action: Action,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Forward,
    Apply,
    Refuse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Conforming,
    Repaired,
    Rejected,
    Passed,
}

#[derive(Debug, Default, Clone, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

#[derive(Debug)]
pub struct Repair {
    pub name: &'static str,
}

#[derive(Debug, Clone)]
pub struct Step {
    pub rule: &'static Repair,
    pub input: String,
    pub change: String,
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        self.rule.name == other.rule.name && self.input == other.input && self.change == other.change
    }
}

#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct ApplyError;

pub fn judge(request: &Judged<'_>) -> Verdict {
    let signature = request.signatures.get(request.view.model_spec.effective_signature()).cloned();
    Verdict { signature, plan: Plan::default(), problems: Vec::new(), action: Action::Forward, outcome: Outcome::Conforming }
}

pub fn apply(message: &Rope, _view: &PredictView, _plan: &Plan) -> Result<Rope, ApplyError> {
    Ok(message.clone())
}
