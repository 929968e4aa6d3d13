//! Properties of all requests: a repaired request needs no further repair, the order of elements
//! and the bytes of other inputs do not change, and for all dtypes and encodings a planned cast
//! succeeds.
use proptest::prelude::*;

use super::*;
use crate::tensor::{Cast, Class, DataType, Exactness, Relation, relation};
use crate::wire::values::{self, Carrier};

fn elements(message: &Rope, key: &str) -> Vec<u8> {
    let view = PredictView::scan(message).unwrap();
    let tensor = &view.input(key).unwrap().tensor;
    let mut all = Vec::new();
    let carrier = match &tensor.content {
        Some(_) => Carrier::Content { size: tensor.dtype.size().unwrap() },
        None => Carrier::List(tensor.dtype.info().unwrap().list),
    };
    values::read::<()>(message, tensor, carrier, &mut |block| {
        all.extend_from_slice(block);
        Ok(())
    })
    .unwrap();
    all
}

#[test]
fn planned_casts_succeed_for_every_dtype_pair_and_encoding() {
    let mut repaired = 0;
    for from in DataType::all().filter(|dtype| dtype.size().is_some()) {
        for to in DataType::all().filter(|dtype| dtype.size().is_some()) {
            for field in ["tensor_content", from.info().unwrap().list.name()] {
                let quantized = from.info().unwrap().class == Class::Quantized;
                let request = if quantized {
                    format!("x:{from}[2,3]@{field}=0")
                } else {
                    format!("x:{from}[2,3]@{field}")
                };
                let case = Case::new(&format!("x:{to}[-1,3]"), &request);
                let verdict = case.judge();
                if quantized {
                    assert!(!verdict.problems.is_empty());
                    continue;
                }
                let allowed =
                    from == to || matches!(relation(from, to), Some(Relation::Widens | Relation::Narrows));
                assert_eq!(verdict.problems.is_empty(), allowed, "{from} {field} -> {to}: {}", case.says());
                if from == to {
                    assert_eq!(
                        (verdict.action, verdict.plan.steps.len()),
                        (Action::Forward, 0),
                        "{from} {field}"
                    );
                } else if allowed {
                    repaired += 1;
                    let after = case.applied();
                    assert_eq!(
                        case.judge_bytes(&after).outcome,
                        Outcome::Conforming,
                        "{from} {field} -> {to}"
                    );
                    let one = notation::element(to, &policy::Literal::Int(1)).unwrap();
                    assert_eq!(elements(&after, "x"), one.repeat(6), "{from} {field} -> {to}");
                }
            }
        }
    }
    assert!(repaired > 500, "only {repaired} casts were made");
}

fn shapes() -> impl Strategy<Value = (Vec<i64>, Vec<i64>)> {
    let size = prop_oneof![3 => Just(1_i64), 2 => 2_i64..5, 1 => Just(0_i64)];
    let declared = prop_oneof![2 => Just(-1_i64), 2 => Just(1_i64), 3 => 2_i64..5];
    (prop::collection::vec(declared, 0..5), prop::collection::vec(size, 0..6))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_shape_repair_keeps_the_bytes_and_needs_no_second_repair(
        (declared, sent) in shapes(),
        dtype in prop::sample::select(vec!["float", "double", "int64", "half"]),
        list in any::<bool>(),
    ) {
        let show = |dims: &[i64]| crate::tensor::Shape::from(dims).to_string();
        let count: i64 = sent.iter().product();
        let values: Vec<String> = (0..count).map(|value| value.to_string()).collect();
        let field = match (list, dtype) {
            (true, "float") => "@float_val",
            (true, "double") => "@double_val",
            (true, "int64") => "@int64_val",
            _ => "",
        };
        let request = format!("x:{dtype}{}{field}{{{}}} other:float[2]@float_val{{5,6}}", show(&sent), values.join(","));
        let signature = format!("x:float{} other:float[2]", show(&declared));
        let case = Case::new(&signature, &request);
        let verdict = case.judge();
        if !verdict.problems.is_empty() {
            prop_assert_eq!(verdict.action, Action::Refuse);
            return Ok(());
        }
        let after = case.applied();
        let again = case.judge_bytes(&after);
        prop_assert_eq!((again.outcome, again.plan.steps.len()), (Outcome::Conforming, 0));
        let from = DataType::parse(dtype).unwrap();
        let mut expected = Vec::new();
        let cast = Cast::new(from, DataType::FLOAT, Exactness::Round).unwrap();
        cast.convert(&elements(&case.message, "x"), &mut expected);
        prop_assert_eq!(elements(&after, "x"), expected);
        let before = PredictView::scan(&case.message).unwrap();
        let view = PredictView::scan(&after).unwrap();
        let entry = |rope: &Rope, view: &PredictView| rope.slice(view.input("other").unwrap().entry.clone()).to_bytes();
        prop_assert_eq!(entry(&case.message, &before), entry(&after, &view));
        if verdict.plan.is_empty() {
            prop_assert_eq!(after, case.message);
        }
    }

    #[test]
    fn judging_arbitrary_bytes_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 1_usize..50) {
        let message: Rope = bytes.chunks(cut).map(bytes::Bytes::copy_from_slice).collect();
        let case = Case::new("x:float[-1,2]", "");
        if let Ok(view) = PredictView::scan(&message) {
            let request =
                Request { message: &message, view: &view, signatures: &case.signatures, policy: &case.policy, limits: case.limits, raised: None , text: None};
            let verdict = judge(&request);
            if verdict.action == Action::Apply {
                prop_assert!(apply(&message, &view, &verdict.plan).is_ok());
            }
        }
    }
}
