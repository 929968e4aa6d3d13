//! Random outputs of every dtype and shape: the JSON has the same values in the same order.
use std::collections::HashMap;

use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;

use super::golden_tests::meaning;
use super::{Format, predict};
use crate::proto::tensorflow::serving::PredictResponse;
use crate::proto::tensorflow::{TensorProto, TensorShapeProto, tensor_shape_proto::Dim};
use crate::rest::random::Random;
use crate::tensor::{Cast, DataType, Exactness};
use crate::wire::Rope;

const MAX: usize = 1 << 30;

fn tensor(dtype: DataType, dims: &[usize]) -> TensorProto {
    let dim = dims.iter().map(|size| Dim { size: *size as i64, name: String::new() }).collect();
    let shape = TensorShapeProto { dim, unknown_rank: false };
    TensorProto { dtype: dtype.number(), tensor_shape: Some(shape), ..TensorProto::default() }
}

fn message(outputs: Vec<(&str, TensorProto)>, cut: usize) -> Rope {
    let outputs: HashMap<String, TensorProto> =
        outputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
    let bytes = PredictResponse { outputs, model_spec: None }.encode_to_vec();
    bytes.chunks(cut).map(Bytes::copy_from_slice).collect()
}

/// The texts of all values in order, of which complex numbers are two.
fn leaves(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| leaves(value, into)),
        Value::String(text) => into.push(text.trim_start_matches('#').to_owned()),
        other => into.push(other.to_string()),
    }
}

/// Whether an array is nested as a shape says.
fn has_shape(value: &Value, dims: &[usize]) -> bool {
    match (value, dims) {
        (Value::Array(values), [size, inner @ ..]) => {
            values.len() == *size && values.iter().all(|value| has_shape(value, inner))
        }
        (Value::Array(_), []) => false,
        (_, dims) => dims.is_empty(),
    }
}

fn dims(random: &mut Random) -> Vec<usize> {
    let rank = random.below(5) as usize;
    (0..rank).map(|_| if random.below(12) == 0 { 0 } else { 1 + random.below(4) as usize }).collect()
}

#[test]
fn numbers_of_every_dtype_come_back() {
    let mut random = Random::new(7);
    let numeric = DataType::all().filter(|dtype| Cast::new(*dtype, *dtype, Exactness::Exact).is_some());
    let numeric: Vec<DataType> = numeric.collect();
    assert_eq!(numeric.len(), 25);
    for round in 0..200 * numeric.len() {
        let dtype = numeric[round % numeric.len()];
        let size = dtype.size().unwrap();
        let complex = matches!(dtype, DataType::COMPLEX64 | DataType::COMPLEX128);
        let dims = dims(&mut random);
        let elements: usize = dims.iter().product();
        let mut content: Vec<u8> = (0..elements * size).map(|_| random.next() as u8).collect();
        if dtype == DataType::BOOL {
            for byte in &mut content {
                *byte &= 1;
            }
        }
        let mut sent = tensor(dtype, &dims);
        let mut values = content.clone();
        if random.below(2) == 0 && elements > 0 && !matches!(size, 1 | 2) {
            // A list, whose last value stands for all that follow.
            let listed = 1 + random.below(elements as u64) as usize;
            for element in listed..elements {
                values.copy_within((listed - 1) * size..listed * size, element * size);
            }
            fill_list(&mut sent, dtype, &values[..listed * size]);
        } else {
            sent.tensor_content = content.into();
        }
        let cut = 1 + random.below(40) as usize;
        let message = message(vec![("y", sent)], cut);
        let format = if dims.is_empty() || round % 2 == 0 { Format::Column } else { Format::Row };
        let json = meaning(&predict(&message, format, MAX).unwrap().json);
        let printed = &json[if format == Format::Row { "predictions" } else { "outputs" }];
        let mut nested = dims.clone();
        nested.extend(complex.then_some(2));
        let nested = match nested.iter().position(|size| *size == 0) {
            Some(empty) => &nested[..=empty],
            None => &nested[..],
        };
        assert!(has_shape(printed, nested), "{dtype} {dims:?} {printed}");
        let mut texts = Vec::new();
        leaves(printed, &mut texts);
        let back: Vec<u8> = texts.iter().flat_map(|text| encode(dtype, text)).collect();
        assert_eq!(same_nan(dtype, &back), same_nan(dtype, &values), "{dtype} {dims:?} {texts:?}");
    }
}

