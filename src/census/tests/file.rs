//! The census as a file.
use std::time::{Duration, SystemTime};

use super::super::file::{FileError, Traffic};
use super::super::outputs::SignatureOutputs;
use super::super::store::Counted;
use super::Judged;
use super::forecast::corpus;
use crate::repair::notation;
use crate::signature::Signatures;

fn written(forms: Vec<Counted>) -> Traffic {
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    Traffic { since: at(10), until: at(20), missed: 1, sidecars: 1, forms, outputs: Vec::new() }
}

fn served(version: i64, outputs: &[&str]) -> SignatureOutputs {
    let outputs = outputs.iter().map(|output| (*output).to_owned()).collect();
    SignatureOutputs { model: "m".to_owned(), version, signature: "serving_default".to_owned(), outputs }
}

#[test]
fn outputs_that_a_new_version_lacks_are_known_from_the_census() {
    let new = notation::signature("x:float[-1] -> y:float[-1]").unwrap();
    let counted = Judged::new("x:float[-1]", "x:float[2]").counted();
    let all = SignatureOutputs::of(&[counted.clone(), counted], |model, version, signature| {
        assert_eq!((model, version, signature), ("m", 1, "serving_default"));
        Some(vec!["y".to_owned(), "z".to_owned()])
    });
    assert_eq!(all, [served(1, &["y", "z"])]);
    assert_eq!(SignatureOutputs::gone(&all, "m", &new), ["z"]);
    assert!(SignatureOutputs::gone(&all, "another", &new).is_empty());
    // Those of the last version count.
    for all in [[served(2, &["y"]), served(1, &["y", "z"])], [served(1, &["y", "z"]), served(2, &["y"])]] {
        assert!(SignatureOutputs::gone(&all, "m", &new).is_empty());
    }
    let one = |outputs| Traffic { outputs: vec![outputs], ..written(Vec::new()) };
    let merged = Traffic::merge(vec![one(served(1, &["y"])), one(served(1, &["y"])), one(served(2, &["y"]))]);
    assert_eq!(merged.unwrap().outputs, [served(1, &["y"]), served(2, &["y"])]);
}

#[test]
fn a_census_is_read_as_it_was_written() {
    let (requests, signatures) = corpus();
    let signatures: Vec<Signatures> =
        signatures.iter().map(|text| notation::signature(text).unwrap()).collect();
    let forms =
        requests.iter().flat_map(|request| signatures.iter().map(|by| Judged::by(by, request).counted()));
    let mut traffic = written(forms.collect());
    traffic.outputs = vec![served(3, &["y", "z"])];
    let text = serde_json::to_vec(&traffic.to_json()).unwrap();
    assert_eq!(Traffic::read(&text).unwrap(), traffic);
}

#[test]
fn a_file_that_is_no_census_is_refused_with_its_place() {
    let text =
        serde_json::to_string(&written(vec![Judged::new("x:float[-1]", "x:float[2]").counted()]).to_json());
    let text = text.unwrap();
    let read = |old: &str, new: &str| {
        assert!(text.contains(old), "{text}");
        Traffic::read(text.replace(old, new).as_bytes()).unwrap_err().to_string()
    };
    assert_eq!(
        read("\"format\":1", "\"format\":2"),
        "format 2, expected 1 (it is of another version of tfs-sidecar)"
    );
    assert_eq!(read("\"[N]\"", "\"[X]\""), "form 0: `[X]` is no shape");
    assert_eq!(read("\"dtype\":\"float\"", "\"dtype\":\"flaot\""), "form 0: `flaot` is no dtype");
    let many = vec!["1"; 300].join(",");
    assert!(read("\"[N]\"", &format!("\"[{many}]\"")).ends_with("is no shape"));
    assert!(matches!(Traffic::read(b"[]"), Err(FileError::Json(_))));
    assert!(matches!(Traffic::read("[".repeat(1 << 20).as_bytes()), Err(FileError::Json(_))));
}

#[test]
fn counts_of_several_sidecars_are_added() {
    let form = |request: &str| Judged::new("x:float[-1]", request).counted();
    let (few, many) = (form("x:float[2]"), form("x:float[900]"));
    let merged = Traffic::merge(vec![written(vec![few, form("x:float[1]")]), written(vec![many])]).unwrap();
    assert_eq!((merged.sidecars, merged.missed, merged.forms.len()), (2, 2, 2));
    let both = merged.forms.iter().find(|counted| counted.requests == 2).unwrap();
    assert_eq!((both.sizes.rows.min, both.sizes.rows.max), (2, 900));
}

#[test]
fn no_value_is_kept() {
    let judged =
        Judged::new("x:int32[-1] s:string[-1]", "x:int64[2]{77001,5000077001} s:string[1]{secret77001}");
    let text = written(vec![judged.counted()]).to_json().to_string();
    assert!(!text.contains("77001") && !format!("{:?}", judged.form()).contains("77001"), "{text}");
}
