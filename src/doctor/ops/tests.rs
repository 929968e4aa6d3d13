//! The table is small and complete, and errors about operations lead to releases and packages.
use super::*;

fn release(version: &str) -> Release {
    Release::parse(version).unwrap().0
}

#[test]
fn the_table_is_small_and_has_all_releases() {
    assert!(COMPRESSED.len() <= 200_000, "{} bytes", COMPRESSED.len());
    let all: Vec<String> = Release::all().map(|release| release.to_string()).collect();
    let expected: Vec<String> = (4..=21).map(|minor| format!("2.{minor}")).collect();
    assert_eq!(all, expected);
    assert!(TABLE.ops.is_sorted_by_key(|line| line.split(' ').next().unwrap()));
    // `graph_run_options` of 1,800 operations: every release has at least 1,500.
    for release in Release::all() {
        let ops = TABLE.ops.iter().filter_map(|line| Op::find(line.split(' ').next().unwrap()));
        assert!(ops.filter(|op| op.is_in(release)).count() > 1_500, "{release}");
    }
    assert_eq!((release("2.4").graph_version(), release("2.21").graph_version()), (561, 2474));
}

#[test]
fn versions_are_read_as_people_write_them() {
    for (text, minor, is_known) in [
        ("2.15", "2.15", true),
        ("2.15.1", "2.15", true),
        ("v2.16.0-rc1", "2.16", true),
        ("2.99", "2.21", false),
    ] {
        assert_eq!(
            Release::parse(text).map(|(it, known)| (it.to_string(), known)),
            Ok((minor.into(), is_known))
        );
    }
    assert_eq!(Release::parse("1.15"), Err(VersionError::Old("1.15".to_owned())));
    assert_eq!(Release::parse("latest"), Err(VersionError::Invalid("latest".to_owned())));
    assert_eq!(Release::parse("2"), Err(VersionError::Invalid("2".to_owned())));
}

#[test]
fn operations_have_their_first_and_last_release_and_their_dtypes() {
    let xla = Op::find("XlaCallModule").unwrap();
    assert_eq!((xla.first, xla.last), (release("2.10"), release("2.21")));
    let platforms = xla.attr("platforms").unwrap();
    assert_eq!((platforms.first, platforms.has_default), (release("2.13"), true));
    assert!(!xla.attr("module").unwrap().has_default);
    let gather = Op::find("GatherV2").unwrap().attr("Tindices").unwrap();
    let int16 = 1 << 5;
    assert_eq!((gather.types(release("2.8")) & int16, gather.types(release("2.9")) & int16), (0, int16));
    assert_eq!(Op::find("GatherV2").unwrap().attr("Tparams").unwrap().types(release("2.4")), u64::MAX);
    assert!(Op::find("NoSuchOp").is_none() && Op::find("").is_none());
    assert!(!release("2.4").ignores_attributes() && release("2.5").ignores_attributes());
}

#[test]
fn an_error_about_an_operation_says_which_release_or_package_has_it() {
    let unregistered = |op: &str| {
        of_error(&format!("NOT_FOUND: Op type not registered '{op}' in binary running on host. Make sure"))
            .unwrap()
    };
    assert!(unregistered("XlaCallModule").contains("since TensorFlow 2.10"));
    assert!(unregistered("MatMul").contains("every TensorFlow since 2.4"));
    assert!(unregistered("PyFunc").contains("calls Python"));
    assert!(unregistered("TFText>WhitespaceTokenizeWithOffsetsV2").contains("tensorflow_text"));
    assert!(unregistered("SimpleMLInferenceOpWithHandle").contains("2.11"));
    assert!(unregistered("TreePredictions").contains("tf.contrib"));
    assert!(unregistered("att_sum_bahdanau").contains("custom op"));
    let attr = |text: &str| of_error(text).unwrap();
    assert!(
        attr("NodeDef mentions attr 'batch_dims' not in Op<name=GatherV2; signature=params:Tparams>")
            .contains("every TensorFlow since 2.4")
    );
    assert!(
        attr("NodeDef mentions attr 'grad_a' not in Op<name=MatMul; s>").contains("since TensorFlow 2.16")
    );
    assert!(attr("NodeDef mentions attr 'index_type' not in Op<name=Fill>").contains("index_type"));
    assert_eq!(of_error("In[0] is not a matrix"), None);
}
