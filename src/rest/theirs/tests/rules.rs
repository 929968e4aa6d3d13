//! Rules that no recorded request shows, from the sources of TF Serving and its libraries.
use prost::Message as _;

use crate::rest::theirs::{Code, Document, Doubts, Refusal, decimal, examples, refusal};
use crate::signature::{Signature, Signatures, TensorInfo};
use crate::tensor::{DataType, PartialShape};

/// One signature, `serving_default`, with these inputs.
pub(super) fn signatures(inputs: &[(&str, DataType)]) -> Signatures {
    let info = |(alias, dtype): &(&str, DataType)| TensorInfo {
        alias: (*alias).to_owned(),
        tensor_name: String::new(),
        dtype: *dtype,
        shape: PartialShape::UnknownRank,
        has_default: false,
    };
    let signature = Signature {
        name: "serving_default".to_owned(),
        inputs: inputs.iter().map(info).collect(),
        outputs: Vec::new(),
        method_name: String::new(),
    };
    [signature].into_iter().collect()
}

fn text(body: &str, inputs: &[(&str, DataType)]) -> Option<String> {
    refusal(body.as_bytes(), &signatures(inputs)).map(|refusal| refusal.lossy().into_owned())
}

fn float(body: &str) -> Option<String> {
    text(body, &[("x", DataType::FLOAT)])
}

fn string(body: &str) -> Option<String> {
    text(body, &[("x", DataType::STRING)])
}

#[track_caller]
fn quotes(value: &str, expected: &str) {
    let found = Document::read(value.as_bytes()).unwrap_err();
    assert_eq!(found.lossy(), format!("JSON Value: {expected} Is not object"));
}

#[test]
fn a_quote_ends_at_a_number_that_is_not_finite() {
    quotes("[1, NaN, 2]", "[1, ");
    quotes("[[Infinity]]", "[[");
    quotes("-Infinity", "");
    quotes("[1.7976931348623159e308]", "[");
}

