//! The decision on Classify, Regress and MultiInference requests: whether the signatures exist, and
//! whether there are examples.
use super::judge::{Found, Verdict, choose_signature};
use super::policy::{Mode, ModelPolicy};
use super::problem::Problem;
use super::reason::Reason;
use super::{Change, Plan};
use crate::signature::Signatures;
use crate::wire::Rope;
use crate::wire::infer::InferView;

/// Decides on a request of examples. The `index` of a step is the index of its task.
pub fn judge_infer(
    view: &InferView,
    signatures: &Signatures,
    policy: &ModelPolicy,
    raised: Option<Mode>,
) -> Verdict {
    let mut found = Found::default();
    let mut signature = None;
    let mut checked_by = &policy.defaults;
    for (index, task) in view.tasks.iter().enumerate() {
        match choose_signature(&task.model_spec, signatures, policy) {
            Ok((chosen, step)) => {
                found.steps.extend(step.map(|step| super::Step { index: Some(index), ..step }));
                if signature.is_none() {
                    checked_by = policy.for_signature(&chosen.name);
                    signature = Some(chosen);
                }
            }
            Err(problem) => found.problems.push(problem),
        }
    }
    if view.examples == 0 {
        let what = "Input is empty. Expected at least one tensorflow.Example";
        found.problems.push(Problem::new(Reason::NotAnExample, "", what));
    }
    let mode = raised.map_or(checked_by.mode, |raised| raised.max(checked_by.mode));
    found.verdict(signature, mode, checked_by)
}

/// The request with the signature names that the plan gives to its tasks.
pub fn apply_infer(message: &Rope, view: &InferView, plan: &Plan) -> Rope {
    let mut names: Vec<Option<&str>> = vec![None; view.tasks.len()];
    for step in &plan.steps {
        if let (Change::SignatureName { new, .. }, Some(name)) =
            (&step.change, step.index.and_then(|at| names.get_mut(at)))
        {
            *name = Some(new);
        }
    }
    view.rewrite(message, &names)
}