/// The bytes of a number as its dtype has it, rounded to the nearest.
fn encode(dtype: DataType, text: &str) -> Vec<u8> {
    let through = |real: DataType, bytes: &[u8]| {
        let mut out = Vec::new();
        Cast::new(real, dtype, Exactness::Round).unwrap().convert(bytes, &mut out);
        out
    };
    match dtype {
        DataType::FLOAT | DataType::COMPLEX64 => text.parse::<f32>().unwrap().to_le_bytes().to_vec(),
        DataType::DOUBLE | DataType::COMPLEX128 => text.parse::<f64>().unwrap().to_le_bytes().to_vec(),
        DataType::BOOL => vec![u8::from(text.parse::<bool>().unwrap())],
        DataType::UINT64 => text.parse::<u64>().unwrap().to_le_bytes().to_vec(),
        _ => match text.parse::<i64>() {
            Ok(integer) => through(DataType::INT64, &integer.to_le_bytes()),
            Err(_) => through(DataType::DOUBLE, &text.parse::<f64>().unwrap().to_le_bytes()),
        },
    }
}

/// The values as float64 with one NaN, or the bytes of integers.
fn same_nan(dtype: DataType, bytes: &[u8]) -> Vec<u64> {
    let real = match dtype {
        DataType::COMPLEX64 => DataType::FLOAT,
        DataType::COMPLEX128 => DataType::DOUBLE,
        real => real,
    };
    if matches!(real, DataType::INT64 | DataType::UINT64) {
        return bytes.chunks(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap())).collect();
    }
    let mut wide = Vec::new();
    Cast::new(real, DataType::DOUBLE, Exactness::Round).unwrap().convert(bytes, &mut wide);
    let value = |chunk: &[u8]| f64::from_le_bytes(chunk.try_into().unwrap());
    wide.chunks(8)
        .map(value)
        .map(|value| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() })
        .collect()
}

fn fill_list(tensor: &mut TensorProto, dtype: DataType, bytes: &[u8]) {
    let four =
        |bytes: &[u8]| bytes.chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<_>>();
    let eight =
        |bytes: &[u8]| bytes.chunks(8).map(|b| u64::from_le_bytes(b.try_into().unwrap())).collect::<Vec<_>>();
    match dtype {
        DataType::FLOAT => tensor.float_val = four(bytes).into_iter().map(f32::from_bits).collect(),
        DataType::COMPLEX64 => tensor.scomplex_val = four(bytes).into_iter().map(f32::from_bits).collect(),
        DataType::DOUBLE => tensor.double_val = eight(bytes).into_iter().map(f64::from_bits).collect(),
        DataType::COMPLEX128 => tensor.dcomplex_val = eight(bytes).into_iter().map(f64::from_bits).collect(),
        DataType::INT32 => tensor.int_val = four(bytes).into_iter().map(|bits| bits as i32).collect(),
        DataType::INT64 => tensor.int64_val = eight(bytes).into_iter().map(|bits| bits as i64).collect(),
        DataType::UINT32 => tensor.uint32_val = four(bytes),
        DataType::UINT64 => tensor.uint64_val = eight(bytes),
        other => panic!("{other}"),
    }
}

#[test]
fn lists_of_narrow_dtypes_are_read() {
    let cases = [
        (
            DataType::INT8,
            TensorProto { int_val: vec![-128, 127], ..tensor(DataType::INT8, &[3]) },
            "[-128,127,127]",
        ),
        (
            DataType::UINT16,
            TensorProto { int_val: vec![65535], ..tensor(DataType::UINT16, &[2]) },
            "[65535,65535]",
        ),
        (
            DataType::HALF,
            TensorProto { half_val: vec![0x3c00, 0x7c00], ..tensor(DataType::HALF, &[2]) },
            "[1.0,Infinity]",
        ),
        (DataType::BOOL, TensorProto { bool_val: vec![true], ..tensor(DataType::BOOL, &[2]) }, "[true,true]"),
        (
            DataType::FLOAT8_E5M2,
            TensorProto { float8_val: vec![0x3c, 0xbc].into(), ..tensor(DataType::FLOAT8_E5M2, &[2]) },
            "[1.0,-1.0]",
        ),
        (DataType::FLOAT, tensor(DataType::FLOAT, &[2]), "[0.0,0.0]"),
        (
            DataType::COMPLEX64,
            TensorProto { scomplex_val: vec![1.0, 2.0], ..tensor(DataType::COMPLEX64, &[2]) },
            "[[1.0,2.0],[1.0,2.0]]",
        ),
        (
            DataType::STRING,
            TensorProto { string_val: vec!["a".into()], ..tensor(DataType::STRING, &[2]) },
            "[\"a\",\"a\"]",
        ),
        (DataType::STRING, tensor(DataType::STRING, &[]), "\"\""),
    ];
    for (dtype, tensor, expected) in cases {
        let body = predict(&message(vec![("y", tensor)], 7), Format::Column, MAX).unwrap().json;
        let text: String = String::from_utf8(body).unwrap().split_whitespace().collect();
        assert_eq!(text, format!("{{\"outputs\":{expected}}}"), "{dtype}");
    }
}

