//! Statistics and a schema that TensorFlow Data Validation has written, and Parquet.
use std::path::Path;

#[cfg(feature = "parquet")]
use super::tests::is_as_numpy_says;
use super::tests::{fixture, options, read};
use super::*;
use crate::profile::By;
use crate::tensor::DataType;

#[test]
fn the_statistics_of_tfdv_are_those_of_the_data() {
    for file in ["FeatureStats.pb", "stats_tfrecord"] {
        let profile = read(file, options(&[])).unwrap();
        assert_eq!(profile.rows, 200);
        let names: Vec<&str> = profile.inputs.keys().map(String::as_str).collect();
        assert_eq!(names, ["age", "children", "country", "income"]);
        let (age, children) = (&profile.inputs["age"], &profile.inputs["children"]);
        assert_eq!((age.dtype, children.dtype, age.by), (DataType::FLOAT, DataType::INT64, By::Whole));
        let data = read("x.csv", options(&[])).unwrap();
        for (name, tensor) in [("age", age), ("children", children)] {
            let (found, own) = (&tensor.features[0], &data.inputs[name].features[0]);
            assert_eq!((found.count, found.min, found.max), (200, own.min, own.max), "{name}");
            assert!((found.mean - own.mean).abs() < 1e-5 && (found.std - own.std).abs() < 1e-5, "{name}");
            assert!((found.zero - own.zero).abs() < 1e-9, "{name}");
            // The statistics have deciles; what is beyond the first and the last is interpolated.
            for (at, (found, quantile)) in found.quantiles.iter().zip(own.quantiles).enumerate() {
                let near = if (2..5).contains(&at) { 0.5 } else { 2.0 };
                assert!((found - quantile).abs() <= near * own.std, "{name}: {found}, not {quantile}");
            }
        }
        // A fourth of the incomes, and a tenth of the countries, were removed.
        let income = &profile.inputs["income"].features[0];
        assert_eq!((income.count, income.missing), (200, 0.25));
        let country = profile.inputs["country"].text.as_ref().unwrap();
        assert_eq!((country.count, country.empty, country.complete), (200, 0.1, true));
        assert_eq!(country.values, [("fr".to_owned(), 0.5), ("de".to_owned(), 0.4)]);
        assert_eq!((country.length.min, country.length.max), (2.0, 2.0));
    }
}

#[test]
fn columns_of_statistics_are_joined_like_those_of_tables() {
    let profile = read("FeatureStats.pb", options(&[("x", &["children", "age"])])).unwrap();
    let x = &profile.inputs["x"];
    assert_eq!((x.by, x.dtype, x.names.len(), profile.inputs.len()), (By::Feature, DataType::FLOAT, 2, 1));
    assert_eq!((x.features[0].mean, x.features[0].integral), (1.12, 1.0));
    let absent = read("FeatureStats.pb", options(&[("x", &["height"])])).unwrap_err();
    assert_eq!(absent.text, "there are no statistics of `height`");
    let text = read("FeatureStats.pb", options(&[("x", &["age", "country"])])).unwrap_err();
    assert_eq!(text.text, "column `country`: expected numbers, got strings");
    let mut collector = Collector::new(options(&[]));
    let mut twice = || read_file(&fixture("FeatureStats.pb"), None, &mut collector, &mut |_| {});
    assert_eq!(twice(), Ok(()));
    assert!(twice().unwrap_err().text.contains("has statistics already"));
}

#[test]
fn other_bytes_are_no_statistics() {
    let mut collector = Collector::new(options(&[]));
    let mut read = |name: &str| read_file(&fixture(name), Some(Format::Tfdv), &mut collector, &mut |_| {});
    for name in ["x.npy", "x.csv", "dtypes.npz", "expected.json"] {
        assert!(read(name).is_err(), "{name}");
    }
}

#[test]
fn a_schema_widens_ranges_and_sets() {
    let text = std::fs::read_to_string(fixture("schema.pbtxt")).unwrap();
    let schema = Schema::parse(&text).unwrap();
    let mut profile = read("FeatureStats.pb", options(&[])).unwrap();
    assert_eq!(schema.apply(&mut profile), Vec::<String>::new());
    let children = &profile.inputs["children"].features[0];
    assert_eq!((children.min, children.max), (0.0, 12.0));
    let country = profile.inputs["country"].text.as_ref().unwrap();
    assert_eq!(country.values.last(), Some(&("it".to_owned(), 0.0)));
    assert!(country.complete);
    assert_eq!(crate::profile::Profile::from_yaml(&profile.to_yaml()), Ok(profile));
    // The same for a column of an input of several.
    let mut joined = read("x.csv", options(&[("x", &["age", "children"])])).unwrap();
    schema.apply(&mut joined);
    assert_eq!(joined.inputs["x"].features[1].max, 12.0);
    assert_eq!(joined.inputs["x"].features[1].values, []);
}

#[test]
fn what_contradicts_a_schema_is_said() {
    let schema = Schema::parse(
        "feature {\n  name: 'age'\n  float_domain { min: 20 max: 60 }\n}\n\
         feature: { name: \"country\" string_domain < value: [\"d\" 'e', \"\\x66\\162\", 'x'] > };\n",
    )
    .unwrap();
    let mut profile = read("x.csv", options(&[])).unwrap();
    let before = profile.inputs["age"].clone();
    assert_eq!(schema.apply(&mut profile), ["`age`: the data has values outside of the schema's domain"]);
    assert_eq!(profile.inputs["age"], before);
    assert_eq!(profile.inputs["country"].text.as_ref().unwrap().values.len(), 3);
    for (text, expected) in [
        ("feature {\n name: \"x\n}", "line 2: a string is not closed"),
        ("feature {\n", "line 2: a `}` is missing"),
        ("}", "line 1: `}` without `{`"),
        ("feature [", "line 1: expected `:` or `{` after `feature`"),
        ("feature { name ! }", "line 1: expected `:` or `{` after `name`"),
        ("a: [", "line 1: expected a value, got ``"),
    ] {
        assert_eq!(Schema::parse(text).unwrap_err().to_string(), expected, "{text}");
    }
    assert!(Schema::parse(&"a {".repeat(100)).unwrap_err().text.contains("nest too deeply"));
}

