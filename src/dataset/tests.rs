//! Files that NumPy and TensorFlow have written are read with the statistics that NumPy computes.
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use super::*;
use crate::profile::{By, FeatureProfile, Profile, QUANTILES};
use crate::tensor::DataType;

pub(super) fn fixture(name: &str) -> PathBuf {
    let folder = std::env::var_os("PROFILE_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/profile"),
        PathBuf::from,
    );
    folder.join(name)
}

pub(super) fn options(columns: &[(&str, &[&str])]) -> Options {
    let columns = columns.iter().map(|(input, columns)| {
        ((*input).to_owned(), columns.iter().map(|column| (*column).to_owned()).collect())
    });
    Options { columns: columns.collect(), input: Some("x".to_owned()), ..Options::default() }
}

pub(super) fn read(name: &str, options: Options) -> Result<Profile, Fault> {
    let mut collector = Collector::new(options);
    let mut told = 0;
    read_file(&fixture(name), None, &mut collector, &mut |bytes| told = bytes)?;
    assert!(told > 0, "{name}: no progress");
    Ok(collector.finish())
}

fn text(name: &str, content: &[u8], options: Options) -> Result<Profile, Fault> {
    let folder = std::env::temp_dir().join(format!("tfs-sidecar-dataset-{}-{name}", std::process::id()));
    let mut file = std::fs::File::create(&folder).unwrap();
    file.write_all(content).unwrap();
    let mut collector = Collector::new(options);
    let read = read_file(&folder, Format::of_name(&PathBuf::from(name)), &mut collector, &mut |_| {});
    std::fs::remove_file(&folder).unwrap();
    read.map(|()| collector.finish())
}

/// Compares features with what NumPy says. `precision` is relative to the deviation.
pub(super) fn is_as_numpy_says(features: &[FeatureProfile], of: &str) {
    let all: Value =
        serde_json::from_str(&std::fs::read_to_string(fixture("expected.json")).unwrap()).unwrap();
    let expected = all[of].as_array().unwrap();
    assert_eq!(features.len(), expected.len());
    for (feature, expected) in features.iter().zip(expected) {
        let number = |key: &str| expected[key].as_f64().unwrap();
        assert_eq!(feature.count as f64, number("count"));
        for (key, found) in [
            ("missing", feature.missing),
            ("min", feature.min),
            ("max", feature.max),
            ("mean", feature.mean),
            ("std", feature.std),
            ("integral", feature.integral),
            ("zero", feature.zero),
        ] {
            let expected = number(key);
            assert!(
                (found - expected).abs() <= 1e-8 * (1.0 + expected.abs()),
                "{key}: {found}, not {expected}"
            );
        }
        // NumPy interpolates between two values, and so does the digest. Between few values they
        // differ.
        if feature.count < 50 {
            continue;
        }
        let quantiles = expected["quantiles"].as_array().unwrap();
        for ((found, expected), share) in feature.quantiles.iter().zip(quantiles).zip(QUANTILES) {
            let expected = expected.as_f64().unwrap();
            let near = 0.25 * feature.std.max(1e-9) * if (0.04..0.96).contains(&share) { 1.0 } else { 4.0 };
            assert!((found - expected).abs() <= near, "{share}: {found}, not {expected}");
        }
    }
}

const NAMES: &[&str] = &["age", "income", "children"];

#[test]
fn every_format_has_the_statistics_that_numpy_computes() {
    for (file, options) in [
        ("x.npy", options(&[])),
        ("fortran.npy", options(&[])),
        ("x.npz", options(&[])),
        ("x.csv", options(&[("x", NAMES)])),
        ("x.jsonl", options(&[])),
        ("examples.tfrecord.gz", options(&[])),
        ("tf_serving_warmup_requests", options(&[])),
    ] {
        let profile = read(file, options).unwrap_or_else(|fault| panic!("{file}: {fault}"));
        assert_eq!(profile.rows, 200, "{file}");
        let x = &profile.inputs["x"];
        assert_eq!(x.by, By::Feature, "{file}");
        let expected = if file == "fortran.npy" { DataType::DOUBLE } else { DataType::FLOAT };
        assert_eq!(x.dtype, expected, "{file}");
        is_as_numpy_says(&x.features, "x");
        if file == "x.csv" {
            assert_eq!(x.names, NAMES);
        } else if file != "x.npy" && file != "fortran.npy" {
            let country = profile.inputs["country"].text.as_ref().unwrap_or_else(|| panic!("{file}"));
            assert_eq!(country.values, [("de".to_owned(), 0.5), ("fr".to_owned(), 0.5)], "{file}");
            assert!(country.complete && country.count == 200, "{file}");
        }
        assert_eq!(Profile::from_yaml(&profile.to_yaml()), Ok(profile), "{file}");
    }
}

