//! Declared transforms: what they make, when they are not made, and what is said about it.
use prost::Message as _;

use super::*;
use crate::config::load::{File, Settings, load};
use crate::proto::tensorflow::TensorProto;
use crate::proto::tensorflow::serving::PredictRequest;
use crate::repair::transform::{Bound, Ratio};
use crate::tensor::DataType;
use std::sync::Arc;

/// A case whose input `x` has these keys.
pub(super) fn declared(signature: &str, request: &str, keys: &str) -> Case {
    let text = format!("models: {{m: {{signatures: {{serving_default: {{inputs: {{x: {{{keys}}}}}}}}}}}}}");
    let config = load(&Settings::default(), Some(File { name: "test", text: &text }));
    let policy = config.unwrap_or_else(|problems| panic!("{problems}")).policy("m").clone();
    Case { policy, ..Case::new(signature, request) }
}

pub(super) fn made(case: &Case) -> TensorProto {
    let mut message = PredictRequest::decode(case.applied().to_bytes()).unwrap();
    message.inputs.remove("x").unwrap()
}

pub(super) fn floats(tensor: &TensorProto) -> Vec<f32> {
    let content = tensor.tensor_content.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    content.chain(tensor.float_val.iter().copied()).collect()
}

fn warnings(case: &Case) -> Vec<String> {
    case.judge().warnings.into_iter().map(|warning| warning.text).collect()
}

pub(super) const HALVE: &str = "transform: [{scale: {factor: 0.5}}]";

#[test]
fn a_conforming_request_is_transformed_and_says_so() {
    let case =
        declared("x:float[-1,2]", "x:float[1,2]{3,5}", "transform: [{scale: {factor: 0.5, offset: 1}}]");
    let verdict = case.judge();
    assert_eq!((verdict.action, verdict.outcome), (Action::Apply, Outcome::Repaired));
    assert_eq!(case.says(), "x;scale;x->x*0.5+1");
    assert_eq!(floats(&made(&case)), [2.5, 3.5]);
}

#[test]
fn every_encoding_of_the_values_is_transformed() {
    for (request, expected) in [
        ("x:float[2,2]{2,4,6,8}", vec![1.0, 2.0, 3.0, 4.0]),
        ("x:float[2,2]@float_val{2,4,6,8}", vec![1.0, 2.0, 3.0, 4.0]),
        ("x:double[2,2]{2,4,6,8}", vec![1.0, 2.0, 3.0, 4.0]),
        ("x:int64[2,2]@int64_val{2,4,6,8}", vec![1.0, 2.0, 3.0, 4.0]),
        ("x:float[2,2]@double_val{2,4,6,8}", vec![1.0, 2.0, 3.0, 4.0]),
        ("x:uint8[2,2]@int_val{2,4,6,8}", vec![1.0, 2.0, 3.0, 4.0]),
        ("x:half[2]{2,4}", vec![1.0, 2.0]),
        // One value for all stays one.
        ("x:float[2,2]@float_val{2}", vec![1.0]),
        ("x:float[0,2]", vec![]),
    ] {
        let case = declared("x:float[-1,2]", request, HALVE);
        assert_eq!(floats(&made(&case)), expected, "{request}: {}", case.says());
        assert_eq!(warnings(&case), [""; 0], "{request}");
    }
    // A value that stands for all becomes another one in each feature.
    let case =
        declared("x:float[-1,2]", "x:float[2,2]@float_val{2}", "transform: [{scale: {factor: [1, 10]}}]");
    assert_eq!(floats(&made(&case)), [2.0, 20.0, 2.0, 20.0]);
    let case = declared(
        "x:float[-1,2]",
        "x:float[9999999,2]@float_val{2}",
        "transform: [{scale: {factor: [1, 10]}}]",
    );
    assert!(case.says().contains("TOO_LARGE"), "{}", case.says());
}

#[test]
fn numbers_are_rounded_once() {
    // Cast to float first, the value would be 16777216.
    let case =
        declared("x:float[-1]", "x:double[1]{16777217.0}", "transform: [{scale: {offset: -16777216}}]");
    assert_eq!(floats(&made(&case)), [1.0]);
    assert_eq!(case.says(), "x;cast_round;double->float lossy x;scale;x->x*1-16777216");
}

