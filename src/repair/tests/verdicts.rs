//! Verdicts, case by case: signature, request, and the resulting steps or problems.
use super::*;

#[test]
fn rules_have_unique_names_and_are_found_by_them() {
    for (at, rule) in REPAIRS.iter().enumerate() {
        assert_eq!(Repair::find(rule.name), Some(*rule));
        assert!(REPAIRS[..at].iter().all(|other| other.name != rule.name), "{}", rule.name);
    }
}

#[test]
fn each_request_gets_the_expected_steps_or_problems() {
    let cases = [
        ("x:float[-1,128]", "x:float[1,128]", "conforms"),
        ("x:float[-1,128]", "x:float[128]", "x;add_batch_dim;[128]->[1,128]"),
        (
            "x:float[-1,128]",
            "x:double[128]",
            "x;cast_round;double->float lossy x;add_batch_dim;[128]->[1,128]",
        ),
        ("x:float[-1,128]", "x:float[128,1]", "x;column_vector;[128,1]->[1,128]"),
        (
            "x:float[-1,128]",
            "x:float[127]",
            "input 'x': rank 1 [127], expected rank 2 [-1,128] (RANK_TOO_LOW; 127 values are not a whole number of rows of 128)",
        ),
        (
            "x:float[-1,128]",
            "x:float[1,127]",
            "input 'x': dimension 1 is 127 in [1,127], expected 128 in [-1,128] (DIM_MISMATCH)",
        ),
        ("x:float[-1,-1]", "x:float[7]", "x;batch_first;[7]->[1,7]"),
        (
            "x:float[-1,-1,1]",
            "x:float[4,1]",
            "input 'x': shape [4,1] could mean [1,4,1] or [4,1,1] for [-1,-1,1] (SHAPE_AMBIGUOUS; send the shape you mean)",
        ),
        ("x:int64[1]", "x:int64[]", "x;scalar_shape;[]->[1]"),
        ("x:string[-1]", "x:string[]", "x;add_batch_dim;[]->[1]"),
        ("x:string[-1,-1]", "x:string[1]", "x;add_batch_dim;[1]->[1,1]"),
        (
            "x:float[4,16]",
            "x:float[5,16]",
            "input 'x': 5 rows in [5,16], expected exactly 4 in [4,16] (STATIC_BATCH; the model was exported for batches of 4)",
        ),
        (
            "x:float[-1,2,3,4]",
            "x:float[1,3,2,5]",
            "input 'x': shape [1,3,2,5], expected [-1,2,3,4] (SHAPE_MISMATCH)",
        ),
        ("x:float", "x:float[3,9]", "conforms"),
        ("x:float", "x:double[3]", "input 'x': dtype double, expected float (DTYPE_MISMATCH; send float)"),
        (
            "x:float[-1,2]",
            "x:string[1,2]",
            "input 'x': dtype string, expected float (DTYPE_MISMATCH; this input takes numbers: decode, tokenize or parse the bytes first)",
        ),
        (
            "x:int32[-1]",
            "x:int64[2]{7,3000000000}",
            "input 'x': value 3000000000 at index 1 is out of range for int32 (CAST_OUT_OF_RANGE)",
        ),
        (
            "x:uint32[-1]",
            "x:int64[1]{-1}",
            "input 'x': value -1 at index 0 is out of range for uint32 (CAST_OUT_OF_RANGE)",
        ),
        (
            "x:float[-1]",
            "x:int32[1]{16777217}",
            "input 'x': value 16777217 at index 0 cannot be represented exactly in float (CAST_INEXACT; the operator can switch on `round_ints`)",
        ),
        (
            "x:float[-1]",
            "x:double[1]{1e300}",
            "input 'x': value 1e300 at index 0 is out of range for float (CAST_OUT_OF_RANGE)",
        ),
        ("x:float[-1,2]", "x:float[-1,2]=6", "x;infer_dim;[-1,2]->[3,2]"),
        (
            "x:float[-1,2]",
            "x:float[-1,2]=5",
            "input 'x': shape [-1,2], expected a size of at least 0 for every dimension (SHAPE_NOT_CONCRETE; send the real sizes)",
        ),
        (
            "x:float[-1,2]",
            "x:float[2,2]=3",
            "input 'x': 12 bytes in tensor_content, expected 16 for [2,2] of float (4 bytes each) (CONTENT_SIZE; that is 3 values)",
        ),
        ("x:float[-1,2]", "x:float[2,2]@float_val=1", "conforms"),
        (
            "x:float[-1,2]",
            "x:float[2,2]@float_val=3",
            "input 'x': 3 value(s) in float_val, expected 4 for [2,2] (VALUE_COUNT; TensorFlow would repeat the last one)",
        ),
        (
            "x:float[-1,2]",
            "x:float[2,2]@float_val=5",
            "input 'x': 5 value(s) in float_val, expected 4 for [2,2] (VALUE_COUNT; TensorFlow would drop the rest)",
        ),
        (
            "x:float[-1,2]",
            "x:float[2,2]=0",
            "input 'x': 0 value(s) in float_val, expected 4 for [2,2] (VALUE_COUNT; TensorFlow would read zeros)",
        ),
        ("x:float[-1,2]", "x:float[1,2]@int_val", "x;move_values;int_val->float_val"),
        ("x:float[-1,2]", "x:float[1,2]@double_val{0.1,1}", "x;move_values;double_val->float_val lossy"),
        (
            "x:float[-1,2]",
            "x:double[1,2]@float_val",
            "x;move_values;float_val->double_val x;cast_round;double->float lossy",
        ),
        (
            "x:float[-1,2]",
            "x:half[1,2]@float_val",
            "x;move_values;float_val->half_val x;cast_widen;half->float",
        ),
        (
            "x:int32[-1]",
            "x:int8[1]@int_val{200}",
            "input 'x': value 200 at index 0 is out of range for int8 (CAST_OUT_OF_RANGE)",
        ),
        ("a:float[-1,2] b:float[-1]", "a:float[2,2] b:float[3]", "conforms"),
        ("a:float[-1,2] b:float[]", "a:float[2,2] b:float[]", "conforms"),
        (
            "a:float[-1] b:float[-1]",
            "a:float[2] c:float[2]",
            "input 'c': no such input, the signature takes 'a', 'b' (NAME_UNKNOWN) | input 'b': not sent, the signature takes 'a', 'b' (INPUT_MISSING)",
        ),
        (
            "a:float[-1] b:float[-1]",
            "a:float[2] b:float[2] c:float[2]",
            "input 'c': no such input, the signature takes 'a', 'b' (INPUT_EXTRA)",
        ),
        ("a:float[-1] b:float[-1]", "a:float[2]", "conforms"),
        (
            "a:float[-1,2]",
            "z:float[3]",
            "input 'z': no such input, the signature takes 'a' (NAME_UNKNOWN) | input 'a': rank 1 [3], expected rank 2 [-1,2] (RANK_TOO_LOW; 3 values are not a whole number of rows of 2)",
        ),
        (
            "a:float[-1,2]",
            "z:double[2]",
            "a;rename_single;z->a a;cast_round;double->float lossy a;add_batch_dim;[2]->[1,2]",
        ),
        (
            "x:float[-1,2]",
            "x:float[2147483648,2147483648]@float_val=1",
            "input 'x': shape [2147483648,2147483648] has more elements than any tensor (MALFORMED) | input 'x': dimension 1 is 2147483648 in [2147483648,2147483648], expected 2 in [-1,2] (DIM_MISMATCH)",
        ),
        (
            "x:float[-1]",
            "x:float[268435456]@float_val=1",
            "input 'x': 1 value(s) for the 268435456 elements of [268435456]: 1024 MiB that the message does not carry (TOO_LARGE; send all values; a tensor that is filled may take 256 MiB (`limits.max_fill_bytes`))",
        ),
        (
            "x:float[-1]",
            "x:float[268435457]=0",
            "input 'x': 0 value(s) for the 268435457 elements of [268435457]: 1024 MiB that the message does not carry (TOO_LARGE; send all values; a tensor that is filled may take 256 MiB (`limits.max_fill_bytes`))",
        ),
    ];
    for (signature, request, expected) in cases {
        assert_eq!(Case::new(signature, request).says(), expected, "{signature} <- {request}");
    }
}

