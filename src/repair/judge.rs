//! The decision on one request: the repairs it needs, its problems, and what to do about them.
use std::sync::Arc;

use smallvec::SmallVec;

use super::policy::{Limits, MissingInputs, Mode, ModelPolicy, Policy, Unrepairable};
use super::problem::{Problem, Weight};
use super::reason::Reason;
use super::rows::{self, Rows};
use super::rules::RENAME_MODEL;
use super::text::TextFindings;
use super::warning::Warning;
use super::{
    Change, Plan, Propose, REPAIRS, Stage, Step, Tier, calls, encoding, hints, missing, names, tensor,
};
use crate::signature::{Signature, Signatures};
use crate::tensor::Shape;
use crate::wire::{InputView, ModelSpec, PredictView, Rope, VersionChoice};

/// Everything that the decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub message: &'a Rope,
    pub view: &'a PredictView,
    pub signatures: &'a Signatures,
    pub policy: &'a ModelPolicy,
    pub limits: Limits,
    /// The mode that the client requested; it can only raise the policy's mode.
    pub raised: Option<Mode>,
    /// What was found in the text that the message was made of, if it was a text.
    pub text: Option<&'a TextFindings>,
}

/// What to do with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send the request unchanged.
    Forward,
    /// Send the result of [`apply`](super::apply()).
    Apply,
    /// Reply with the problems.
    Refuse,
}

/// How the request is counted in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Conforming,
    Repaired,
    Rejected,
    /// Mode `observe`: mode `repair` would have repaired it.
    WouldRepair,
    /// Mode `observe`: mode `repair` would have rejected it.
    WouldReject,
    /// Not checked, or forwarded although it does not conform.
    Passed,
}

/// The decision and the reasons for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The signature that the request was checked against; `None` if it does not exist.
    pub signature: Option<Arc<Signature>>,
    pub mode: Mode,
    /// The steps that make the request conform, as far as rules can; executed only for
    /// [`Action::Apply`].
    pub plan: Plan,
    /// The problems that no rule fixes, in the order of the stages. In mode `strict` also the
    /// problems that rules would have fixed.
    pub problems: Vec<Problem>,
    /// Doubts about a request that has no problems; empty if it has any.
    pub warnings: Vec<Warning>,
    pub action: Action,
    pub outcome: Outcome,
}

/// Decides on a Predict request.
pub fn judge(request: &Request<'_>) -> Verdict {
    let chosen = choose_signature(&request.view.model_spec, request.signatures, request.policy);
    let name = match &chosen {
        Ok((signature, _)) => signature.name.as_str(),
        Err(_) => request.view.model_spec.effective_signature(),
    };
    let policy = request.policy.for_signature(name);
    let mode = request.raised.map_or(policy.mode, |raised| raised.max(policy.mode));
    let mut found = Found::default();
    let signature = match chosen {
        _ if mode == Mode::Off => None,
        Ok((signature, step)) => {
            found.steps.extend(renamed(&request.view.model_spec));
            found.steps.extend(step);
            inspect(request, &signature, policy, mode, &mut found);
            Some(signature)
        }
        Err(mut problem) => {
            if problem.hint.is_empty() {
                problem.hint = hints::signature(request.view, request.signatures).unwrap_or_default();
            }
            found.problems.push(problem);
            None
        }
    };
    found.verdict(signature, mode, policy)
}

/// Bytes of the inputs whose values [`judge`] may have to read, because they are not encoded as the
/// signature declares them, or are transformed. The work on all other inputs does not depend on
/// their size.
pub fn unlike(view: &PredictView, signatures: &Signatures, policy: &ModelPolicy) -> usize {
    let signature = signatures.get(view.model_spec.effective_signature());
    let policy = policy.for_signature(view.model_spec.effective_signature());
    let is_transformed = |alias: &str| policy.input(alias).is_some_and(|own| own.transforms().is_some());
    let is_like = |input: &&InputView| {
        let info = signature.and_then(|signature| signature.input(&input.key));
        info.is_some_and(|info| encoding::is_plain(&input.tensor, info.dtype) && !is_transformed(&info.alias))
    };
    view.inputs.iter().filter(|input| !is_like(input)).map(|input| input.entry.len()).sum()
}

/// The step that gives the model another name, if the configuration renames it.
pub(super) fn renamed(spec: &ModelSpec) -> Option<Step> {
    let old = spec.renamed_from.as_deref()?.to_owned();
    let new = spec.name.clone();
    let fixes = Problem::new(Reason::NotTransformed, "", "the configuration declares `rename_model`");
    let change = Change::ModelName { old, new };
    Some(Step { rule: &RENAME_MODEL, input: String::new(), index: None, change, fixes })
}

