//! Agreement of rows, warnings, and missing inputs: what is forwarded although it is doubtful.
use super::*;
use crate::repair::policy::{Literal, MissingInputs, RowAgreement, SmallInts, Unrepairable};

fn warnings(verdict: &Verdict) -> Vec<&str> {
    verdict.warnings.iter().map(|warning| warning.text.as_str()).collect()
}

fn reasons(verdict: &Verdict) -> Vec<&str> {
    verdict.problems.iter().map(|problem| problem.reason.as_str()).collect()
}

/// A ragged tensor: values and row splits.
const RAGGED: &str = "x:float[-1,11] x_1:int64[-1]";
/// One user for many items: the graph broadcasts.
const ONE_USER: &str = "movie_title:string[-1] user_id:string[-1] user_rating:float[-1]";

#[test]
fn a_conforming_request_is_forwarded_whatever_its_rows() {
    let cases = [
        (RAGGED, "x:float[5,11] x_1:int64[3]{0,3,5}", "rows differ: x 5, x_1 3"),
        (
            ONE_USER,
            "movie_title:string[3] user_id:string[1] user_rating:float[3]",
            "rows differ: user_id 1, movie_title 3, user_rating 3",
        ),
        ("ids:int64[-1] vals:float[-1]", "ids:int64[43] vals:float[58]", "rows differ: ids 43, vals 58"),
        ("a:float[-1] b:float[-1] c:float[]", "a:float[0] b:float[3] c:float[]", "rows differ: a 0, b 3"),
    ];
    for (signature, request, warning) in cases {
        for mode in [Mode::Observe, Mode::Repair, Mode::Strict] {
            let verdict = Case::new(signature, request).mode(mode).judge();
            assert_eq!(
                (verdict.action, verdict.outcome),
                (Action::Forward, Outcome::Conforming),
                "{request}"
            );
            assert_eq!(warnings(&verdict), [warning], "{mode} {request}");
            assert_eq!(verdict.warnings[0].reason, Reason::BatchMismatch);
            assert_eq!(verdict.plan, Plan::default());
        }
    }
}

#[test]
fn only_inputs_whose_rows_are_open_are_compared() {
    for (signature, request) in [
        (
            "values:float[-1] indices:int64[-1,2] dense_shape:int64[2]",
            "values:float[5] indices:int64[5,2] dense_shape:int64[2]",
        ),
        ("x:float[-1,2] scale:float[1,2]", "x:float[5,2] scale:float[1,2]"),
        ("x:float[-1,2] extra:float", "x:float[5,2] extra:float[3,9]"),
        ("x:float[-1,2] y:float[-1,3]", "x:float[5,2] y:float[5,3]"),
    ] {
        let verdict = Case::new(signature, request).judge();
        assert_eq!((verdict.outcome, warnings(&verdict)), (Outcome::Conforming, vec![]), "{request}");
    }
}

#[test]
fn other_repairs_of_a_request_whose_rows_differ_are_made() {
    let cases = [
        (
            RAGGED,
            "x:double[5,11] x_1:int32[3]{0,3,5}",
            "x;cast_round;double->float lossy x_1;cast_widen;int32->int64",
        ),
        (RAGGED, "serving_default_x:0:float[5,11] x_1:int64[3]", ""),
        (RAGGED, "x:float[5,11]@double_val x_1:int64[3]", "x;move_values;double_val->float_val lossy"),
        // Only row inputs could be misread.
        (
            "ids:int64[-1] vals:float[-1] on:bool[]",
            "ids:int64[4] vals:float[9] on:bool[1]",
            "on;scalar_shape;[1]->[]",
        ),
    ];
    for (signature, request, steps) in cases {
        let signature = match steps {
            "" => signature.replace("x:float", "x=serving_default_x:0:float"),
            _ => signature.to_owned(),
        };
        let case = Case::new(&signature, request);
        let verdict = case.judge();
        assert_eq!(verdict.action, Action::Apply, "{request}: {}", case.says());
        let steps = if steps.is_empty() { "x;rename_tensor_name;serving_default_x:0->x" } else { steps };
        assert_eq!(case.says(), steps);
        assert_eq!(verdict.warnings.len(), 1, "{request}");
        let again = case.judge_bytes(&case.applied());
        assert_eq!((again.outcome, warnings(&again)), (Outcome::Conforming, warnings(&verdict)));
    }
}