#[test]
fn what_becomes_infinite_is_judged_by_what_was_sent() {
    // Cast to float first, the value would be 1.0000001, and the product infinite.
    let (value, factor) = (1.000_000_07, 3.402_823_2e38);
    let keys = format!("transform: [{{scale: {{factor: {factor:e}}}}}]");
    let case = declared("x:float[-1]", &format!("x:double[1]{{{value}}}"), &keys);
    assert_eq!(floats(&made(&case)), [(value * factor) as f32]);
}

#[test]
fn a_number_that_becomes_infinite_is_refused() {
    for (request, keys) in [
        ("x:float[2]{1,3e38}", "transform: [{scale: {factor: 10}}]"),
        ("x:double[2]{1,1e30}", "transform: [{standardize: {mean: 0, std: 1.0e-300}}]"),
    ] {
        let case = declared("x:float[-1]", request, keys);
        let text = case.says();
        assert!(text.contains("the value at index 1 is out of range for float when transformed"), "{text}");
    }
    // An infinity that was sent stays one.
    let case = declared("x:float[-1]", "x:float[2]{1,inf}", HALVE);
    assert_eq!(floats(&made(&case)), [0.5, f32::INFINITY]);
}

#[test]
fn transforms_are_applied_in_strict_and_counted_in_observe() {
    let case = |mode| declared("x:float[-1,2]", "x:float[1,2]", HALVE).mode(mode);
    let with = |mode: Mode| {
        let mut case = case(mode);
        case.policy.signatures.get_mut("serving_default").unwrap().mode = mode;
        let verdict = case.judge();
        (verdict.action, verdict.outcome, verdict.plan.steps.len())
    };
    assert_eq!(with(Mode::Repair), (Action::Apply, Outcome::Repaired, 1));
    assert_eq!(with(Mode::Strict), (Action::Apply, Outcome::Repaired, 1));
    assert_eq!(with(Mode::Observe), (Action::Forward, Outcome::WouldRepair, 1));
    assert_eq!(with(Mode::Off), (Action::Forward, Outcome::Passed, 0));
    // A repair is still refused in strict.
    let mut case = declared("x:float[-1,2]", "x:double[1,2]", HALVE);
    case.policy.signatures.get_mut("serving_default").unwrap().mode = Mode::Strict;
    assert!(
        case.says().contains("DTYPE_MISMATCH") && !case.says().contains("NOT_TRANSFORMED"),
        "{}",
        case.says()
    );
}

#[test]
fn other_inputs_keep_their_bytes() {
    let case = declared("a:float[-1,2] x:float[-1,2]", "a:float[1,2]{1,2} x:float[1,2]{1,2}", HALVE);
    let (before, after) = (PredictView::scan(&case.message).unwrap(), case.applied());
    let view = PredictView::scan(&after).unwrap();
    let entry = |view: &PredictView, message: &Rope| message.slice(view.input("a").unwrap().entry.clone());
    assert_eq!(entry(&view, &after), entry(&before, &case.message));
}

#[test]
fn axes_are_moved_after_the_shape_is_repaired() {
    let keys = "transform: [{transpose: [0, 2, 3, 1]}, {scale: {factor: [1, 10, 100]}}]";
    let signature = "x:float[-1,1,2,3]";
    // Channels first, as the transform expects; the batch dimension is missing.
    let case = declared(signature, "x:double[3,1,2]{1,2,3,4,5,6}", keys);
    assert_eq!(
        case.says(),
        "x;cast_round;double->float lossy x;add_batch_dim;[3,1,2]->[1,3,1,2] x;transpose;[1,3,1,2]->[1,1,2,3] x;scale;x->x*factor+offset"
    );
    assert_eq!(floats(&made(&case)), [1.0, 30.0, 500.0, 2.0, 40.0, 600.0]);
    // Axes as they are declared are not moved, with and without a batch dimension.
    for request in ["x:float[1,1,2,3]{1,2,3,4,5,6}", "x:float[1,2,3]{1,2,3,4,5,6}"] {
        let case = declared(signature, request, keys);
        assert_eq!(floats(&made(&case)), [1.0, 20.0, 300.0, 4.0, 50.0, 600.0], "{}", case.says());
        assert!(!case.says().contains("transpose"));
    }
    let case = declared(signature, "x:float[1,9,9,9]", keys);
    assert!(case.says().contains("SHAPE_MISMATCH"), "{}", case.says());
    let case = declared(signature, "x:float[0,3,1,2]", "transform: [{transpose: [0, 2, 3, 1]}]");
    assert_eq!(case.says(), "x;transpose;[0,3,1,2]->[0,1,2,3]");
    // Whole numbers are moved as they are.
    let case =
        declared("x:int64[-1,2]", "x:int64[2,2]{9007199254740993,2,3,4}", "transform: [{transpose: [1, 0]}]");
    let moved = made(&case).tensor_content;
    assert_eq!(moved[..8], 9_007_199_254_740_993_i64.to_le_bytes());
    assert_eq!(moved[8..16], 3_i64.to_le_bytes());
}

