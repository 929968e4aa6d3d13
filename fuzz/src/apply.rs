//! Target `apply`: a repaired request needs no further repair, and everything else is unchanged.
use tfs_sidecar::repair::calls::{Calls, requests};
use tfs_sidecar::repair::policy::{MissingInputs, Mode};
use tfs_sidecar::repair::{
    Action, Change, Limits, ModelPolicy, Outcome, TRANSFORM, Verdict, apply as carry_out,
};
use tfs_sidecar::signature::Signatures;
use tfs_sidecar::wire::values::{self, Carrier};
use tfs_sidecar::wire::{InputView, PredictView, Rope};

use super::generate::Case;
use super::plan::{case, judged};
use super::{check, cut};

pub fn apply(data: &[u8]) {
    let Some(Case { signatures, mut policy, limits, message, cut: size, .. }) = case(data) else { return };
    policy.defaults.mode = Mode::Repair;
    let message = cut(&message, size);
    let Some(verdict) = judged(&message, &signatures, &policy, limits, None) else { return };
    if verdict.action != Action::Apply {
        return;
    }
    let view = PredictView::scan(&message).expect("it was judged");
    let after = carry_out(&message, &view, &verdict.plan).expect("what was planned can be done");
    let scanned = PredictView::scan(&after).expect("what was made scans");
    check::in_range(&scanned, after.len());
    // Transforms are made each time, so that what they made is judged without them.
    let mut policy = policy;
    policy.defaults.inputs.values_mut().for_each(|input| input.remove(&TRANSFORM));
    conforms(&after, &signatures, &policy, limits, &verdict);
    rest_is_kept(&message, &view, &after, &scanned, &verdict);
    calls(&after, &signatures, &policy, limits, &verdict);
}

/// The repaired request conforms, except for rows, which are not changed in the request itself.
fn conforms(after: &Rope, signatures: &Signatures, policy: &ModelPolicy, limits: Limits, before: &Verdict) {
    let again = judged(after, signatures, policy, limits, None).expect("what was made scans");
    assert_eq!(again.plan.calls, before.plan.calls, "{before:?}\n{again:?}");
    if again.plan.calls == Calls::One {
        // Missing inputs are not a problem if they are forwarded.
        let passed =
            policy.defaults.missing_inputs == MissingInputs::Forward && again.outcome == Outcome::Passed;
        assert!(again.outcome == Outcome::Conforming || passed, "{before:?}\n{again:?}");
    }
    let only_rows = again.plan.steps.iter().all(|step| matches!(step.change, Change::Rows { .. }));
    assert!(only_rows, "{before:?}\n{again:?}");
}

/// Inputs without steps keep their bytes, and values that no step changes keep their elements.
fn rest_is_kept(message: &Rope, view: &PredictView, after: &Rope, scanned: &PredictView, verdict: &Verdict) {
    let steps = &verdict.plan.steps;
    let (mut dropped, mut added) = (0, 0);
    for step in steps {
        dropped += usize::from(matches!(step.change, Change::Dropped { .. }));
        added += usize::from(matches!(step.change, Change::Added { .. }));
    }
    assert_eq!(scanned.inputs.len(), view.inputs.len() - dropped + added, "{verdict:?}");
    assert_eq!(scanned.output_filter, view.output_filter);
    for (index, input) in view.inputs.iter().enumerate() {
        let own: Vec<_> = steps.iter().filter(|step| step.index == Some(index)).collect();
        if own.is_empty() {
            let kept = scanned.input(&input.key).expect("an input that no step names stays");
            assert_eq!(after.slice(kept.entry.clone()), message.slice(input.entry.clone()));
            continue;
        }
        if own.iter().any(|step| matches!(step.change, Change::Dropped { .. })) {
            continue;
        }
        let values_change = own.iter().any(|step| matches!(&step.change, Change::Tensor { before, after, values } if values.is_some() || before.dtype != after.dtype));
        let key = own.iter().rev().find_map(|step| match &step.change {
            Change::Key { new, .. } => Some(new.as_str()),
            _ => None,
        });
        let made = scanned.input(key.unwrap_or(&input.key)).expect("a repaired input is there");
        if !values_change {
            for carrier in carriers(input) {
                assert_eq!(elements(after, made, carrier), elements(message, input, carrier));
            }
        }
    }
}

fn carriers(input: &InputView) -> Vec<Carrier> {
    let size = input.tensor.dtype.size().unwrap_or(1);
    let lists = input.tensor.lists().into_iter().map(|(list, _)| Carrier::List(list));
    std::iter::once(Carrier::Content { size }).chain(lists).collect()
}

fn elements(message: &Rope, input: &InputView, carrier: Carrier) -> Vec<u8> {
    let mut all = Vec::new();
    values::read::<()>(message, &input.tensor, carrier, &mut |block| {
        all.extend_from_slice(block);
        Ok(())
    })
    .expect("values that were planned with can be read");
    all
}

/// Each call of a split request conforms.
fn calls(after: &Rope, signatures: &Signatures, policy: &ModelPolicy, limits: Limits, verdict: &Verdict) {
    let few = match verdict.plan.calls {
        Calls::One => return,
        Calls::Split { rows, per_call, .. } => rows / per_call <= 64,
        Calls::Pad { .. } => true,
    };
    if !few {
        return;
    }
    let made = requests(after, verdict.plan.calls);
    let Ok(made) = made else { return };
    for (call, _) in made {
        let again = judged(&call, signatures, policy, limits, None).expect("a call scans");
        assert_eq!(again.plan.calls, Calls::One, "{verdict:?}\n{again:?}");
        assert!(again.plan.steps.is_empty(), "{verdict:?}\n{again:?}");
    }
}
