//! What each mistake is called and where it is, and the readings of dtypes that TF Serving lacks.
use super::support::{OPTIONS, kinds, problems, read_for, tensors};
use crate::rest::read::{Finding, Format, Kind, Options, Severity};
use crate::tensor::DataType;

const LENIENT: Options = Options { string_numbers: true, bool_numbers: true, ..OPTIONS };

/// The only problem of a body.
fn problem(inputs: &[&str], body: &str) -> Finding {
    let findings = read_for(inputs, body, &OPTIONS).map(|read| read.findings).unwrap_err();
    let found = problems(&findings);
    assert_eq!(found.len(), 1, "{body}: {found:?}");
    found[0].clone()
}

#[test]
fn every_problem_has_its_kind_and_place() {
    let single: &[&str] = &["x:float:[-1,3]"];
    let integer: &[&str] = &["x:int32:[-1,3]"];
    let small: &[&str] = &["x:uint8:[-1]"];
    let text: &[&str] = &["s:string:[-1]"];
    let two: &[&str] = &["k:int32:[-1]", "x:float:[-1,2]"];
    let none: &[&str] = &["v:variant:[]"];
    let bool: &[&str] = &["b:bool:[-1]"];
    let cases: &[(&[&str], &str, Kind, &str)] = &[
        (single, r#"{"instances":[[1,2,1e39]]}"#, Kind::OutOfRange, "/instances/0/2"),
        (small, r#"{"instances":[1,300]}"#, Kind::OutOfRange, "/instances/1"),
        (single, r#"{"instances":[[1,0e400,3]]}"#, Kind::TooBig, "/instances/0/1"),
        (integer, r#"{"inputs":{"x":[[1,1.5,3]]}}"#, Kind::Inexact, "/inputs/x/0/1"),
        (single, r#"{"inputs":[[1,null,3]]}"#, Kind::Null, "/inputs/0/1"),
        (single, r#"{"inputs":[[1,true,3]]}"#, Kind::BoolForNumber, "/inputs/0/1"),
        (bool, r#"{"inputs":[true,0]}"#, Kind::BitForBool, "/inputs/1"),
        (bool, r#"{"inputs":[true,2]}"#, Kind::NumberForBool, "/inputs/1"),
        (single, r#"{"inputs":[[1,"2",3]]}"#, Kind::QuotedNumber, "/inputs/0/1"),
        (single, r#"{"inputs":[[1,"2x",3]]}"#, Kind::StringForNumber, "/inputs/0/1"),
        (integer, r#"{"inputs":[[1,"2.5",3]]}"#, Kind::StringForNumber, "/inputs/0/1"),
        (text, r#"{"inputs":["a",1]}"#, Kind::NumberForString, "/inputs/1"),
        (single, r#"{"inputs":[[1,{"a":{}},3]]}"#, Kind::ObjectForValue, "/inputs/0/1"),
        (single, r#"{"instances":[{"x":{"b64":"AA=="}}]}"#, Kind::Base64ForNumber, "/instances/0/x"),
        (text, r#"{"instances":["a",{"b64":"-_"}]}"#, Kind::BadBase64, "/instances/1"),
        (single, r#"{"instances":[[1,2,3],[4,5]]}"#, Kind::Ragged, "/instances/1"),
        (single, r#"{"inputs":[[[1],[2]],[[1],[2,3]]]}"#, Kind::Ragged, "/inputs/1/1"),
        (single, r#"{"instances":[[1,[2],3]]}"#, Kind::WrongLevel, "/instances/0/1"),
        (single, r#"{"instances":[[1],2]}"#, Kind::WrongLevel, "/instances/1"),
        (two, r#"{"instances":[{"x":[1,2],"k":1,"x":[3,4]}]}"#, Kind::DuplicateKey, "/instances/0/x"),
        (two, r#"{"instances":[{"x":[1,2],"k":1},{"x":[1,2]}]}"#, Kind::MissingKey, "/instances/1"),
        (single, r#"{"instances":[{"x":[1,2]},{"x":[1,2],"a/b":1}]}"#, Kind::UnknownKey, "/instances/1/a~1b"),
        (single, r#"{"instances":[[1],{"x":[1]}]}"#, Kind::MixedKinds, "/instances/1"),
        (single, r#"{"data":[[1]]}"#, Kind::NoValues, ""),
        (single, r#"{"inputs":[1],"instances":[1]}"#, Kind::BothKeys, "/instances"),
        (single, r#"{"instances":"x"}"#, Kind::NotAList, "/instances"),
        (single, r#"{"instances":[]}"#, Kind::NoInstances, "/instances"),
        (two, r#"{"instances":[[1]]}"#, Kind::NamesNeeded, "/instances"),
        (two, r#"{"inputs":[[1]]}"#, Kind::NamesNeeded, "/inputs"),
        (single, r#"{"signature_name":1,"instances":[1]}"#, Kind::SignatureName, "/signature_name"),
        (single, r#"{"instances":[1],"signature_name":"no"}"#, Kind::UnknownSignature, "/signature_name"),
        (&[], r#"{"instances":[1]}"#, Kind::NoInputs, ""),
        (none, r#"{"inputs":1}"#, Kind::UnsupportedDtype, "/inputs"),
        (single, "[1]", Kind::NotAnObject, ""),
        (single, r#"{"instances":[[1,2,3]"#, Kind::Syntax, "/instances"),
        (single, r#"{"instances":[[1,2,3,"#, Kind::Syntax, "/instances/0"),
        (single, r#"{"instances":[[1,2,3]],}"#, Kind::Syntax, ""),
    ];
    let mut seen = Vec::new();
    for (inputs, body, kind, pointer) in cases {
        let found = problem(inputs, body);
        assert_eq!((found.kind, found.pointer.as_str()), (*kind, *pointer), "{body}");
        assert!(found.what.is_ascii() && !found.what.ends_with('.') && found.offset <= body.len());
        if let Some(value) = &found.value {
            assert!(
                found.kind == Kind::UnknownSignature || body[found.offset..].starts_with(value),
                "{body}"
            );
        }
        seen.push(*kind);
    }
    let rest: Vec<Kind> = Kind::ALL
        .iter()
        .copied()
        .filter(|kind| kind.severity() == Severity::Problem && !seen.contains(kind))
        .collect();
    assert_eq!(rest, [Kind::TooDeep, Kind::TooLarge]);
}

#[test]
fn what_is_not_a_problem_is_read_and_reported() {
    let single: &[&str] = &["x:float:[-1,2]"];
    let two: &[&str] = &["k:int32:[-1]", "x:float:[-1,2]"];
    let cases: &[(&[&str], &str, &[Kind])] = &[
        (two, r#"{"instances":[{"x":[1,2],"k":1.0}]}"#, &[Kind::IntegralFloat]),
        (two, r#"{"instances":{"x":[1,2],"k":1}}"#, &[Kind::BareObject]),
        (two, r#"{"x":[[1,2]],"k":[1],"signature_name":""}"#, &[Kind::NamesAtTop]),
        (single, r#"{"instances":[["1.5",2]]}"#, &[Kind::NumberInString]),
        (single, r#"{"instances":[[true,2]]}"#, &[Kind::BoolAsNumber]),
        (&["b:bool:[-1]"], r#"{"instances":[1,true]}"#, &[Kind::NumberAsBool]),
        (single, r#"{"instances":[{"X":[1,2]}]}"#, &[Kind::MissingInput, Kind::UndeclaredInput]),
        (single, r#"{"instances":[[1,2]],"x":1,"other":2}"#, &[Kind::IgnoredKey, Kind::IgnoredKey]),
        (single, r#"{"inputs":{"x":[[1,2]],"y":null}}"#, &[Kind::IgnoredKey]),
        (single, r#"{"instances":[[1,2]],"instances":3}"#, &[Kind::RepeatedKey]),
    ];
    for (inputs, body, expected) in cases {
        let read = read_for(inputs, body, &LENIENT).unwrap();
        assert_eq!(kinds(&read.findings), *expected, "{body}");
        let shown = &tensors(&read.message(b"").to_bytes());
        assert!(!shown.is_empty());
    }
}

#[test]
fn all_problems_are_reported_and_few_are_kept() {
    let body = r#"{"instances":[[1,null,"a"],[true,5]]}"#;
    let findings = read_for(&["x:float:[-1,3]"], body, &OPTIONS).unwrap_err();
    assert_eq!(kinds(&findings), [Kind::Null, Kind::StringForNumber, Kind::BoolForNumber, Kind::Ragged]);
    let many = format!(r#"{{"instances":[{}1.0],"signature_name":7}}"#, "null,".repeat(5_000));
    let findings = read_for(&["x:int32:[-1]"], &many, &OPTIONS).unwrap_err();
    assert_eq!((findings.count(Severity::Problem), findings.count(Severity::Repaired)), (5_001, 1));
    assert_eq!(problems(&findings).len(), 32);
}

#[test]
fn a_wrong_name_keeps_its_values_for_the_engine() {
    let two: &[&str] = &["k:int32:[-1]", "x:float:[-1,2]"];
    let read = read_for(two, r#"{"instances":[{"x_":[1,2],"k":1},{"k":2,"x_":[3,4]}]}"#, &OPTIONS).unwrap();
    let found = tensors(&read.message(b"").to_bytes());
    assert_eq!((found["x_"].dtype, &*found["x_"].shape), (DataType::FLOAT, [2, 2].as_slice()));
    assert_eq!(read.format, Format::Row { instances: 2, plain: false });
    let body = r#"{"inputs":{"s":["a"],"i":[1,2],"f":[1,2.5],"b":[true]}}"#;
    let read = read_for(two, body, &OPTIONS).unwrap();
    let dtypes: Vec<_> = read.inputs.iter().map(|input| (input.name.as_str(), input.dtype)).collect();
    let expected =
        [("s", DataType::STRING), ("i", DataType::INT64), ("f", DataType::FLOAT), ("b", DataType::BOOL)];
    assert_eq!(dtypes, expected);
}

#[test]
fn complex_numbers_are_pairs_or_real() {
    let value = |shape: &str, body: &str| {
        let read = read_for(&[&format!("x:complex64:{shape}")], body, &OPTIONS).unwrap();
        let input = &read.inputs[0];
        let bytes = input.values.to_bytes();
        let reals = bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()));
        (input.shape.to_vec(), reals.collect::<Vec<_>>())
    };
    assert_eq!(value("[-1]", r#"{"inputs":[[1,2],[3,4]]}"#), (vec![2], vec![1., 2., 3., 4.]));
    assert_eq!(value("[-1]", r#"{"instances":[[1,2]]}"#), (vec![1], vec![1., 2.]));
    assert_eq!(value("[-1]", r#"{"inputs":[1,2]}"#), (vec![2], vec![1., 0., 2., 0.]));
    assert_eq!(value("[-1,2]", r#"{"inputs":[[1,2]]}"#), (vec![1, 2], vec![1., 0., 2., 0.]));
    assert_eq!(value("[]", r#"{"inputs":[1,2]}"#), (vec![], vec![1., 2.]));
    assert_eq!(value("unknown rank", r#"{"inputs":[[1,2]]}"#), (vec![1], vec![1., 2.]));
}

#[test]
fn a_signature_name_may_come_last() {
    let (one, other) = (super::support::of(&["x:float:[-1]"]), super::support::of(&["s:string:[-1]"]));
    let choose = |name: &str| Some(if name == "other" { other.clone() } else { one.clone() });
    let body = br#"{"instances":["a","b"],"signature_name":"other"}"#;
    let read = crate::rest::read::read(body, &choose, &OPTIONS).unwrap();
    assert!(read.findings.is_empty());
    assert_eq!((read.inputs[0].name.as_str(), &*read.inputs[0].shape), ("s", [2].as_slice()));
}

#[test]
fn limits_hold() {
    let body = format!(r#"{{"instances":[{}1]}}"#, "1,".repeat(5_000));
    for limited in [Options { max_elements: 5_000, ..OPTIONS }, Options { max_bytes: 20_003, ..OPTIONS }] {
        let findings = read_for(&["x:float:[-1]"], &body, &limited).unwrap_err();
        assert_eq!(kinds(&findings), [Kind::TooLarge]);
    }
    let enough = Options { max_elements: 5_001, max_bytes: 20_004, ..OPTIONS };
    assert!(read_for(&["x:float:[-1]"], &body, &enough).is_ok());
    let deep = |levels| format!(r#"{{"inputs":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert!(read_for(&["x:float:unknown rank"], &deep(254), &OPTIONS).is_ok());
    for levels in [255, 100_000] {
        let findings = read_for(&["x:float:unknown rank"], &deep(levels), &OPTIONS).unwrap_err();
        assert_eq!(kinds(&findings), [Kind::TooDeep]);
    }
}