#[test]
fn rows_that_differ_do_not_undo_a_transpose() {
    let case = declared(
        "x:float[-1,3] y:float[-1]",
        "x:float[3,2]{1,2,3,4,5,6} y:float[5]",
        "transform: [{transpose: [1, 0]}]",
    );
    assert_eq!(case.says(), "x;transpose;[3,2]->[2,3]");
    assert!(warnings(&case)[0].starts_with("rows differ"), "{:?}", warnings(&case));
}

#[test]
fn padded_rows_are_transformed_with_their_padding() {
    let keys = "pad: {value: 4}, transform: [{scale: {factor: [1, 10, 100]}}]";
    let case = declared("x:float[-1,3]", "x:float[2,2]{1,2,3,4}", keys);
    assert_eq!(floats(&made(&case)), [1.0, 20.0, 400.0, 3.0, 40.0, 400.0], "{}", case.says());
}

#[test]
fn strings_are_decoded_from_every_place() {
    let decode = "transform: [{decode_base64: on}]";
    for (request, expected) in [
        ("x:string[2]{aGk=,}", vec!["hi"]),
        ("x:string[2]{aGk=,8J-Ygg==}", vec!["hi", "😂"]),
        ("x:string[1]@tensor_content{aGVsbG8gd29ybGQ=}", vec!["hello world"]),
    ] {
        let request = request.replace(",}", "}").replace("[2]{aGk=}", "[1]{aGk=}");
        let case = declared("x:string[-1]", &request, decode);
        assert_eq!(made(&case).string_val, expected, "{request}: {}", case.says());
    }
    // TensorFlow's own encoding of strings: lengths, then bytes.
    let tensor = TensorProto {
        dtype: 7,
        tensor_content: b"\x04\x00\x04aGk=aG8=".as_slice().into(),
        ..made(&declared("x:string[-1]", "x:string[3]{aGk=,aGk=,aGk=}", decode))
    };
    let tensor = TensorProto { string_val: Vec::new(), ..tensor };
    let mut case = declared("x:string[-1]", "x:string[1]{aGk=}", decode);
    let mut request = PredictRequest::decode(case.message.to_bytes()).unwrap();
    request.inputs.insert("x".to_owned(), tensor);
    case.message = Rope::from(request.encode_to_vec());
    assert_eq!(made(&case).string_val, [&b"hi"[..], b"", b"ho"], "{}", case.says());
}

#[test]
fn text_that_a_transform_is_not_for_stays_with_a_warning() {
    for text in ["aGk", "aG k=", "aGk=\u{20}", "aGl=", "a-+=", "Gk=="] {
        let mut case = declared("x:string[-1]", "x:string[2]{aGk=,bad}", "transform: [{decode_base64: on}]");
        let mut request = PredictRequest::decode(case.message.to_bytes()).unwrap();
        request.inputs.get_mut("x").unwrap().string_val[1] = text.as_bytes().to_vec().into();
        case.message = Rope::from(request.encode_to_vec());
        let verdict = case.judge();
        assert_eq!((verdict.action, verdict.outcome), (Action::Forward, Outcome::Conforming), "{text}");
        assert_eq!(warnings(&case), ["input 'x': not transformed: string 1 is no base64 (NOT_TRANSFORMED)"]);
    }
    let mut case = declared("x:string[-1]", "x:string[1]{A}", "transform: [{lowercase: on}]");
    let mut request = PredictRequest::decode(case.message.to_bytes()).unwrap();
    request.inputs.get_mut("x").unwrap().string_val[0] = b"A\xff".to_vec().into();
    case.message = Rope::from(request.encode_to_vec());
    assert_eq!(case.judge().action, Action::Forward);
    assert_eq!(warnings(&case), ["input 'x': not transformed: string 0 is no UTF-8 text (NOT_TRANSFORMED)"]);
}

