//! No tensor value is in a text for operators, whatever the reason.
use std::collections::BTreeSet;

use super::*;
use crate::repair::transform::{Transform, Transforms};

/// In every value that the requests below send, and in nothing else of them.
const NUMBER: &str = "4321";
const TEXT: &str = "sesame";

/// Signature, request and policy: a tensor value is wrong in many ways, and the operator reads why.
const CASES: &[(&str, &str, Edit)] = &[
    ("x:float[-1,128]", "x:float[3]{4321,4321,4321}", nothing),
    ("x:float[-1,3]", "x:float[2,1,3,2]@float_val{4321}", nothing),
    ("x:float[-1,3]", "x:float[1,2]{4321,4321}", nothing),
    ("x:float[-1,2,3,4]", "x:float[1,3,2,5]@float_val{4321}", nothing),
    ("x:float[-1,-1,1]", "x:float[4,1]@float_val{4321}", nothing),
    ("x:float[-1,2]", "x:float[-1,2]@float_val{4321,4321}", nothing),
    ("a:float[-1] b:float[-1]", "a:float[2]{4321,4321} b:float[1]{4321}", |policy| {
        policy.row_agreement = policy::RowAgreement::Refuse;
    }),
    ("a:float[-1] b:float[-1]", "a:float[2]{4321,4321} b:float[1]{4321}", nothing),
    ("x:float[4,2]", "x:float[5,2]@float_val{4321}", nothing),
    ("x:float[-1]", "x:string[1]{sesame}", nothing),
    ("x:string[-1]", "x:double[1]{4321.5}", nothing),
    ("x:float[-1]", "x:int16[1]{4321}", |policy| policy.small_ints = policy::SmallInts::Refuse),
    ("x:float[-1]", "x:int16[1]{4321}", nothing),
    ("x:int8[-1]", "x:int32[1]{4321}", nothing),
    ("x:uint32[-1]", "x:int64[1]{-4321}", nothing),
    ("x:float[-1]", "x:double[2]{1,4321e300}", nothing),
    ("x:int32[-1]", "x:float[2]{1,4321.5}", |policy| set(policy, "integral_floats", true)),
    ("x:float[-1]", "x:int64[1]{4321000000000001}", nothing),
    ("x:float[]", "x:float[]@double_val{0.4321}", |policy| policy.round_f64 = false),
    ("x:float[1,2]", "x:float[1,2]{4321,4321,4321}", nothing),
    ("x:float[3]", "x:float[3]@float_val{4321,4321}", nothing),
    ("x:float[]", "x:float[]@double_val{4321}", |policy| {
        set(policy, "cast_round", false);
        set(policy, "cast_checked", false);
    }),
    ("x:string[-1]", "x:string[2]@tensor_content{sesame}", nothing),
    ("a:float[-1] b:float[-1]", "A1:float[1]{4321} b:float[1]{4321}", nothing),
    ("a:float[-1] b:float[-1]", "a:float[1]{4321} A:float[1]{4321} B:float[1]{4321}", nothing),
    ("a:float[-1] b:float[-1]", "a:float[1]{4321}", |policy| {
        policy.missing_inputs = policy::MissingInputs::Refuse;
    }),
    ("a:float[-1]", "a:float[1]{4321} c:float[1]{4321}", nothing),
    ("a:float[-1]", "@other a:float[1]{4321} b:float[1]{4321}", nothing),
    ("x:float[-1,2]", "x:float[2147483648,2147483648]@float_val{4321}", nothing),
    ("x:float[-1]", "x:float[268435456]@float_val{4321}", nothing),
    ("x:string[-1]", "x:string[1]{sesame}", |policy| {
        let declared = Transforms { list: vec![Transform::DecodeBase64], bound: None };
        let input = [(&TRANSFORM, RuleValue::Transforms(declared))].into();
        policy.inputs.insert("x".to_owned(), input);
    }),
    ("a=t:0:float[-1] b=t:0:float[-1]", "t:0:float[1]{4321}", nothing),
];

/// Reasons that no tensor causes: names, messages that are no requests, load.
const WITHOUT_TENSOR: &[Reason] = &[
    Reason::Ragged,
    Reason::OutputUnknown,
    Reason::ModelUnknown,
    Reason::NotAnExample,
    Reason::QueueFull,
    Reason::Deadline,
    Reason::Draining,
    Reason::UpstreamUnavailable,
    // Found by the comparison with the training data, whose tests hold it.
    Reason::FarOutOfRange,
    Reason::NotFinite,
    Reason::UnknownCategory,
    Reason::EmptyText,
    Reason::Shifted,
];

type Edit = fn(&mut Policy);

fn nothing(_: &mut Policy) {}

/// Everything in a verdict that is logged or shown on the status page.
fn public(verdict: &Verdict) -> Vec<String> {
    let steps = verdict.plan.steps.iter();
    let steps = steps.flat_map(|step| [report::repair_entry(step), step.fixes.to_string()]);
    let problems = verdict.problems.iter().map(ToString::to_string);
    steps.chain(problems).chain(verdict.warnings.iter().map(|warning| warning.text.clone())).collect()
}

#[test]
fn no_reason_shows_a_value_to_operators() {
    let mut found: BTreeSet<Reason> = WITHOUT_TENSOR.iter().copied().collect();
    let mut told = 0;
    for (signature, request, change) in CASES {
        for mode in [Mode::Observe, Mode::Repair, Mode::Strict] {
            let mut case = Case::new(signature, request).mode(mode);
            change(&mut case.policy.defaults);
            let verdict = case.judge();
            let texts = public(&verdict);
            assert!(!texts.is_empty(), "{request} conforms");
            for text in texts {
                assert!(!text.contains(NUMBER) && !text.contains(TEXT), "{request}: {text}");
            }
            found.extend(verdict.problems.iter().map(|problem| problem.reason));
            found.extend(verdict.warnings.iter().map(|warning| warning.reason));
            let problems = verdict.problems.iter();
            told += problems.filter(|problem| problem.for_client().to_string().contains(NUMBER)).count();
        }
    }
    let all: BTreeSet<Reason> = Reason::ALL.iter().copied().collect();
    let missing: Vec<&Reason> = all.difference(&found).collect();
    assert!(missing.is_empty(), "add a request for {missing:?}");
    // The client is told the value, so the texts above could have shown it.
    assert!(told > 10, "{told}");
}