#[test]
fn the_mode_decides_what_happens_to_a_request() {
    use {Action::*, Outcome::*};
    let conforming = ("x:float[-1,2]", "x:float[1,2]");
    let repairable = ("x:float[-1,2]", "x:float[2]");
    let wrong = ("x:float[-1,2]", "x:float[3]");
    let short = ("x:float[-1,2]", "x:float[2,2]@float_val=3");
    let missing = ("x:float[-1,2] y:float[-1]", "x:float[1,2]");
    let cases = [
        (Mode::Off, conforming, (Forward, Passed)),
        (Mode::Off, wrong, (Forward, Passed)),
        (Mode::Observe, conforming, (Forward, Conforming)),
        (Mode::Observe, repairable, (Forward, WouldRepair)),
        (Mode::Observe, wrong, (Forward, WouldReject)),
        (Mode::Observe, short, (Forward, WouldReject)),
        (Mode::Observe, missing, (Forward, Passed)),
        (Mode::Repair, conforming, (Forward, Conforming)),
        (Mode::Repair, repairable, (Apply, Repaired)),
        (Mode::Repair, wrong, (Refuse, Rejected)),
        (Mode::Repair, short, (Refuse, Rejected)),
        (Mode::Repair, missing, (Forward, Passed)),
        (Mode::Strict, conforming, (Forward, Conforming)),
        (Mode::Strict, repairable, (Refuse, Rejected)),
        (Mode::Strict, wrong, (Refuse, Rejected)),
        (Mode::Strict, missing, (Forward, Passed)),
    ];
    for (mode, (signature, request), expected) in cases {
        let verdict = Case::new(signature, request).mode(mode).judge();
        assert_eq!((verdict.action, verdict.outcome), expected, "{mode} {request}: {:?}", verdict.problems);
    }
    let verdict = Case::new(repairable.0, repairable.1).mode(Mode::Strict).judge();
    assert_eq!(verdict.problems[0].reason, Reason::RankTooLow);
}

