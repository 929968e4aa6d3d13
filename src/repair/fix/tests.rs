//! Lines in every language for what is sent wrong.
use super::*;
use crate::repair::{REPAIRS, Reason};
use crate::tensor::{DataType, PartialShape, Shape};

const LANGUAGES: [Language; 7] = [
    Language::Python,
    Language::Go,
    Language::Java,
    Language::Node,
    Language::Dotnet,
    Language::Rest,
    Language::Other,
];

fn info(dtype: DataType, dims: &[i64]) -> TensorInfo {
    TensorInfo {
        alias: "x".to_owned(),
        tensor_name: "x:0".to_owned(),
        dtype,
        shape: PartialShape::Known(dims.iter().copied().collect::<Shape>()),
        has_default: false,
    }
}

fn lines(kind: &str, change: &str) -> Vec<String> {
    let declared = info(DataType::FLOAT, &[-1, 128]);
    let mistake = Mistake { kind, input: "x", change, declared: Some(&declared) };
    LANGUAGES.iter().map(|language| line(&mistake, *language)).collect()
}

#[test]
fn a_missing_batch_dimension_is_added() {
    assert_eq!(
        lines("add_batch_dim", "[128]->[1,128]"),
        [
            "x = np.expand_dims(x, 0)",
            "TensorShape: &TensorShapeProto{Dim: []*TensorShapeProto_Dim{{Size: 1}, {Size: 128}}},",
            ".setTensorShape(TensorShapeProto.newBuilder().addDim(TensorShapeProto.Dim.newBuilder().setSize(1)).addDim(TensorShapeProto.Dim.newBuilder().setSize(128)))",
            "tensor_shape: {dim: [{size: 1}, {size: 128}]},",
            "TensorShape = new TensorShapeProto { Dim = { new TensorShapeProto.Types.Dim { Size = 1 }, new TensorShapeProto.Types.Dim { Size = 128 } } },",
            "[[x1, ..., x128]]  (under \"instances\" or \"inputs\")",
            "Add the batch dimension: send shape [1,128].",
        ]
    );
}

#[test]
fn another_dtype_is_cast() {
    assert_eq!(
        lines("cast_round", "double->float lossy"),
        [
            "x = x.astype(np.float32)",
            "Dtype: DataType_DT_FLOAT, FloatVal: x,",
            ".setDtype(DataType.DT_FLOAT).addAllFloatVal(x)",
            "dtype: \"DT_FLOAT\", float_val: x,",
            "Dtype = DataType.DtFloat, FloatVal = { x },",
            "Send numbers (float).",
            "Send dtype DT_FLOAT, with the values in `float_val`.",
        ]
    );
}

#[test]
fn names_are_replaced_and_quoted() {
    assert_eq!(
        lines("rename_single", "ima\"ge->images"),
        [
            r#"request.inputs["images"].CopyFrom(tensor)  # not "ima\"ge""#,
            r#"request.Inputs["images"] = tensor // not "ima\"ge""#,
            r#"request.putInputs("images", tensor); // not "ima\"ge""#,
            r#"inputs: {"images": tensor}, // not "ima\"ge""#,
            r#"request.Inputs["images"] = tensor; // not "ima\"ge""#,
            r#""images": x  (not "ima\"ge")"#,
            r#"Send the input as "images", not as "ima\"ge"."#,
        ]
    );
    assert_eq!(
        lines("drop_extra", "user_id->")[0],
        "del request.inputs[\"user_id\"]  # not in the signature"
    );
    assert_eq!(lines("only_signature", "->predict")[0], "request.model_spec.signature_name = \"predict\"");
}

#[test]
fn the_number_of_rows_stays_open() {
    assert_eq!(lines("flatten", "[5,8,16]->[5,128]")[0], "x = np.reshape(x, [-1, 128])");
    assert_eq!(lines("flatten", "[8,16]->[1,128]")[0], "x = np.reshape(x, [1, 128])");
    assert_eq!(lines("flatten", "[5,8,16]->[5,128]")[3], "tensor_shape: {dim: [{size: rows}, {size: 128}]},");
}

/// A `reshape` of values that do not fit would be a wrong answer, or another number of rows.
#[test]
fn a_refused_shape_is_not_reshaped() {
    for kind in ["RANK_TOO_LOW", "RANK_TOO_HIGH", "DIM_MISMATCH", "SHAPE_MISMATCH"] {
        assert_eq!(lines(kind, ""), ["Send shape [rows,128]."; 7], "{kind}");
    }
}

/// A cast would hide what the refusal is about: values that the dtype does not have.
#[test]
fn values_that_would_be_lost_are_not_cast() {
    for kind in ["CAST_OUT_OF_RANGE", "CAST_INEXACT", "INTEGER_FOR_FLOAT"] {
        for line in lines(kind, "") {
            assert!(!line.contains("astype") && line.ends_with('.'), "{line}");
        }
    }
    assert_eq!(lines("DTYPE_MISMATCH", "")[0], "tf.make_tensor_proto(x, dtype=tf.float32)");
    let declared = info(DataType::INT32, &[-1]);
    let mistake = Mistake { kind: "DTYPE_MISMATCH", input: "x", change: "", declared: Some(&declared) };
    assert_eq!(line(&mistake, Language::Python), "Send dtype DT_INT32, with the values in `int_val`.");
}

#[test]
fn json_has_no_fields_of_a_tensor() {
    let of = |dtype: DataType| {
        let declared = info(dtype, &[-1]);
        line(
            &Mistake { kind: "DTYPE_MISMATCH", input: "x", change: "", declared: Some(&declared) },
            Language::Rest,
        )
    };
    assert_eq!(of(DataType::INT64), "Send whole numbers (int64).");
    assert_eq!(of(DataType::STRING), "Send strings (string).");
    assert_eq!(of(DataType::BOOL), "Send `true` or `false` (bool).");
}

#[test]
fn every_rule_and_reason_has_a_line_in_every_language() {
    let kinds = REPAIRS.iter().map(|rule| rule.name).chain(Reason::ALL.iter().map(|reason| reason.as_str()));
    for kind in kinds {
        for (language, line) in LANGUAGES.iter().zip(lines(kind, "a->b")) {
            assert!(!line.is_empty() && !line.contains('\n'), "{kind} {language}: {line}");
        }
        let unknown = Mistake { kind, input: "", change: "", declared: None };
        for language in LANGUAGES {
            assert!(!line(&unknown, language).is_empty(), "{kind} {language}");
        }
    }
    assert_eq!(lines("NO_SUCH_KIND", "a->b"), [""; 7]);
}

#[test]
fn bit_patterns_are_not_put_into_lists_of_numbers() {
    let declared = info(DataType::HALF, &[-1]);
    let mistake =
        Mistake { kind: "cast_checked", input: "x", change: "float->half", declared: Some(&declared) };
    assert_eq!(line(&mistake, Language::Python), "x = x.astype(np.float16)");
    assert_eq!(line(&mistake, Language::Go), "Send dtype DT_HALF, with the values in `half_val`.");
}