/// The constants that `tfdv.rs` reads by, with their messages and fields in the `.proto` file.
#[test]
fn the_numbers_of_fields_are_those_of_the_proto_file() {
    use super::tfdv::field::*;
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/tensorflow_metadata/proto/v0");
    let proto = std::env::var_os("PROFILE_PROTO").map_or(proto, Into::into);
    let statistics = std::fs::read_to_string(proto.join("statistics.proto")).unwrap();
    let path = std::fs::read_to_string(proto.join("path.proto")).unwrap();
    for (text, message, field, number) in [
        (&statistics, "DatasetFeatureStatisticsList", "datasets", LIST_DATASETS),
        (&statistics, "DatasetFeatureStatistics", "name", DATASET_NAME),
        (&statistics, "DatasetFeatureStatistics", "num_examples", DATASET_NUM_EXAMPLES),
        (&statistics, "DatasetFeatureStatistics", "features", DATASET_FEATURES),
        (&statistics, "FeatureNameStatistics", "name", FEATURE_NAME),
        (&statistics, "FeatureNameStatistics", "type", FEATURE_TYPE),
        (&statistics, "FeatureNameStatistics", "num_stats", FEATURE_NUM_STATS),
        (&statistics, "FeatureNameStatistics", "string_stats", FEATURE_STRING_STATS),
        (&statistics, "FeatureNameStatistics", "path", FEATURE_PATH),
        (&path, "Path", "step", PATH_STEP),
        (&statistics, "CommonStatistics", "num_non_missing", COMMON_NUM_NON_MISSING),
        (&statistics, "CommonStatistics", "num_missing", COMMON_NUM_MISSING),
        (&statistics, "CommonStatistics", "tot_num_values", COMMON_TOT_NUM_VALUES),
        (&statistics, "NumericStatistics", "common_stats", NUM_COMMON_STATS),
        (&statistics, "NumericStatistics", "mean", NUM_MEAN),
        (&statistics, "NumericStatistics", "std_dev", NUM_STD_DEV),
        (&statistics, "NumericStatistics", "num_zeros", NUM_NUM_ZEROS),
        (&statistics, "NumericStatistics", "min", NUM_MIN),
        (&statistics, "NumericStatistics", "median", NUM_MEDIAN),
        (&statistics, "NumericStatistics", "max", NUM_MAX),
        (&statistics, "NumericStatistics", "histograms", NUM_HISTOGRAMS),
        (&statistics, "Histogram", "num_nan", HISTOGRAM_NUM_NAN),
        (&statistics, "Histogram", "buckets", HISTOGRAM_BUCKETS),
        (&statistics, "Histogram", "type", HISTOGRAM_TYPE),
        (&statistics, "Histogram", "low_value", BUCKET_LOW_VALUE),
        (&statistics, "Histogram", "high_value", BUCKET_HIGH_VALUE),
        (&statistics, "Histogram", "sample_count", BUCKET_SAMPLE_COUNT),
        (&statistics, "StringStatistics", "common_stats", STRING_COMMON_STATS),
        (&statistics, "StringStatistics", "unique", STRING_UNIQUE),
        (&statistics, "StringStatistics", "top_values", STRING_TOP_VALUES),
        (&statistics, "StringStatistics", "rank_histogram", STRING_RANK_HISTOGRAM),
        (&statistics, "RankHistogram", "buckets", RANK_BUCKETS),
        (&statistics, "RankHistogram", "low_rank", RANK_LOW),
        (&statistics, "RankHistogram", "high_rank", RANK_HIGH),
        (&statistics, "RankHistogram", "label", RANK_LABEL),
        (&statistics, "RankHistogram", "sample_count", RANK_SAMPLE_COUNT),
        (&statistics, "StringStatistics", "value", TOP_VALUE),
        (&statistics, "StringStatistics", "frequency", TOP_FREQUENCY),
    ] {
        // The message and those inside it, up to the next one at the top.
        let start = text.find(&format!("\nmessage {message} {{")).unwrap_or_else(|| panic!("{message}"));
        let body = text[start..].split("\n}").next().unwrap();
        let wanted = format!(" {field} = {number};");
        let optioned = format!(" {field} = {number} [");
        assert!(body.contains(&wanted) || body.contains(&optioned), "{message}.{field} is not {number}");
    }
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_has_the_statistics_that_numpy_computes() {
    let profile = read("x.parquet", options(&[])).unwrap();
    is_as_numpy_says(&profile.inputs["x"].features, "x");
    assert_eq!((profile.rows, profile.inputs["x"].by), (200, By::Feature));
    assert_eq!(profile.inputs["children"].dtype, DataType::INT64);
    let country = profile.inputs["country"].text.as_ref().unwrap();
    assert_eq!((country.count, country.empty), (200, 0.1));
    let joined = read("x.parquet", options(&[("j", &["children", "age"])])).unwrap();
    assert_eq!(joined.inputs["j"].features[1], profile.inputs["age"].features[0]);
    assert!(read("x.parquet", options(&[("j", &["height"])])).is_err());
}

#[cfg(not(feature = "parquet"))]
#[test]
fn without_the_feature_parquet_is_an_unknown_format() {
    let fault = read("x.parquet", options(&[])).unwrap_err();
    assert!(fault.text.starts_with("unknown ending"), "{fault}");
}