#[test]
fn policy_switches_change_the_verdict() {
    let with = |signature: &str, request: &str, change: fn(&mut Policy)| {
        let mut case = Case::new(signature, request);
        change(&mut case.policy.defaults);
        case.says()
    };
    assert_eq!(
        with("x:float[-1,-1]", "x:float[7]", |policy| set(policy, "batch_first", false)),
        "input 'x': shape [7] could mean [1,7] or [7,1] for [-1,-1] (SHAPE_AMBIGUOUS; send the shape you mean)"
    );
    assert!(
        with("x:float[-1,4]", "x:float[4,1]", |policy| set(policy, "column_vector", false))
            .contains("DIM_MISMATCH")
    );
    assert!(
        with("x:float[-1]", "x:double[1]{0.1}", |policy| policy.round_f64 = false).contains("CAST_INEXACT")
    );
    assert_eq!(
        with("x:float[-1]", "x:double[1]{0.5}", |policy| policy.round_f64 = false),
        "x;cast_checked;double->float"
    );
    assert_eq!(
        with("x:float[4]", "x:float[4]@float_val=2", |policy| policy.short_lists = policy::ShortLists::Allow),
        "conforms"
    );
    assert!(
        with("x:float[-1,2]", "x:float[2]", |policy| set(policy, "add_batch_dim", false))
            .contains("RANK_TOO_LOW")
    );
    let mut empty = Case::new("x:float[-1,2]", "x:float[0,2]");
    assert_eq!(empty.says(), "conforms");
    empty.limits.refuse_zero_rows = true;
    assert!(empty.says().contains("no rows"));
    let missing = |policy: &mut Policy| policy.missing_inputs = policy::MissingInputs::Refuse;
    assert!(with("a:float[-1] b:float[-1]", "a:float[2]", missing).contains("INPUT_MISSING"));
}

#[test]
fn many_unknown_names_are_one_problem() {
    let crowd: Vec<String> = (0..5000).map(|at| format!("n{at}:float[1]")).collect();
    let case = Case::new("a:float[-1] b:float[-1]", &crowd.join(" "));
    let verdict = case.judge();
    assert_eq!((verdict.action, verdict.problems.len()), (Action::Refuse, 3));
    assert!(case.says().starts_with("5000 names are no inputs of the signature: 'n0', "), "{}", case.says());
    assert!(case.says().contains(" and 4988 more; it takes 'a', 'b' (NAME_UNKNOWN)"), "{}", case.says());
}

#[test]
fn an_input_name_of_another_signature_is_not_renamed() {
    let mut case = Case::new("x:float[-1,2]", "ids:int64[2]");
    assert!(case.says().starts_with("x;rename_single;ids->x"), "{}", case.says());
    let other = notation::signature("@lookup ids:int64[-1]").unwrap();
    case.signatures =
        case.signatures.iter().chain(other.iter()).map(|signature| (**signature).clone()).collect();
    assert!(case.says().starts_with("input 'ids': no such input"), "{}", case.says());
}