#[test]
fn text_is_decoded_before_it_is_lowered() {
    let case = declared(
        "x:string[-1]",
        "x:string[1]{w4RSR0VS}",
        "transform: [{lowercase: on}, {decode_base64: on}]",
    );
    assert_eq!(made(&case).string_val, ["ärger"], "{}", case.says());
}

#[test]
fn bytes_are_read_as_another_dtype() {
    let keys = "transform: [{relabel_dtype: {from: uint16, to: half}}, {scale: {factor: 2}}]";
    for request in
        ["x:uint16[2]{15360,49152}", "x:uint16[2]@int_val{15360,49152}", "x:uint16[2]@int_val{15360,49152}"]
    {
        let case = declared("x:float[-1]", request, keys);
        assert_eq!(floats(&made(&case)), [2.0, -4.0], "{}", case.says());
    }
    let case = declared("x:float[-1]", "x:half[2]{1,2}", keys);
    assert_eq!(case.says(), "x;cast_widen;half->float x;scale;x->x*2");
    // A list whose values are no uint16 is refused.
    let case = declared("x:half[-1]", "x:uint16[2]@int_val{1,70000}", keys);
    assert!(case.says().contains("CAST_OUT_OF_RANGE"), "{}", case.says());
}

#[test]
fn a_transform_that_does_not_suit_the_signature_is_not_made() {
    for (signature, request, keys, why) in [
        ("x:int32[-1]", "x:int32[2]", HALVE, "`scale` is for floats, and this input is int32"),
        (
            "x:float[-1,3]",
            "x:float[1,3]",
            "transform: [{scale: {factor: [1, 2]}}]",
            "`scale` has numbers for 2 features, and this input has 3",
        ),
        (
            "x:float[-1,3]",
            "x:float[1,3]",
            "transform: [{transpose: [0, 2, 1]}]",
            "`transpose` has 3 axes, and this input is [-1,3]",
        ),
        (
            "x:float[-1]",
            "x:float[1]",
            "transform: [{lowercase: on}]",
            "`lowercase` is for strings, and this input is float",
        ),
        (
            "x:float[-1]",
            "x:float[1]",
            "transform: [{standardize: {from: profile}}]",
            "the profile has neither a scaler nor a raw side, or is not read",
        ),
    ] {
        let case = declared(signature, request, keys);
        assert_eq!(case.judge().action, Action::Forward, "{}", case.says());
        assert_eq!(warnings(&case), [format!("input 'x': not transformed: {why} (NOT_TRANSFORMED)")]);
    }
}

#[test]
fn small_integers_that_are_scaled_are_no_doubt() {
    let case =
        declared("x:float[-1]", "x:uint8[1]{255}", "transform: [{scale: {factor: 0.0039215686274509803}}]");
    assert_eq!((warnings(&case).len(), floats(&made(&case))), (0, vec![1.0]));
    let mut case =
        declared("x:float[-1,2]", "x:uint8[1,2]{255,0}", "transform: [{scale: {factor: [1, 2, 3]}}]");
    case.policy.signatures.get_mut("serving_default").unwrap().small_ints = policy::SmallInts::Refuse;
    assert!(case.says().contains("INTEGER_FOR_FLOAT"), "not scaled after all: {}", case.says());
}