#[test]
fn several_outputs_are_cut_into_rows() {
    let mut random = Random::new(3);
    for _ in 0..300 {
        let rows = random.below(4) as usize;
        let width = random.below(3) as usize;
        let floats: Vec<f32> = (0..rows * width).map(|at| at as f32).collect();
        let strings: Vec<Bytes> = (0..rows).map(|at| Bytes::from(format!("\"{at}\u{1}\""))).collect();
        let a = TensorProto { float_val: floats.clone(), ..tensor(DataType::FLOAT, &[rows, width]) };
        let b = TensorProto { string_val: strings.clone(), ..tensor(DataType::STRING, &[rows]) };
        let message = message(vec![("b", b), ("a", a)], 1 + random.below(30) as usize);
        let json: Value = serde_json::from_slice(&predict(&message, Format::Row, MAX).unwrap().json).unwrap();
        let expected: Vec<Value> = (0..rows)
            .map(|row| serde_json::json!({"a": floats[row * width..][..width], "b": format!("\"{row}\u{1}\"")}))
            .collect();
        assert_eq!(json, serde_json::json!({"predictions": expected}));
    }
}

#[test]
fn a_claimed_shape_takes_neither_time_nor_memory() {
    let huge: [&[usize]; 5] =
        [&[1 << 40], &[1 << 40, 0], &[1, 1 << 30, 1 << 30], &[1 << 62], &[3, 1 << 50, 0, 7]];
    for dims in huge {
        for dtype in [DataType::FLOAT, DataType::STRING, DataType::COMPLEX128, DataType::INT8] {
            for format in [Format::Row, Format::Column] {
                let one = message(vec![("y", tensor(dtype, dims))], 100);
                let refusal = predict(&one, format, 1 << 20).unwrap_err();
                assert!(refusal.text.contains("limit 1048576"), "{refusal}");
                let two = message(vec![("y", tensor(dtype, dims)), ("z", tensor(dtype, dims))], 100);
                assert_eq!(predict(&two, format, 1 << 20).unwrap_err(), refusal, "{dims:?}");
            }
        }
    }
    let overflow = message(vec![("y", tensor(DataType::FLOAT, &[1 << 40, 1 << 40]))], 100);
    assert_eq!(predict(&overflow, Format::Row, MAX).unwrap_err().code, 13);
}

#[test]
fn the_limit_is_exact() {
    let values = TensorProto { float_val: vec![0.123_456_79; 5000], ..tensor(DataType::FLOAT, &[50, 100]) };
    let message = message(vec![("y", values)], 1000);
    for format in [Format::Row, Format::Column] {
        let length = predict(&message, format, MAX).unwrap().json.len();
        assert_eq!(predict(&message, format, length).unwrap().json.len(), length);
        assert_eq!(predict(&message, format, length - 1).unwrap_err().code, 8);
    }
}

#[test]
fn a_message_that_cannot_be_read_is_an_internal_error() {
    let short = TensorProto { tensor_content: vec![0; 7].into(), ..tensor(DataType::FLOAT, &[2]) };
    let strings = TensorProto { tensor_content: vec![1; 7].into(), ..tensor(DataType::STRING, &[2]) };
    let mut negative = tensor(DataType::FLOAT, &[2]);
    negative.tensor_shape.as_mut().unwrap().dim[0].size = -1;
    let mut unknown = tensor(DataType::FLOAT, &[]);
    unknown.tensor_shape.as_mut().unwrap().unknown_rank = true;
    for tensor in [short, strings, negative, unknown] {
        let refusal = predict(&message(vec![("y", tensor)], 100), Format::Column, MAX).unwrap_err();
        assert_eq!(refusal.code, 13, "{refusal}");
    }
    assert_eq!(predict(&Rope::from(vec![0x0a, 200]), Format::Column, MAX).unwrap_err().code, 13);
    let empty = predict(&Rope::new(), Format::Column, MAX).unwrap_err();
    assert_eq!((empty.code, empty.text.as_str()), (3, "Cannot convert empty tensor map to JSON"));
    let handle = message(vec![("y", tensor(DataType::RESOURCE, &[1]))], 100);
    let refusal = predict(&handle, Format::Column, MAX).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.text.as_str()),
        (3, "Failed to write JSON value for tensor type: resource")
    );
}

#[test]
fn an_answer_names_its_version_and_the_output_that_was_not_utf8() {
    use crate::proto::tensorflow::serving::ModelSpec;
    use crate::proto::tensorflow::serving::model_spec::VersionChoice;
    let text =
        TensorProto { string_val: vec![Bytes::from_static(b"\xff\xfe")], ..tensor(DataType::STRING, &[1]) };
    let spec = ModelSpec { version_choice: Some(VersionChoice::Version(3)), ..ModelSpec::default() };
    let outputs = [("y".to_owned(), text.clone()), ("z_bytes".to_owned(), text)].into();
    let response = PredictResponse { outputs, model_spec: Some(spec) };
    let answer = predict(&Rope::from(response.encode_to_vec()), Format::Row, MAX).unwrap();
    assert_eq!((answer.version, answer.replaced.as_deref()), (Some(3), Some("y")));
    assert!(String::from_utf8(answer.json).unwrap().contains("\"//4=\""));
}