#[test]
fn moved_values_go_to_the_list_of_their_dtype() {
    let case = Case::new("x:half[-1,2]", "x:half[1,2]@int_val{1,2}");
    assert_eq!(case.says(), "x;move_values;int_val->half_val");
    let after = case.applied();
    let view = PredictView::scan(&after).unwrap();
    assert_eq!(view.inputs[0].tensor.lists().as_slice(), [(crate::tensor::ValueList::Half, 2)]);
}

#[test]
fn a_default_has_the_declared_rank() {
    let mut case = Case::new("x:float[1] y:float[2,2] z:float", "x:float[1]");
    for name in ["y", "z"] {
        let values = [
            (&rules::DEFAULT, policy::Literal::Int(1).into()),
            (&rules::SCALAR, policy::Literal::Bool(true).into()),
        ]
        .into();
        case.policy.defaults.inputs.insert(name.to_owned(), values);
    }
    assert_eq!(case.says(), "y;input_defaults;->float[2,2] z;input_defaults;->float[]");
    assert_eq!(case.judge_bytes(&case.applied()).outcome, Outcome::Conforming);
}

#[test]
fn an_added_input_is_split_like_the_others() {
    let mut case = Case::new("x:float[-1,2] y:float[-1] -> z:float[-1]", "x:float[3,2]");
    set(&mut case.policy.defaults, "split_oversize", true);
    case.policy.defaults.batching.max_rows = 2;
    let values = [(&rules::DEFAULT, policy::Literal::Int(1).into())].into();
    case.policy.defaults.inputs.insert("y".to_owned(), values);
    let calls = Calls::Split { rows: 3, per_call: 2, whole: true };
    assert_eq!(case.judge().plan.calls, calls);
    for (call, _) in calls::requests(&case.applied(), calls).unwrap() {
        assert_eq!(case.judge_bytes(&call).outcome, Outcome::Conforming);
    }
}

#[test]
fn a_request_with_more_rows_than_a_run_may_have_is_split() {
    let calls = |rows: i64, change: fn(&mut Policy)| {
        let mut case = Case::new("x:float[-1,1] -> y:float[-1]", &format!("x:float[{rows},1]"));
        case.policy.defaults.batching.enabled = true;
        change(&mut case.policy.defaults);
        let verdict = case.judge();
        (verdict.outcome, verdict.plan.calls)
    };
    let split = |rows, per_call| (Outcome::Repaired, Calls::Split { rows, per_call, whole: true });
    let whole = (Outcome::Conforming, Calls::One);
    assert_eq!(calls(64, |_| {}), whole);
    assert_eq!(calls(65, |_| {}), split(65, 64));
    assert_eq!(calls(17, |policy| policy.batching.max_rows = 16), split(17, 16));
    assert_eq!(calls(5, |policy| policy.batching.allowed_batch_sizes = vec![1, 4]), split(5, 4));
    assert_eq!(calls(65, |policy| policy.batching.enabled = false), whole);
    // It conforms, so it is neither refused nor counted as wrong.
    assert_eq!(calls(65, |policy| policy.mode = Mode::Strict), whole);
    assert_eq!(calls(65, |policy| policy.mode = Mode::Observe), whole);
    let mut case = Case::new("x:float[-1,1] -> y:float[]", "x:float[65,1]");
    case.policy.defaults.batching.enabled = true;
    assert_eq!(case.judge().plan.calls, Calls::One, "the output has no rows");
}

#[test]
fn a_request_is_split_into_256_calls_at_most() {
    let calls = |rows: i64| {
        let mut case = Case::new("x:float[2,1] -> y:float[2,1]", &format!("x:float[{rows},1]@float_val=1"));
        set(&mut case.policy.defaults, "fan_out", true);
        let verdict = case.judge();
        (verdict.action, verdict.plan.calls)
    };
    assert_eq!(calls(512), (Action::Apply, Calls::Split { rows: 512, per_call: 2, whole: false }));
    assert_eq!(calls(514), (Action::Refuse, Calls::One));
    assert_eq!(calls(511), (Action::Refuse, Calls::One), "not a whole number of batches");
    assert_eq!(calls(1 << 24).0, Action::Refuse);
    let mut case = Case::new("x:float[-1,0] -> y:float[-1]", &format!("x:float[{},0]", i64::MAX));
    set(&mut case.policy.defaults, "split_oversize", true);
    case.policy.defaults.batching.max_rows = 2;
    assert_eq!((case.judge().action, case.judge().plan.calls), (Action::Forward, Calls::One));
}