#[test]
fn a_profile_gives_the_scaler_and_both_sides() {
    use crate::profile::{By, FeatureProfile, Profile, Scaler, TensorProfile};
    let feature = |middle: f64, spread: f64| FeatureProfile {
        count: 10_000,
        min: middle - 4.0 * spread,
        max: middle + 4.0 * spread,
        mean: middle,
        std: spread,
        quantiles: [-2.33, -1.64, -0.67, 0.0, 0.67, 1.64, 2.33].map(|at| middle + at * spread),
        ..FeatureProfile::empty()
    };
    let tensor = |scaler: Option<Scaler>, raw: bool| TensorProfile {
        dtype: DataType::FLOAT,
        by: By::Feature,
        features: vec![feature(0.0, 1.0); 3],
        names: Vec::new(),
        raw: raw.then(|| vec![feature(100.0, 10.0); 3]),
        scaler,
        text: None,
    };
    let standard = Scaler::Standard { mean: vec![100.0; 3], scale: vec![10.0; 3] };
    let min_max = Scaler::MinMax { min: vec![60.0], max: vec![140.0], to: (-4.0, 4.0) };
    for (tensor, exact) in [
        (tensor(Some(standard), true), true),
        (tensor(None, true), false),
        (tensor(Some(min_max), false), false),
    ] {
        let profile = Profile { inputs: [("x".to_owned(), tensor)].into(), ..Profile::default() };
        let case = |request: &str, when: &str| {
            let keys = format!("transform: [{{standardize: {{from: profile}}}}], when: {when}");
            let mut case = declared("x:float[-1,3]", request, &keys);
            let policy = case.policy.signatures.get_mut("serving_default").unwrap();
            transform::bind(&mut policy.inputs, Some(&profile));
            case
        };
        let values = floats(&made(&case("x:double[1,3]{110,95,100}", "always")));
        let near = values.iter().zip([1.0, -0.5, 0.0]).all(|(got, want)| (got - want).abs() < 1e-6);
        assert!(near && (!exact || values == [1.0, -0.5, 0.0]), "{values:?}");
        assert_eq!(
            case("x:float[2,3]{110,95,100,80,99,105}", "raw").says(),
            "x;standardize;raw->standardized"
        );
        let fixed = case("x:float[2,3]{1,-0.5,0,-2,0.1,0.5}", "raw");
        assert_eq!((fixed.says(), warnings(&fixed).len()), ("conforms".to_owned(), 0));
        // Nearer to raw, but neither; and half of each.
        for request in
            ["x:float[1,3]{900000,900000,900000}", "x:float[1,3]{110,0,0}", "x:float[2,3]{110,95,100,0,0,1}"]
        {
            let unclear = case(request, "raw");
            assert_eq!(
                (unclear.says(), warnings(&unclear)),
                ("conforms".to_owned(), vec![UNCLEAR.to_owned()]),
                "{request}"
            );
        }
    }
}

/// Raw values are around 100, scaled ones around 0; a row is told apart with this certainty.
fn sides(request: &str, certainty: f64) -> Case {
    let mut case =
        declared("x:float[-1,2]", request, "transform: [{standardize: {mean: 100, std: 10}}], when: raw");
    let ratio = move |row: &[f64]| {
        if row.contains(&50.0) {
            0.0
        } else if row[0] > 50.0 {
            certainty
        } else {
            -certainty
        }
    };
    let values = case.policy.signatures.get_mut("serving_default").unwrap().inputs.get_mut("x").unwrap();
    values.transforms_mut().unwrap().bound =
        Some(Arc::new(Bound { ratio: Some(Ratio::new(ratio)), ..Bound::default() }));
    case
}

const UNCLEAR: &str = "input 'x': not transformed: the values are not certain to be raw, nor to be as the model takes them (NOT_TRANSFORMED)";

#[test]
fn only_what_is_certainly_raw_is_transformed() {
    let transformed = |request: &str, certainty: f64| {
        let case = sides(request, certainty);
        let applied = case.judge().action == Action::Apply;
        let warned = warnings(&case);
        assert!(warned.is_empty() || warned == [UNCLEAR], "{warned:?}");
        (applied, warned.len())
    };
    assert_eq!(transformed("x:float[2,2]{90,110,120,80}", 20.0), (true, 0));
    // Each row alone is too little, both together are enough.
    assert_eq!(transformed("x:float[1,2]{90,110}", 10.0), (false, 1));
    assert_eq!(transformed("x:float[2,2]{90,110,120,80}", 10.0), (true, 0));
    // The same row twice is one row.
    assert_eq!(transformed("x:float[2,2]{90,110,90,110}", 10.0), (false, 1));
    // A fixed client.
    assert_eq!(transformed("x:float[2,2]{0,1,-1,0}", 20.0), (false, 0));
    // One row is scaled, or could be either.
    assert_eq!(transformed("x:float[3,2]{90,110,0,1,95,100}", 20.0), (false, 1));
    assert_eq!(transformed("x:float[3,2]{90,110,50,50,95,100}", 20.0), (false, 1));
    assert_eq!(transformed("x:float[2,2]@float_val{90}", 20.0), (false, 1));
    assert_eq!(floats(&made(&sides("x:double[1,2]{90,110}", 20.0))), [-1.0, 1.0]);
}