#[test]
fn no_shape_is_repaired_if_the_rows_would_then_differ() {
    let batch = "send every input with the same dimension 0)";
    let cases = [
        (
            "x:float[-1,128] y:float[-1]",
            "x:float[128,1] y:float[128]",
            "input 'x': dimension 1 is 1 in [128,1], expected 128 in [-1,128] (DIM_MISMATCH) | with the shapes repaired, the inputs would have different numbers of rows {x: 1, y: 128} (BATCH_MISMATCH; ",
        ),
        (
            "x:float[-1,3] k:int32[-1]",
            "x:double[3,3] k:int32[]",
            "input 'k': rank 0 [], expected rank 1 [-1] (RANK_TOO_LOW; send shape [1]) | with the shapes repaired, the inputs would have different numbers of rows {k: 1, x: 3} (BATCH_MISMATCH; ",
        ),
        (
            "x:float[-1,2] y:float[-1]",
            "x:float[-1,2]=6 y:float[4]",
            "input 'x': shape [-1,2], expected a size of at least 0 for every dimension (SHAPE_NOT_CONCRETE; send the real sizes) | with the shapes repaired, the inputs would have different numbers of rows {x: 3, y: 4} (BATCH_MISMATCH; ",
        ),
    ];
    for (signature, request, problems) in cases {
        for change in [Mode::Repair, Mode::Observe] {
            let case = Case::new(signature, request).mode(change);
            let verdict = case.judge();
            assert_eq!(case.says(), format!("{problems}{batch}"), "{request}");
            assert_eq!(warnings(&verdict), [""; 0]);
            assert!(verdict.plan.steps.iter().all(|step| step.rule.stage == Stage::Dtype), "{request}");
            let refused = change == Mode::Repair;
            assert_eq!(verdict.action == Action::Refuse, refused, "{request}");
        }
    }
    // The same shapes, where the rows agree.
    let case = Case::new("x:float[-1,128] y:float[-1]", "x:float[128,1] y:float[]");
    assert_eq!(case.says(), "x;column_vector;[128,1]->[1,128] y;add_batch_dim;[]->[1]");
    // `unrepairable: forward` sends what the client sent.
    let mut case = Case::new("x:float[-1,3] k:int32[-1]", "x:float[3,3] k:int32[]");
    case.policy.defaults.unrepairable = Unrepairable::Forward;
    assert_eq!(case.judge().action, Action::Forward);
}

#[test]
fn padded_rows_need_not_agree() {
    let mut case = Case::new("ids:int32[-1,8] splits:int64[-1]", "ids:int32[5,6] splits:int64[3]");
    case.policy.defaults.inputs.insert("ids".to_owned(), padded(None));
    let verdict = case.judge();
    assert_eq!((verdict.action, warnings(&verdict)), (Action::Apply, vec!["rows differ: ids 5, splits 3"]));
}

#[test]
fn row_agreement_refuse_refuses_rows_that_differ() {
    let mut case = Case::new("ids:int64[-1] vals:float[-1]", "ids:int64[43] vals:float[58]");
    case.policy.defaults.row_agreement = RowAgreement::Refuse;
    assert_eq!(
        case.says(),
        "the inputs have different numbers of rows {ids: 43, vals: 58} (BATCH_MISMATCH; send every input with the same dimension 0)"
    );
    for (mode, action) in
        [(Mode::Observe, Action::Forward), (Mode::Repair, Action::Refuse), (Mode::Strict, Action::Refuse)]
    {
        case.policy.defaults.mode = mode;
        let verdict = case.judge();
        assert_eq!((verdict.action, reasons(&verdict)), (action, vec!["BATCH_MISMATCH"]), "{mode}");
        assert_eq!(warnings(&verdict), [""; 0]);
    }
}

#[test]
fn an_explanation_lists_warnings() {
    let explained = |request: &str| {
        let case = Case::new(RAGGED, request);
        report::explain(&case.judge(), &PredictView::scan(&case.message).unwrap())
    };
    let text = explained("x:float[5,11] x_1:int64[3]");
    assert!(
        text.ends_with("  warning rows differ: x 5, x_1 3\nconforms: forwarded byte for byte\n"),
        "{text}"
    );
    let text = explained("x:uint8[5,11] x_1:int64[5]");
    assert!(
        text.contains("  warning input 'x': uint8 cast to float without scaling (INTEGER_FOR_FLOAT; "),
        "{text}"
    );
}