#[test]
fn every_dtype_and_order_of_an_array_is_read() {
    let profile = read("dtypes.npz", options(&[])).unwrap();
    let dtype = |name: &str| profile.inputs[name].dtype.name().into_owned();
    let names = ["image", "half", "ints", "unsigned", "flags", "bytes", "scalar", "late"];
    let dtypes = names.map(dtype);
    assert_eq!(dtypes, ["uint8", "half", "int16", "uint64", "bool", "string", "double", "int32"]);
    assert_eq!(profile.inputs["image"].by, By::Channel);
    for name in ["image", "late", "half"] {
        is_as_numpy_says(&profile.inputs[name].features, name);
    }
    let [flags] = profile.inputs["flags"].features.as_slice() else { panic!() };
    assert_eq!((flags.min, flags.max, flags.integral), (0.0, 1.0, 1.0));
    let counts = &profile.inputs["ints"].features;
    assert_eq!(counts, &profile.inputs["unsigned"].features);
    let bytes = profile.inputs["bytes"].text.as_ref().unwrap();
    assert_eq!((bytes.count, bytes.values.len(), bytes.length.max), (6, 3, 2.0));
    assert_eq!(profile.inputs["scalar"].features[0].mean, 2.5);
}

#[test]
fn missing_values_are_counted_and_left_out_of_the_rest() {
    let profile = read("missing.npy", options(&[])).unwrap();
    is_as_numpy_says(&profile.inputs["x"].features, "missing");
}

#[test]
fn a_prediction_log_has_inputs_and_outputs() {
    let profile = read("tf_serving_warmup_requests", options(&[])).unwrap();
    let flag = &profile.inputs["flag"];
    // One value in the message stands for all 50 of each request.
    assert_eq!((flag.dtype, flag.features[0].count, flag.features[0].mean), (DataType::INT8, 200, 1.0));
    assert_eq!(profile.inputs["country"].text.as_ref().unwrap().count, 200);
    let y = &profile.outputs["y"].features[0];
    let age = &profile.inputs["x"].features[0];
    assert!((y.mean - age.mean / 100.0).abs() < 1e-6 && y.count == 200);
}