/// The signature that a request for one of this name is judged by, after the rules of the policy.
pub fn signature_of(name: &str, signatures: &Signatures, policy: &ModelPolicy) -> Option<Arc<Signature>> {
    let spec = ModelSpec::of(String::new(), VersionChoice::Latest).for_signature(name);
    choose_signature(&spec, signatures, policy).ok().map(|(signature, _)| signature)
}

/// The signature that the request means, with the step that renames it if the names differ.
pub(super) fn choose_signature(
    spec: &ModelSpec,
    signatures: &Signatures,
    policy: &ModelPolicy,
) -> Result<(Arc<Signature>, Option<Step>), Problem> {
    let requested = spec.effective_signature();
    if let Some(signature) = signatures.get(requested) {
        return Ok((signature.clone(), None));
    }
    // TF Serving's own text comes first: clients and dashboards may search for it.
    let what =
        format!("Serving signature key \"{requested}\" not found; the model has {}", hints::list(signatures));
    let known = signatures.servable().map(|signature| signature.name.as_str());
    let hint = hints::did_you_mean(requested, known).unwrap_or_default();
    let problem = Problem::new(Reason::SignatureUnknown, "", what).hint(hint);
    for rule in REPAIRS.iter().copied().filter(|rule| rule.stage == Stage::Signature) {
        let Propose::Signature(propose) = rule.propose else { continue };
        let Some(signature) = propose(signatures).and_then(|name| signatures.get(&name)) else { continue };
        if policy.for_signature(&signature.name).rules.contains(rule) {
            let change =
                Change::SignatureName { old: spec.signature_name.clone(), new: signature.name.clone() };
            let step = Step { rule, input: String::new(), index: None, change, fixes: problem };
            return Ok((signature.clone(), Some(step)));
        }
    }
    Err(problem)
}

fn inspect(request: &Request<'_>, signature: &Signature, policy: &Policy, mode: Mode, found: &mut Found) {
    let limits = request.limits;
    check_outputs(&request.view.output_filter, signature, request.signatures, &mut found.problems);
    let names = names::bind(request.message, request.view, signature, request.signatures, policy, limits);
    found.steps.extend(names.steps);
    found.problems.extend(names.problems);
    let mut shapes: Vec<(&crate::signature::TensorInfo, Shape)> = Vec::with_capacity(names.bound.len());
    for &(index, info) in &names.bound {
        let plan = tensor::plan(request.message, &request.view.inputs[index], index, info, policy, limits);
        found.steps.extend(plan.steps);
        found.problems.extend(plan.problems);
        found.warnings.extend(plan.warnings);
        shapes.push((info, plan.descriptor.shape));
    }
    let rows = Rows::of(&shapes);
    if rows == Rows::Differ {
        let Found { steps, problems, warnings, .. } = found;
        rows::disagree(signature, policy, &shapes, steps, problems, warnings);
    }
    missing::fill(signature, policy, limits, rows.common(), &mut found.steps, &mut found.problems);
    // Added inputs have as many rows as the others and are split into calls with them.
    for step in &found.steps {
        if let Change::Added { descriptor, .. } = &step.change
            && let Some(info) = signature.input(&step.input)
        {
            shapes.push((info, descriptor.shape.clone()));
        }
    }
    let shapes: SmallVec<[_; 4]> = shapes.iter().map(|(info, shape)| (*info, shape)).collect();
    rows::check_not_empty(limits, &shapes, &mut found.problems);
    let (steps, problems) = (&mut found.steps, &mut found.problems);
    let rules = calls::rules(policy, mode, &shapes);
    let filter = &request.view.output_filter;
    found.calls = calls::plan(signature, policy, rules, limits, filter, &shapes, steps, problems);
    hints::add(&mut found.problems, signature, request, &names.bound);
    if let Some(text) = request.text {
        TextFindings::forgive_empty(request.view, &mut found.problems);
        text.keep_rows(signature, &mut found.steps, &mut found.problems);
        found.steps.splice(0..0, text.steps.iter().cloned());
        found.problems.extend(text.problems.iter().cloned());
        found.warnings.extend(text.warnings.iter().cloned());
    }
}