#[test]
fn a_quote_escapes_as_little_as_it_can() {
    quotes(r#""\u0000\u001f\b\f\n\r\t\"\\\/\u00e9""#, "\"\\u0000\\u001F\\b\\f\\n\\r\\t\\\"\\\\/\u{e9}\"");
    quotes("[{}, [], {\"a\": {}}]", "[{}, [], {\n        \"a\": {}\n    }]");
}

#[test]
fn numbers_are_quoted_as_rapidjson_writes_them() {
    for (value, expected) in [
        (5e-7, "5e-7"),
        (0.000_012_5, "0.0000125"),
        (1e20, "100000000000000000000.0"),
        (123e19, "1.23e21"),
        (f64::from_bits(0x43f0_0000_0000_0000), "18446744073709553000.0"),
        (-2.5, "-2.5"),
        (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
    ] {
        let mut out = Vec::new();
        decimal::put(&mut out, value);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn base64_is_read_as_absl_reads_it() {
    for right in ["", "MQ", "MQ==", "MQ..", " M Q\\u000b=\\t= ", "MTI", "MTI=", "MTIz", "MR=="] {
        assert_eq!(string(&format!("{{\"inputs\":{{\"b64\":\"{right}\"}}}}")), None, "{right}");
    }
    for wrong in ["M", "MQ=", "MTI==", "MTIz=", "=", "MQ==MQ", "-_", "\\u00e9", "MQ\\u0000"] {
        let found = string(&format!("{{\"inputs\":{{\"b64\":\"{wrong}\"}}}}"));
        assert_eq!(found.as_deref(), Some("Unable to base64 decode"), "{wrong}");
    }
}

/// Of a list that contains an error, the size is checked before its elements.
#[test]
fn the_outermost_wrong_size_comes_first() {
    let size = |size, level, expected| {
        Some(format!(
            "Encountered list at unexpected size: {size} at level: {level} expected size: {expected}"
        ))
    };
    assert_eq!(float("{\"inputs\":[[1,2],[\"a\"]]}"), size(1, 1, 2));
    assert_eq!(float("{\"inputs\":[[[1],[2]],[[\"a\",3]]]}"), size(1, 1, 2));
    assert_eq!(float("{\"inputs\":[[[1],[2]],[[3,4],[\"a\"]]]}"), size(2, 2, 1));
    assert_eq!(float("{\"inputs\":[[[[1]]],[[[2,3]],4]]}"), size(2, 1, 1));
    let element = float("{\"inputs\":[[1,2],[3,\"a\"],[4]]}");
    assert_eq!(element.unwrap(), "JSON Value: \"a\" Type: String is not of expected type: float");
}

#[test]
fn a_shape_is_taken_from_the_first_elements() {
    assert_eq!(float("{\"inputs\":[[],[]]}"), None);
    assert_eq!(float("{\"inputs\":[[[],[]],[[],[]]]}"), None);
    assert_eq!(
        float("{\"inputs\":[[],[[]]]}").unwrap(),
        "Encountered list at unexpected size: 1 at level: 1 expected size: 0"
    );
    assert_eq!(
        float("{\"instances\":[[[],[]],[[],[],[]]]}").unwrap(),
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape [2,0] \
         but got: [3,0]"
    );
}

#[test]
fn the_values_of_a_doubled_name_in_an_instance_are_both_checked() {
    assert_eq!(float("{\"instances\":[{\"x\":[1,2],\"x\":[3,4]}]}"), None);
    assert_eq!(
        float("{\"instances\":[{\"x\":[1,2],\"x\":3}]}").unwrap(),
        "Failed to process element: 0 key: x of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor \
         size: 2 but got: 1"
    );
    assert_eq!(float("{\"instances\":[{\"x\\u0000y\":1}]}"), None, "a C string ends at NUL");
    assert_eq!(float("{\"inputs\":{\"x\":1,\"x\":\"a\"}}"), None, "the first counts");
}

#[test]
fn the_inputs_of_a_row_are_compared_with_those_of_the_signature() {
    let two = [("a", DataType::FLOAT), ("b", DataType::FLOAT)];
    assert_eq!(text("{\"instances\":[{\"a\":1,\"b\":2},{\"b\":1,\"a\":2}]}", &two), None);
    assert_eq!(
        text("{\"instances\":[{\"a\":1,\"b\":2},{\"b\":1,\"b\":2}]}", &two).unwrap(),
        "Failed to process element: 1 of 'instances' list. JSON object: {\n    \"b\": 1,\n    \"b\": 2\n} keys \
         must be equal to: a,b"
    );
}

#[test]
fn an_error_in_a_column_has_its_own_code() {
    let half = [("x", DataType::HALF)];
    let column = refusal(b"{\"inputs\":1}", &signatures(&half)).unwrap();
    assert_eq!((column.code, column.code.number()), (Code::Unimplemented, 12));
    let row = refusal(b"{\"instances\":[1]}", &signatures(&half)).unwrap();
    assert_eq!((row.code, row.code.number()), (Code::InvalidArgument, 3));
    assert!(row.lossy().contains("UNIMPLEMENTED: Conversion of JSON Value: 1 to type: half"));
}

#[test]
fn names_of_the_default_signature_and_of_unknown_ones() {
    let none = Signatures::default();
    let text = |body: &[u8]| refusal(body, &none).unwrap();
    let missing = "Serving signature name: \"serving_default\" not found in signature def";
    assert_eq!(text(b"{}").lossy(), missing);
    assert_eq!(text(b"{\"signature_name\":\"\"}").lossy(), missing);
    let bytes = text(b"{\"signature_name\":\"\xff\"}");
    assert!(bytes.text.contains(&0xff), "bytes that are not UTF-8 are kept");
    let no_inputs = refusal(b"{}", &signatures(&[])).unwrap();
    assert_eq!(no_inputs.lossy(), "Failed to get input map for signature: DEFAULT");
}

fn doubts(body: &str) -> Doubts {
    examples(body.as_bytes(), |_| Vec::new(), usize::MAX).unwrap().doubts
}

#[test]
fn what_tf_serving_misreads_in_an_example_is_reported() {
    assert_eq!(doubts("{\"examples\":[{\"a\":1},{\"a\":1.5}]}"), Doubts::default());
    let doubled = doubts("{\"examples\":[{\"a\":1,\"b\":1,\"\\u0061\":2}]}");
    assert_eq!(doubled, Doubts { doubled: Some(35), overflow: None });
    let overflow = doubts("{\"examples\":[{\"a\":[1.5,1e39]}]}");
    assert_eq!(overflow, Doubts { doubled: None, overflow: Some(23) });
    assert_eq!(doubts("{\"examples\":[{\"a\":[Infinity]}]}"), Doubts::default());
}

#[test]
fn a_message_is_limited() {
    let body = b"{\"context\":{\"c\":true},\"signature_name\":\"s\",\"examples\":[{\"a\":[1,2,3]},{}]}";
    let read = |max| examples(body, |name| name.repeat(3), max);
    let all = read(usize::MAX).unwrap();
    assert_eq!((all.signature_name.as_slice(), all.examples), (b"s".as_slice(), 2));
    let length = all.message.len();
    assert_eq!(read(length).unwrap().message.to_bytes(), all.message.to_bytes());
    for max in 0..length {
        let Refusal { code, .. } = read(max).unwrap_err();
        assert_eq!(code, Code::ResourceExhausted);
    }
}

#[test]
fn large_and_small_examples_keep_their_order() {
    use crate::proto::tensorflow::serving::{ClassificationRequest, input::Kind};
    // Of a few bytes, and of more than a chunk.
    let counts = [1, 20_000, 2, 3, 30_000, 1];
    let example = |count: u32| {
        let features: Vec<String> = (0..count).map(|at| format!("\"f{at}\":{count}")).collect();
        format!("{{{}}}", features.join(","))
    };
    let body = |context: u32| {
        let all: Vec<String> = counts.iter().map(|count| example(*count)).collect();
        format!("{{\"context\":{},\"examples\":[{}]}}", example(context), all.join(","))
    };
    for context in [1, 20_000] {
        let made = examples(body(context).as_bytes(), |_| Vec::new(), usize::MAX).unwrap();
        let message = ClassificationRequest::decode(made.message.to_bytes()).unwrap();
        let Some(Kind::ExampleListWithContext(list)) = message.input.unwrap().kind else { panic!() };
        let size = |example: &crate::proto::tensorflow::Example| {
            example.features.as_ref().unwrap().feature.len() as u32
        };
        assert_eq!(list.examples.iter().map(size).collect::<Vec<u32>>(), counts);
        assert_eq!(list.context.as_ref().map(size), Some(context));
    }
}