#[test]
fn each_column_is_an_input_unless_the_user_says_otherwise() {
    let profile = read("x.csv", options(&[])).unwrap();
    let names: Vec<&String> = profile.inputs.keys().collect();
    assert_eq!(names, ["age", "children", "country", "income", "is new", "label"]);
    assert_eq!(profile.inputs["is new"].dtype, DataType::BOOL);
    let two = read("x.csv", options(&[("a", &["income", "age"]), ("b", &["country"])])).unwrap();
    assert_eq!(two.inputs.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(two.inputs["a"].names, ["income", "age"]);
    assert_eq!(two.inputs["a"].features[1], profile.inputs["age"].features[0]);
}

#[test]
fn missing_cells_are_numbers_or_strings_like_the_rest_of_their_column() {
    let content = b"\xef\xbb\xbfa;b;c;d\nNA;;;1\n1.5;x;;2\nnan;NA;;3\n";
    let profile = text("cells.csv", content, options(&[])).unwrap();
    let feature = |name: &str| &profile.inputs[name].features[0];
    assert_eq!((feature("a").count, feature("a").mean), (3, 1.5));
    assert!((feature("a").missing - 2.0 / 3.0).abs() < 1e-8);
    assert_eq!((feature("c").count, feature("c").missing, profile.rows), (3, 1.0, 3));
    let b = profile.inputs["b"].text.as_ref().unwrap();
    assert_eq!(b.values.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>(), ["", "NA", "x"]);
}

#[test]
fn a_mistake_in_a_table_is_reported_with_its_line() {
    let csv = |content: &str, options: Options| {
        text("mistake.csv", content.as_bytes(), options).unwrap_err().to_string()
    };
    for (content, expected) in [
        ("a,b\n1,2\n3\n", "line 3: expected 2 columns as in the header, got 1"),
        (
            "a,b\n1,2\n3,four\n",
            "line 3: column `b`: expected a number as in the rows before, got `four` (if the column has texts, say --dtype INPUT=string)",
        ),
        ("a,a\n1,2\n", "line 1: two columns have the same name"),
        ("a,\n1,2\n", "line 1: a column has no name in the header"),
    ] {
        assert_eq!(csv(content, options(&[])), expected);
    }
    let absent = csv("a,b\n1,2\n", options(&[("x", &["a", "c"])]));
    assert_eq!(absent, "line 1: there is no column `c` in the header");
    let near = csv("income,b\n1,2\n", options(&[("x", &["incom", "b"])]));
    assert_eq!(near, "line 1: there is no column `incom` in the header (did you mean `income`?)");
    let text_in_vector = csv("a,b\n1,x\n", options(&[("x", &["a", "b"])]));
    assert_eq!(text_in_vector, "line 2: column `b`: expected a number, got a string");
    let long = format!("a\n\"{}", "x".repeat(17 << 20));
    assert!(csv(&long, options(&[])).contains("the record is too long"));
    let strings = Options { dtypes: [("b".to_owned(), DataType::STRING)].into(), ..options(&[]) };
    let profile = text("zip.csv", b"a,b\n1,02134\n3,x\n", strings).unwrap();
    assert_eq!(profile.inputs["b"].text.as_ref().unwrap().count, 2);
}

#[test]
fn lines_of_json_have_shapes() {
    let json = |content: &str| text("some.jsonl", content.as_bytes(), options(&[]));
    let profile = json("{\"m\": [[1, 2], [3, null]], \"s\": {\"b64\": \"YWI=\"}, \"t\": true}\n\n{\"m\": [[1, 2], [3, 5]], \"t\": null}\n").unwrap();
    assert_eq!(profile.inputs["m"].by, By::Feature);
    assert_eq!(profile.inputs["m"].features[1].missing, 0.25);
    // A row without the key has an empty string.
    let s = &profile.inputs["s"].text.as_ref().unwrap().values;
    assert_eq!(s.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>(), ["", "ab"]);
    assert_eq!((profile.inputs["t"].features[0].missing, profile.inputs["t"].dtype), (0.5, DataType::BOOL));
    // Values without names are of the only input.
    assert_eq!(json("[1, 2]\n[3, 4]\n").unwrap().inputs["x"].features[1].mean, 3.0);
    for (content, expected) in [
        ("{\"a\": 1}\n{\"a\": [}\n", "line 2: invalid JSON at byte 7"),
        ("{\"a\": [[1, 2], [3]]}\n", "line 1: `a`: the lists have no common shape"),
        ("{\"a\": [1, [2]]}\n", "line 1: `a`: the lists have no common shape"),
        ("{\"a\": [1, 2]}\n{\"a\": [1, 2, 3]}\n", "line 2: `a`: `a` has 3 features here and 2 before"),
        ("{\"a\": [1, \"2\"]}\n", "line 1: `a`: a list has strings and other values"),
        ("{\"a\": 1}\n{\"a\": \"x\"}\n", "line 2: `a`: `a` has strings here and numbers before"),
        ("{\"a\": 1, \"a\": 2}\n", "line 1: `a`: the row has it twice"),
        ("{\"a\": {\"b\": 1}}\n", "line 1: `a`: expected an object with the single key `b64`"),
    ] {
        let fault = json(content).unwrap_err().to_string();
        assert!(fault.starts_with(expected), "{content}: {fault}");
    }
}

#[test]
fn a_scaler_computes_the_other_side() {
    let scaler =
        read_scaler(r#"{"kind": "standard", "mean": [40, 1000, 1], "scale": [12, 500, 2]}"#).unwrap();
    let with = |direction| {
        let mut collector = Collector::new(options(&[]));
        collector.scale(Some("x"), scaler.clone(), direction);
        read_file(&fixture("x.npy"), None, &mut collector, &mut |_| {}).unwrap();
        collector.finish().inputs.remove("x").unwrap()
    };
    let forward = with(Direction::Forward);
    is_as_numpy_says(forward.raw.as_ref().unwrap(), "x");
    let (raw, scaled) = (&forward.raw.as_ref().unwrap()[2], &forward.features[2]);
    assert!((scaled.mean - (raw.mean - 1.0) / 2.0).abs() < 1e-9);
    assert!((scaled.std - raw.std / 2.0).abs() < 1e-9);
    let back = with(Direction::Back);
    is_as_numpy_says(&back.features, "x");
    assert_eq!(back.raw.as_ref().unwrap()[2].integral, 1.0);
    let mut collector = Collector::new(options(&[]));
    collector.scale(
        None,
        read_scaler(r#"{"kind": "standard", "mean": [1, 2], "scale": [1, 2]}"#).unwrap(),
        Direction::Back,
    );
    let fault = read_file(&fixture("x.npy"), None, &mut collector, &mut |_| {}).unwrap_err();
    assert_eq!(
        fault.text,
        "the scaler has numbers for 2 features, `x` has 3 (the input must have the scaler's columns in its order; \
         for another input: --scaler INPUT=FILE)"
    );
}

#[test]
fn the_dtype_that_is_sent_and_the_grouping_can_be_given() {
    let given = Options {
        dtypes: [("x".to_owned(), DataType::HALF)].into(),
        by: [("x".to_owned(), By::Whole)].into(),
        ..options(&[])
    };
    let profile = read("x.npy", given).unwrap();
    assert_eq!((profile.inputs["x"].dtype, profile.inputs["x"].features[0].count), (DataType::HALF, 600));
    let wrong = Options { dtypes: [("x".to_owned(), DataType::STRING)].into(), ..options(&[]) };
    assert_eq!(read("x.npy", wrong).unwrap_err().text, "`x` has values of dtype float, not of string");
}
