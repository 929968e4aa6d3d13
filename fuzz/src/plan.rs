//! Target `plan`: judges any request with any signature and policy. There is no panic, chunk
//! boundaries do not matter, and each mode acts as documented.
use tfs_sidecar::repair::{
    Action, Limits, Mode, ModelPolicy, Outcome, Policy, REPAIRS, Repair, Request, Tier, Verdict, judge,
    report,
};
use tfs_sidecar::signature::Signatures;
use tfs_sidecar::wire::{PredictView, Rope};

use super::choices::Choices;
use super::generate::{self, Case};
use super::{cut, world};

pub fn plan(data: &[u8]) {
    let Some(case) = case(data) else { return };
    let whole = cut(&case.message, case.message.len());
    let verdict = judged(&whole, &case.signatures, &case.policy, case.limits, case.raised);
    for size in [1, case.cut] {
        let chunks = cut(&case.message, size);
        let again = judged(&chunks, &case.signatures, &case.policy, case.limits, case.raised);
        assert_eq!(again, verdict, "chunk boundaries change the verdict");
    }
    let modes = Mode::ALL.map(|mode| {
        let mut policy = case.policy.clone();
        policy.defaults.mode = mode;
        judged(&whole, &case.signatures, &policy, case.limits, None)
    });
    let [Some(off), Some(observe), Some(repair), Some(strict)] = modes else { return };
    assert_eq!((off.action, off.outcome), (Action::Forward, Outcome::Passed));
    assert!(observe.action != Action::Apply && strict.action != Action::Apply);
    // What only lacks inputs is forwarded in mode strict, without the defaults of the policy.
    let lacks_inputs = strict.outcome == Outcome::Passed;
    assert!(repair.plan == strict.plan || (lacks_inputs && strict.plan.is_empty()));
    assert_eq!(repair.action == Action::Apply, repair.outcome == Outcome::Repaired);
    // Mode observe counts what mode repair does, and refuses only what every mode refuses.
    let counted = match repair.outcome {
        Outcome::Repaired => Outcome::WouldRepair,
        Outcome::Rejected if observe.action == Action::Forward => Outcome::WouldReject,
        same => same,
    };
    assert_eq!(
        (observe.outcome, &observe.plan, &observe.problems),
        (counted, &repair.plan, &repair.problems)
    );
    // Whether a request conforms does not depend on the mode.
    assert_eq!(strict.outcome == Outcome::Conforming, repair.outcome == Outcome::Conforming);
    // Warnings do not depend on the mode either, as far as nothing is cast.
    if repair.outcome == Outcome::Conforming {
        assert!(repair.warnings == strict.warnings && repair.warnings == observe.warnings);
    }
    // What is declared is no mistake of the client.
    let repairs = repair.plan.steps.iter().filter(|step| step.rule.tier != Tier::Three).count();
    if repair.outcome == Outcome::Repaired && repairs > 0 && !lacks_inputs {
        assert_eq!((strict.action, strict.outcome), (Action::Refuse, Outcome::Rejected));
        assert!(strict.problems.len() >= repairs);
    } else if repair.outcome == Outcome::Repaired && repairs == 0 {
        assert_eq!((strict.action, &strict.plan), (Action::Apply, &repair.plan));
    }
}

/// The case that the bytes encode.
pub fn case(data: &[u8]) -> Option<Case> {
    let (kind, rest) = data.split_first()?;
    if kind & 1 == 1 {
        return Some(generate::case(Choices::new(rest)));
    }
    let [model, rules, cut, message @ ..] = rest else { return None };
    let mut policy = Policy::default();
    for rule in REPAIRS.iter().filter(|rule| rule.tier == Tier::Two) {
        if rules & 1 == 1 {
            policy.rules.set(rule, true);
        }
    }
    if let Some(rule) = Repair::find("batch_first") {
        policy.rules.set(rule, rules & 2 == 0);
    }
    policy.round_f64 = rules & 4 == 0;
    let limits = Limits { max_elements: 1 << 20, refuse_zero_rows: rules & 8 != 0, ..Limits::default() };
    policy.batching.max_rows = u64::from(rules >> 4 & 1);
    Some(Case {
        signatures: world::signatures(*model as usize).clone(),
        policy: ModelPolicy { defaults: policy, ..ModelPolicy::default() },
        limits,
        raised: None,
        message: message.to_vec(),
        cut: *cut as usize,
    })
}

/// The verdict on a message, after checking that all texts can be rendered. `None` if the message
/// is invalid.
pub fn judged(
    message: &Rope,

    signatures: &Signatures,
    policy: &ModelPolicy,
    limits: Limits,
    raised: Option<Mode>,
) -> Option<Verdict> {
    // Without a model spec there is no signature. Such requests are refused before they are judged.
    let view = PredictView::scan(message).ok().filter(|view| view.model_spec.present)?;
    let verdict = judge(&Request { message, view: &view, signatures, policy, limits, raised, text: None });
    let is_line = |text: &str| text.chars().all(|char| (' '..='~').contains(&char));
    for reader in [report::Reader::Client, report::Reader::Operator] {
        let (model, signature) = (&view.model_spec.name, view.model_spec.effective_signature());
        assert!(is_line(&report::refusal(model, signature, &verdict.problems, reader)));
    }
    for step in &verdict.plan.steps {
        assert!(is_line(&report::repair_entry(step)), "{step:?}");
    }
    assert!(verdict.warnings.iter().all(|warning| is_line(&warning.text)));
    assert!(verdict.warnings.is_empty() || verdict.problems.is_empty());
    assert!(report::explain(&verdict, &view).lines().all(is_line));
    assert!(verdict.action != Action::Refuse || !verdict.problems.is_empty());
    Some(verdict)
}