#[test]
fn a_request_with_problems_has_no_warnings() {
    for (signature, request) in [
        ("a:float[-1] b:float[-1] c:float[-1,2]", "a:float[2] b:float[3] c:float[2,3]"),
        ("a:float[-1,2] b:float[-1]", "a:uint8[1,2] b:string[1]"),
    ] {
        let verdict = Case::new(signature, request).judge();
        assert_eq!((verdict.action, warnings(&verdict)), (Action::Refuse, vec![]), "{request}");
    }
}

#[test]
fn of_many_inputs_the_odd_one_is_named_first() {
    let declared: Vec<String> = (0..300).map(|at| format!("feature_number_{at:03}:float[-1,1]")).collect();
    let rows = |at: usize| if at == 299 { 2 } else { 1 };
    let sent: Vec<String> =
        (0..300).map(|at| format!("feature_number_{at:03}:float[{},1]", rows(at))).collect();
    let mut case = Case::new(&declared.join(" "), &sent.join(" "));
    let verdict = case.judge();
    let text = warnings(&verdict)[0];
    assert!(text.starts_with("rows differ: feature_number_299 2, feature_number_000 1, "), "{text}");
    assert!(text.ends_with(", feature_number_006 1, 292 more") && text.len() < 256, "{text}");
    case.policy.defaults.row_agreement = RowAgreement::Refuse;
    let text = case.says();
    assert!(
        text.contains("{feature_number_299: 2, feature_number_000: 1, ") && text.contains(", 292 more}"),
        "{text}"
    );
}

#[test]
fn a_request_whose_rows_differ_is_not_split() {
    let split = |request: &str| {
        let mut case = Case::new("a:float[-1,2] b:float[-1] -> y:float[-1]", request);
        set(&mut case.policy.defaults, "split_oversize", true);
        case.policy.defaults.batching.max_rows = 2;
        let verdict = case.judge();
        (verdict.action, verdict.plan.calls, verdict.warnings.len())
    };
    let whole = Calls::Split { rows: 6, per_call: 2, whole: true };
    assert_eq!(split("a:float[6,2] b:float[6]"), (Action::Apply, whole, 0));
    assert_eq!(split("a:float[6,2] b:float[4]"), (Action::Forward, Calls::One, 1));
    // Neither is one whose other inputs have fixed rows.
    let mut case =
        Case::new("a:float[2,2] b:float[-1] c:float[-1] -> y:float[2]", "a:float[4,2] b:float[4] c:float[3]");
    set(&mut case.policy.defaults, "fan_out", true);
    assert_eq!((case.judge().action, case.judge().plan.calls), (Action::Refuse, Calls::One));
}

#[test]
fn a_default_has_no_rows_where_those_of_the_request_differ() {
    let steps = |request: &str| {
        let mut case = Case::new("a:float[-1] b:float[-1] w:float[-1]", request);
        let input = [(&rules::DEFAULT, Literal::Int(1).into())].into();
        case.policy.defaults.inputs.insert("w".to_owned(), input);
        case.says()
    };
    assert_eq!(steps("a:float[2] b:float[2]"), "w;input_defaults;->float[2]");
    assert_eq!(steps("a:float[2] b:float[3]"), "conforms");
}

#[test]
fn small_integers_become_floats_with_a_warning() {
    let text = |from: &str, to: &str| {
        format!(
            "input 'x': {from} cast to {to} without scaling (INTEGER_FOR_FLOAT; if the model takes scaled values, scale them, and send {to})"
        )
    };
    let judged =
        |from: &str, to: &str| Case::new(&format!("x:{to}[-1,4]"), &format!("x:{from}[1,4]")).judge();
    for from in ["int8", "uint8", "int16", "uint16"] {
        for to in ["half", "bfloat16", "float", "double"] {
            let verdict = judged(from, to);
            assert_eq!((verdict.action, warnings(&verdict)), (Action::Apply, vec![text(from, to).as_str()]));
            assert_eq!(
                (verdict.warnings[0].reason, verdict.warnings[0].input.as_str()),
                (Reason::IntegerForFloat, "x")
            );
        }
    }
    for (from, to) in [
        ("int32", "float"),
        ("int64", "double"),
        ("double", "float"),
        ("half", "float"),
        ("uint8", "int32"),
        ("uint8", "complex64"),
        ("float", "float"),
    ] {
        assert_eq!(warnings(&judged(from, to)), [""; 0], "{from} {to}");
    }
    // A PCM recording.
    let case = Case::new("input_2:float[-1,43844,1]", "input_2:int16[43844]");
    assert_eq!(case.says(), "input_2;cast_widen;int16->float input_2;insert_unit_dims;[43844]->[1,43844,1]");
    assert_eq!(case.judge().warnings.len(), 1);
    // In mode strict nothing is cast.
    let strict = Case::new("x:float[-1]", "x:uint8[1]").mode(Mode::Strict).judge();
    assert_eq!((reasons(&strict), warnings(&strict)), (vec!["DTYPE_MISMATCH"], vec![]));
}

