//! Inputs that were not sent: the operator's defaults, and the masks of padded rows.
use super::descriptor::{Descriptor, Encoding};
use super::notation;
use super::pad::has_room;
use super::policy::{Limits, Literal, Policy};
use super::problem::Problem;
use super::rules::{DEFAULT, PAD, PAD_MASK};
use super::{AddedValues, Change, Propose, Reason, Stage, Step, ValueChange};
use crate::signature::{Signature, TensorInfo};

/// What a rule sees of an input that was not sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MissingCase<'a> {
    pub info: &'a TensorInfo,
    pub policy: &'a Policy,
    pub limits: Limits,
    /// Number of rows of the sent inputs after repair, if they have rows.
    pub rows: Option<i64>,
}

/// Turns `INPUT_MISSING` problems into steps if the policy says what to send.
pub(super) fn fill(
    signature: &Signature,
    policy: &Policy,
    limits: Limits,
    rows: Option<i64>,
    steps: &mut Vec<Step>,
    problems: &mut Vec<Problem>,
) {
    if problems.iter().all(|problem| problem.reason != Reason::InputMissing) {
        return;
    }
    let masks: Vec<(String, Step)> =
        steps.iter().filter_map(|step| mask(step, signature, policy, limits)).collect();
    problems.retain(|problem| {
        let info = signature.input(&problem.input).filter(|_| problem.reason == Reason::InputMissing);
        let Some(info) = info else { return true };
        if let Some((_, step)) = masks.iter().find(|(alias, _)| *alias == info.alias) {
            steps.push(Step { fixes: problem.clone(), ..step.clone() });
            return false;
        }
        for rule in policy.rules.of(Stage::Missing) {
            let Propose::Missing(propose) = rule.propose else { continue };
            let literal = policy.input(&info.alias).and_then(|input| input.literal(&DEFAULT).cloned());
            let descriptor = propose(&MissingCase { info, policy, limits, rows });
            let (Some(descriptor), Some(literal)) = (descriptor, literal) else { continue };
            if notation::element(descriptor.dtype, &literal).is_err() {
                continue;
            }
            let change = Change::Added { descriptor, values: AddedValues::Fill(literal) };
            let input = info.alias.clone();
            steps.push(Step { rule, input, index: None, change, fixes: problem.clone() });
            return false;
        }
        true
    });
}

/// The mask of an input that a step padded, if the policy names one and the signature has it.
fn mask(step: &Step, signature: &Signature, policy: &Policy, limits: Limits) -> Option<(String, Step)> {
    let Change::Tensor { before, after, values: Some(ValueChange::Pad(_)) } = &step.change else {
        return None;
    };
    let alias = policy.input(&step.input)?.section(&PAD)?.text(&PAD_MASK)?;
    let info = signature
        .input(alias)
        .filter(|info| info.shape.accepts(&after.shape) && info.shape.rank().is_some())?;
    // The encodings of 0 and 1 in a quantized dtype are unknown, and the mask may need more bytes
    // than the padded input.
    let has = |value| notation::element(info.dtype, &Literal::Int(value)).is_ok();
    let fits = |size| has_room(after.values, size, limits.max_elements);
    info.dtype.size().filter(|size| fits(*size) && has(0) && has(1))?;
    let (encoding, values) = (Encoding::Content, after.values);
    let descriptor =
        Descriptor { key: alias.to_owned(), dtype: info.dtype, shape: after.shape.clone(), encoding, values };
    let change = Change::Added { descriptor, values: AddedValues::Mask { sent: before.shape.clone() } };
    let step =
        Step { rule: step.rule, input: alias.to_owned(), index: None, change, fixes: step.fixes.clone() };
    Some((alias.to_owned(), step))
}