fn check_outputs(
    filter: &[String],
    signature: &Signature,
    signatures: &Signatures,
    problems: &mut Vec<Problem>,
) {
    let mut seen = vec![false; if filter.is_empty() { 0 } else { signature.outputs.len() }];
    for name in filter {
        let Some(at) = signature.output_index(name) else {
            let known: Vec<&str> = signature.outputs.iter().map(|info| info.alias.as_str()).collect();
            let what = format!(
                "output tensor alias not found in signature: {name} Outputs expected to be in the set {{{}}}.",
                known.join(",")
            );
            let hint = hints::output(name, signature, signatures).unwrap_or_default();
            problems.push(Problem::new(Reason::OutputUnknown, "", what).hint(hint));
            if problems.len() > MAX_OUTPUT_PROBLEMS {
                return;
            }
            continue;
        };
        if std::mem::replace(&mut seen[at], true) {
            problems.push(Problem::new(
                Reason::OutputUnknown,
                "",
                format!("duplicate output tensor alias: {name}"),
            ));
        }
        if problems.len() > MAX_OUTPUT_PROBLEMS {
            return;
        }
    }
}

/// Nobody reads more than this, and a hostile filter could name thousands.
const MAX_OUTPUT_PROBLEMS: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) steps: Vec<Step>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
    pub(super) calls: calls::Calls,
}

impl Found {
    /// Refuses every wrong rank, even if a repair would have fixed it: the request would go out as
    /// it was sent. With oneDNN on, a convolution whose input has rank 2 or 3 aborts the whole
    /// server (seen with TensorFlow 2.21).
    fn shield_ranks(&mut self) {
        let is_rank = |problem: &Problem| {
            matches!(problem.reason, Reason::RankTooLow | Reason::RankTooHigh | Reason::ShapeAmbiguous)
        };
        for problem in self.problems.iter_mut().filter(|problem| is_rank(problem)) {
            problem.weight = Weight::Shield;
        }
        let repairable = self.steps.iter().filter(|step| is_rank(&step.fixes));
        let repairable = repairable.map(|step| hints::of_step(step).weight(Weight::Shield));
        self.problems.splice(0..0, repairable);
        self.problems.sort_by_key(|problem| problem.reason.stage());
    }

    /// The verdict that the mode makes of the findings.
    pub(super) fn verdict(
        mut self,
        signature: Option<Arc<Signature>>,
        mode: Mode,
        policy: &Policy,
    ) -> Verdict {
        self.problems.sort_by_key(|problem| problem.reason.stage());
        let mut lacks_inputs = forgive_missing(policy, &mut self.problems);
        let unchanged = match mode {
            Mode::Off | Mode::Observe => true,
            Mode::Repair => !self.problems.is_empty() && policy.unrepairable == Unrepairable::Forward,
            Mode::Strict => false,
        };
        if policy.shield_ranks && unchanged {
            self.shield_ranks();
        }
        if mode == Mode::Strict {
            // What the operator declares is no mistake of the client.
            let repairs = self.steps.iter().filter(|step| step.rule.tier != Tier::Three);
            self.problems.splice(0..0, repairs.map(hints::of_step));
            self.problems.sort_by_key(|problem| problem.reason.stage());
            // No default is added in this mode, so an input that has one is missing too.
            if forgive_missing(policy, &mut self.problems) {
                lacks_inputs = true;
                self.steps.retain(|step| step.rule.tier == Tier::Three);
            }
        }
        if !self.problems.is_empty() {
            self.warnings.clear();
        }
        let clean = self.steps.is_empty() && self.problems.is_empty();
        let shielded = self.problems.iter().any(|problem| problem.weight == Weight::Shield);
        let (action, outcome) = match mode {
            Mode::Off => (Action::Forward, Outcome::Passed),
            _ if clean && lacks_inputs => (Action::Forward, Outcome::Passed),
            _ if clean => (Action::Forward, Outcome::Conforming),
            _ if shielded => (Action::Refuse, Outcome::Rejected),
            Mode::Observe if self.problems.is_empty() => (Action::Forward, Outcome::WouldRepair),
            Mode::Repair | Mode::Strict if self.problems.is_empty() => (Action::Apply, Outcome::Repaired),
            Mode::Observe | Mode::Repair if policy.unrepairable == Unrepairable::Forward => {
                (Action::Forward, Outcome::Passed)
            }
            Mode::Observe => (Action::Forward, Outcome::WouldReject),
            Mode::Repair | Mode::Strict => (Action::Refuse, Outcome::Rejected),
        };
        Verdict {
            signature,
            mode,
            plan: Plan { steps: self.steps, calls: self.calls },
            problems: self.problems,
            warnings: self.warnings,
            action,
            outcome,
        }
    }
}

/// Drops the problems if missing inputs are the only ones and the policy leaves those to TF
/// Serving, which may know defaults for them. Returns whether it did.
fn forgive_missing(policy: &Policy, problems: &mut Vec<Problem>) -> bool {
    let forgiven = policy.missing_inputs == MissingInputs::Forward
        && !problems.is_empty()
        && problems.iter().all(|problem| problem.reason == Reason::InputMissing);
    if forgiven {
        problems.clear();
    }
    forgiven
}
