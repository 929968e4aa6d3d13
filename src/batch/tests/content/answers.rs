//! What is not cut, what slices share, and what counts as equal.
use super::*;
use crate::batch::compare::{Divergence, identical};
use crate::wire::rows::RowsError;

/// An answer in the notation of requests.
fn answer(text: &str) -> Rope {
    let mut all = Rope::new();
    for (key, tensor) in &request(&notation::request("m", text).unwrap()).inputs {
        let mut inside = emit::field(1, Rope::from(key.as_bytes().to_vec()));
        inside.append(emit::field(2, Rope::from(tensor.encode_to_vec())));
        all.append(emit::field(1, inside));
    }
    all
}

#[test]
fn an_answer_with_other_rows_is_not_cut() {
    for (text, error) in [
        ("y:float[3,2]", RowsError::Count { expected: 4, found: 3 }),
        ("y:float[4] z:float[5]", RowsError::Count { expected: 4, found: 5 }),
        ("y:float[]", RowsError::NoRows { shape: Shape::scalar() }),
        ("y:float[4,2]=7", RowsError::ShortList),
        ("y:float[4,2]@float_val=7", RowsError::ShortList),
        ("y:float[4,2]@float_val=9", RowsError::ShortList),
        ("y:int64[4,2]@int64_val=2", RowsError::ShortList),
        ("y:float[4,2]=0", RowsError::ShortList),
        ("s:string[4]=3", RowsError::ShortList),
    ] {
        assert_eq!(Slicer::new(&answer(text), 4).unwrap_err(), error, "{text}");
    }
    let content = emit::content(Rope::from(b"\x01\x01ab".to_vec()));
    let strings = entry(1, "s", DataType::STRING, &Shape::from([2]), &content);
    assert_eq!(Slicer::new(&strings, 2).unwrap_err(), RowsError::StringContent);
    let huge = entry(1, "y", DataType::FLOAT, &Shape::from([4, 1 << 62]), &Rope::new());
    assert!(matches!(Slicer::new(&huge, 4), Err(RowsError::NoRows { .. })));
    assert!(Slicer::new(&Rope::from(vec![0x0a, 200, 1, 0]), 4).is_err());
}

#[test]
fn no_more_rows_are_cut_than_there_are() {
    let mut slicer = Slicer::new(&answer("y:float[4]"), 4).unwrap();
    slicer.next(3).unwrap();
    assert_eq!(slicer.next(2).unwrap_err(), RowsError::Count { expected: 2, found: 1 });
}

#[test]
fn slices_share_the_memory_of_the_answer_and_their_heads() {
    let whole = Rope::from(answer("y:float[64,128]@float_val").to_bytes());
    let range = whole.segments()[0].as_ptr_range();
    let mut slicer = Slicer::new(&whole, 64).unwrap();
    let slices: Vec<Rope> = (0..64).map(|_| slicer.next(1).unwrap()).collect();
    let head = slices[0].segments()[0].as_ptr();
    for slice in &slices {
        assert_eq!(slice.segments().len(), 2);
        assert_eq!(slice.segments()[0].as_ptr(), head);
        assert!(range.contains(&slice.segments()[1].as_ptr()));
        assert_eq!(response(slice).outputs["y"].float_val, [1.0; 128]);
    }
}

#[test]
fn other_fields_of_an_answer_go_to_every_member() {
    let mut tensor = Rope::from(emit::new_tensor(
        DataType::FLOAT,
        &Shape::from([2]),
        &emit::content(Rope::from(vec![1, 1, 1, 1, 2, 2, 2, 2])),
    ));
    tensor.append(Rope::from(vec![0xba, 0x3e, 1, 7]));
    let mut inside = emit::field(1, Rope::from(b"y".to_vec()));
    inside.append(emit::field(2, tensor));
    let mut whole = emit::field(1, inside);
    whole.append(emit::field(2, emit::field(1, Rope::from(b"m".to_vec()))));
    whole.append(Rope::from(vec![0xca, 0x3e, 1, 8]));
    let mut slicer = Slicer::new(&whole, 2).unwrap();
    for value in [1, 2] {
        let slice = slicer.next(1).unwrap();
        let decoded = response(&slice);
        assert_eq!(decoded.outputs["y"].tensor_content, vec![value; 4]);
        assert_eq!(decoded.model_spec.unwrap().name, "m");
        let bytes = slice.to_bytes();
        for field in [&[0xba, 0x3e, 1, 7], &[0xca, 0x3e, 1, 8]] {
            assert!(bytes.windows(4).any(|window| window == field));
        }
    }
}

#[test]
fn equal_answers_may_be_encoded_differently() {
    for (left, right) in [
        ("y:float[2] n:int64[2]", "n:int64[2]@int64_val y:float[2]@float_val"),
        ("y:float[3]@float_val{2}", "y:float[3]{2,2,2}"),
        ("y:bool[2]@bool_val{true,false}", "y:bool[2]{1,0}"),
        ("s:string[2]{a,b}", "s:string[2]{a,b}"),
        ("y:float[0]", "y:float[0]"),
        ("", ""),
    ] {
        assert_eq!(compare(&answer(left), &answer(right)), Ok(()), "{left} {right}");
        assert_eq!(compare(&answer(right), &answer(left)), Ok(()), "{right} {left}");
    }
}