#[test]
fn small_ints_can_be_allowed_or_refused() {
    let with = |small_ints: SmallInts, from: &str| {
        let mut case = Case::new("x:float[-1]", &format!("x:{from}[1]"));
        case.policy.defaults.small_ints = small_ints;
        (case.says(), case.judge().warnings.len())
    };
    assert_eq!(with(SmallInts::Allow, "uint8"), ("x;cast_widen;uint8->float".to_owned(), 0));
    assert_eq!(
        with(SmallInts::Refuse, "uint8"),
        ("input 'x': uint8 sent for float, which may have to be scaled (INTEGER_FOR_FLOAT; if the model takes scaled values, scale them; send float)".to_owned(), 0)
    );
    assert_eq!(with(SmallInts::Refuse, "int32"), ("x;cast_checked;int32->float".to_owned(), 0));
    let mut case = Case::new("x:half[-1]", "x:int16[1]{2049}");
    case.policy.defaults.small_ints = SmallInts::Refuse;
    assert!(case.says().contains("CAST_INEXACT"), "the value is wrong whatever the scale: {}", case.says());
}

#[test]
fn missing_inputs_are_forwarded_if_nothing_else_is_wrong() {
    use {Action::*, Outcome::*};
    let signature = "a:float[-1,2] b:float[-1]";
    let cases = [
        (Mode::Observe, "a:float[1,2]", (Forward, Passed, vec![])),
        (Mode::Repair, "a:float[1,2]", (Forward, Passed, vec![])),
        (Mode::Strict, "a:float[1,2]", (Forward, Passed, vec![])),
        (Mode::Repair, "a:double[2]", (Apply, Repaired, vec![])),
        (Mode::Strict, "a:double[2]", (Refuse, Rejected, vec!["DTYPE_MISMATCH", "RANK_TOO_LOW"])),
        (Mode::Repair, "a:float[1,3]", (Refuse, Rejected, vec!["INPUT_MISSING", "DIM_MISMATCH"])),
    ];
    for (mode, request, (action, outcome, problems)) in cases {
        let mut case = Case::new(signature, request).mode(mode);
        let verdict = case.judge();
        assert_eq!((verdict.action, verdict.outcome), (action, outcome), "{mode} {request}");
        assert_eq!(reasons(&verdict), problems, "{mode} {request}");
        if action != Refuse {
            let view = PredictView::scan(&case.message).unwrap();
            let sent = if action == Apply { case.applied() } else { case.message.clone() };
            let sent = PredictView::scan(&sent).unwrap();
            assert_eq!(sent.inputs.len(), view.inputs.len(), "nothing is invented");
        }
        case.policy.defaults.missing_inputs = MissingInputs::Refuse;
        let verdict = case.judge();
        assert_eq!(verdict.action == Refuse, mode != Mode::Observe, "{mode} {request}");
        assert_eq!(reasons(&verdict)[0], "INPUT_MISSING", "{mode} {request}");
    }
}

#[test]
fn strict_forwards_a_missing_input_rather_than_add_its_default() {
    let mut case = Case::new("a:float[-1,2] b:float[-1]", "a:float[1,2]").mode(Mode::Strict);
    let input = [(&rules::DEFAULT, Literal::Int(1).into())].into();
    case.policy.defaults.inputs.insert("b".to_owned(), input);
    let verdict = case.judge();
    assert_eq!((verdict.action, verdict.outcome), (Action::Forward, Outcome::Passed));
    assert_eq!(verdict.plan, Plan::default());
    case.policy.defaults.missing_inputs = MissingInputs::Refuse;
    assert_eq!(reasons(&case.judge()), ["INPUT_MISSING"]);
}