#[test]
fn a_batch_is_padded_up_to_a_limit() {
    let filled = |batch: i64| {
        let mut case = Case::new(&format!("x:float[{batch},1] -> y:float[{batch},1]"), "x:float[3,1]");
        set(&mut case.policy.defaults, "pad_static_batch", true);
        case.judge().plan.calls
    };
    assert_eq!(filled(65_536), Calls::Pad { rows: 3, to: 65_536 });
    assert_eq!(filled(65_537), Calls::One);
}

#[test]
fn axes_are_not_merged_if_sizes_overflow_or_are_empty() {
    let flattened = |request: &str| {
        let mut case = Case::new("x:float[-1,-1,6]", request);
        set(&mut case.policy.defaults, "flatten", true);
        case.says()
    };
    assert_eq!(flattened("x:float[4,5,2,3]"), "x;flatten;[4,5,2,3]->[4,5,6]");
    assert!(flattened("x:float[0,5,2,3]").contains("RANK_TOO_HIGH"));
    assert!(flattened("x:float[4611686018427387904,0,2,3]=0").contains("RANK_TOO_HIGH"));
}

#[test]
fn a_mask_is_added_only_if_its_dtype_has_zero_and_one_and_it_is_not_too_large() {
    let case = |signature: &str, request: &str| {
        let mut case = Case::new(signature, request);
        case.policy.defaults.inputs.insert("x".to_owned(), padded(Some("m")));
        case
    };
    let added = |signature: &str, request: &str| {
        let mut case = case(signature, request);
        case.policy.defaults.missing_inputs = policy::MissingInputs::Refuse;
        match case.judge().action {
            Action::Apply => PredictView::scan(&case.applied()).unwrap().inputs.len() == 2,
            action => {
                assert_eq!(action, Action::Refuse);
                assert!(case.says().contains("INPUT_MISSING"), "{}", case.says());
                false
            }
        }
    };
    let masked = |dtype: &str| added(&format!("x:int32[-1,3] m:{dtype}[-1,3]"), "x:int32[2,2]");
    for dtype in
        ["int32", "float", "bool", "half", "complex64", "int2", "uint4", "float8_e4m3fn", "float4_e2m1fn"]
    {
        assert!(masked(dtype), "{dtype}");
    }
    for dtype in ["string", "qint8", "quint16"] {
        assert!(!masked(dtype), "{dtype}");
    }
    // 100 MB of padded int8 are allowed; a mask of 400 MB of int32 is too large.
    let steps = |dtype: &str| {
        let signature = format!("x:int8[-1,100000000] m:{dtype}[-1,100000000]");
        case(&signature, "x:int8[1,1]").judge().plan.steps.len()
    };
    assert_eq!((steps("int8"), steps("int32")), (2, 1));
}

#[test]
fn an_added_input_without_rows_is_refused_if_the_server_batches() {
    let mut case = Case::new("x:int32[0,2] m:int32[-1,2]", "x:int32[0,1]");
    case.policy.defaults.inputs.insert("x".to_owned(), padded(Some("m")));
    assert_eq!(case.judge().action, Action::Apply);
    case.limits.refuse_zero_rows = true;
    assert_eq!(case.judge().action, Action::Refuse);
}

#[test]
fn no_repair_exceeds_the_limit_on_elements() {
    let says = |signature: &str, request: &str| {
        let mut case = Case::new(signature, request);
        case.limits.max_elements = 5;
        case.policy.defaults.mode = Mode::Observe;
        (case.judge().action, case.says())
    };
    for (signature, request) in [
        ("x:float[-1,2]", "x:float[-1,2]=6"),
        ("x:float[-1,2]", "x:float[3,2]@int_val=6"),
        ("x:float[-1,2]", "x:float[3,2]=5"),
        ("x:float[-1,2]", "x:float[1,3,2]=6"),
    ] {
        let (action, says) = says(signature, request);
        assert_eq!(action, Action::Refuse, "{request}: {says}");
        assert_eq!(says.matches("TOO_LARGE").count(), 1, "{request}: {says}");
    }
}