fn problem(left: &str, right: &str) -> String {
    match compare(&answer(left), &answer(right)) {
        Ok(()) => "equal".to_owned(),
        Err(Divergence { output, problem, .. }) => format!("{output}: {problem}"),
    }
}

#[test]
fn a_divergence_says_the_element_and_no_value() {
    for (left, right, text) in [
        ("y:float[2]{1,2}", "y:float[2]{1,2.5}", "y: element 1 differs"),
        ("y:int8[2]@int_val{1,-2}", "y:int8[2]{1,2}", "y: element 1 differs"),
        ("y:int64[1]{3}", "y:int64[1]{4}", "y: element 0 differs"),
        ("y:uint64[1]{3}", "y:uint64[1]{4}", "y: element 0 differs"),
        ("y:bool[1]{0}", "y:bool[1]{1}", "y: element 0 differs"),
        ("y:float[2,1]", "y:float[1,2]", "y: shape [2,1] in the shared run, [1,2] alone"),
        ("y:float[1]", "y:double[1]", "y: float in the shared run, double alone"),
        ("y:float[1]", "", "y: only the shared run has this output"),
        ("", "y:float[1]", "y: only the lone run has this output"),
        ("s:string[2]{a,b}", "s:string[2]{a,c}", "s: element 1 differs"),
        ("s:string[2]{a}", "s:string[2]{a,a}", "s: one of the answers has only 1 strings"),
        ("y:float[2]@float_val{}", "y:float[2]", "y: only one of the answers has values"),
    ] {
        assert_eq!(problem(left, right), text);
    }
    assert!(compare(&Rope::from(vec![0x0a, 200]), &Rope::new()).is_err());
}

#[test]
fn floats_are_equal_within_the_tolerance_of_their_dtype() {
    for (dtype, close, far) in [
        ("float", 1.0005, 1.01),
        ("double", 1.000_000_5, 1.000_01),
        ("half", 1.005, 1.05),
        ("bfloat16", 1.03, 1.2),
        ("complex64", 1.0005, 1.01),
        ("complex128", 1.000_000_5, 1.000_01),
        ("float8_e5m2", 1.25, 4.0),
    ] {
        let pair = |value: f64| problem(&format!("y:{dtype}[1]{{{value}}}"), &format!("y:{dtype}[1]{{1}}"));
        assert_eq!(pair(close), "equal", "{dtype}");
        assert_ne!(pair(far), "equal", "{dtype}");
        assert_ne!(pair(-1.0), "equal", "{dtype}");
    }
}

#[test]
fn values_that_are_no_numbers_are_equal_to_themselves_only() {
    let one = |value: f32| {
        entry(
            1,
            "y",
            DataType::FLOAT,
            &Shape::from([1]),
            &emit::content(Rope::from(value.to_le_bytes().to_vec())),
        )
    };
    let other_nan = f32::from_bits(0xffc0_0001);
    assert_eq!(compare(&one(f32::NAN), &one(other_nan)), Ok(()));
    assert_eq!(compare(&one(f32::INFINITY), &one(f32::INFINITY)), Ok(()));
    assert_eq!(compare(&one(0.0), &one(-0.0)), Ok(()));
    for (left, right) in
        [(f32::NAN, 1.0), (f32::INFINITY, f32::NEG_INFINITY), (f32::INFINITY, f32::MAX), (1.0, f32::NAN)]
    {
        assert!(compare(&one(left), &one(right)).is_err(), "{left} {right}");
    }
}

#[test]
fn a_difference_is_small_beside_the_largest_value_of_its_row() {
    for (left, right, small) in [
        ("y:float[1,2]{100,0.5}", "y:float[1,2]{100,0.1}", true),
        ("y:float[1,2]{100,2}", "y:float[1,2]{100,0.1}", false),
        ("y:float[2,2]{100,1,1,0.5}", "y:float[2,2]{100,1,1,0.1}", false),
        ("y:float[2]@float_val{0.5,100}", "y:float[2]@float_val{0.1,100}", false),
        ("y:double[1,2]{100,0.00005}", "y:double[1,2]{100,0.00001}", true),
        ("y:float[1,2]{100,0.5} n:int64[1]{1}", "y:float[1,2]{100,0.1} n:int64[1]{2}", false),
        ("y:float[1,2]{100,0.5} n:int64[1]{1}", "y:float[1,2]{100,0.1}", false),
        ("y:float[1,2]{100,0.5}", "y:float[1,2]{100,0.1} n:int64[1]{1}", false),
        ("n:int64[1,2]{100,1}", "n:int64[1,2]{100,2}", false),
    ] {
        assert_eq!(compare(&answer(left), &answer(right)).unwrap_err().is_small, small, "{left} {right}");
    }
}

#[test]
fn identical_answers_have_the_same_bits() {
    let same = |left: &str, right: &str| identical(&answer(left), &answer(right)).is_ok();
    assert!(same("y:float[2]{1,2} n:int64[1]", "n:int64[1]@int64_val y:float[2]@float_val{1,2}"));
    assert!(!same("y:float[2]{1,2}", "y:float[2]{1,2.0000002}"));
}
