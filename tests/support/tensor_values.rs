//! The values of a tensor, independent of dtype and encoding, to compare what was sent with what
//! was forwarded.
use half::{bf16, f16};
use tfs_sidecar::proto::tensorflow::TensorProto;

/// One value. Equal values of different dtypes are equal, and so are the two zeros.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Int(i128),
    /// A fraction, an infinity, or a number too large for `Int`.
    Real(f64),
    /// Any NaN.
    NotANumber,
    Complex(f64, f64),
    Text(Vec<u8>),
}

/// The values in the order of the tensor: from `tensor_content` if it has any, otherwise from the
/// list that has some.
pub fn values(tensor: &TensorProto) -> Vec<Value> {
    if tensor.tensor_content.is_empty() {
        listed(tensor)
    } else {
        content(tensor.dtype, &tensor.tensor_content)
    }
}

/// The value rounded to float32.
pub fn rounded(value: &Value) -> Value {
    match value {
        Value::Int(int) => real(f64::from(*int as f32)),
        Value::Real(number) => real(f64::from(*number as f32)),
        other => other.clone(),
    }
}

fn real(number: f64) -> Value {
    match number {
        _ if number.is_nan() => Value::NotANumber,
        _ if number.fract() == 0.0 && number.abs() < 1e30 => Value::Int(number as i128),
        _ => Value::Real(number),
    }
}

fn complex(re: f64, im: f64) -> Value {
    if im == 0.0 { real(re) } else { Value::Complex(re, im) }
}

fn listed(tensor: &TensorProto) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    all.extend(tensor.float_val.iter().map(|value| real(f64::from(*value))));
    all.extend(tensor.double_val.iter().map(|value| real(*value)));
    all.extend(tensor.int_val.iter().map(|value| Value::Int(i128::from(*value))));
    all.extend(tensor.int64_val.iter().map(|value| Value::Int(i128::from(*value))));
    all.extend(tensor.uint32_val.iter().map(|value| Value::Int(i128::from(*value))));
    all.extend(tensor.uint64_val.iter().map(|value| Value::Int(i128::from(*value))));
    all.extend(tensor.bool_val.iter().map(|value| Value::Int(i128::from(*value))));
    all.extend(tensor.string_val.iter().map(|value| Value::Text(value.to_vec())));
    all.extend(tensor.half_val.iter().map(|bits| {
        let bits = *bits as u16;
        real(if tensor.dtype == 14 { bf16::from_bits(bits).to_f64() } else { f16::from_bits(bits).to_f64() })
    }));
    let singles = tensor.scomplex_val.chunks_exact(2);
    all.extend(singles.map(|pair| complex(f64::from(pair[0]), f64::from(pair[1]))));
    all.extend(tensor.dcomplex_val.chunks_exact(2).map(|pair| complex(pair[0], pair[1])));
    all
}

fn content(dtype: i32, bytes: &[u8]) -> Vec<Value> {
    fn each<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> Value) -> Vec<Value> {
        bytes.chunks_exact(N).map(|chunk| read(chunk.try_into().unwrap())).collect()
    }
    let int = |value: i128| Value::Int(value);
    let single = |bytes: [u8; 8]| {
        let half = |at: usize| f64::from(f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()));
        complex(half(0), half(4))
    };
    let double = |bytes: [u8; 16]| {
        let half = |at: usize| f64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        complex(half(0), half(8))
    };
    match dtype {
        1 => each(bytes, |value| real(f64::from(f32::from_le_bytes(value)))),
        2 => each(bytes, |value| real(f64::from_le_bytes(value))),
        3 | 13 => each(bytes, |value| int(i32::from_le_bytes(value).into())),
        4 | 10 | 12 => each(bytes, |value| int(u8::from_le_bytes(value).into())),
        5 | 15 => each(bytes, |value| int(i16::from_le_bytes(value).into())),
        6 | 11 => each(bytes, |value| int(i8::from_le_bytes(value).into())),
        // Raw bytes: TensorFlow's own encoding of strings is never repaired.
        7 => vec![Value::Text(bytes.to_vec())],
        8 => each(bytes, single),
        9 => each(bytes, |value| int(i64::from_le_bytes(value).into())),
        14 => each(bytes, |value| real(bf16::from_le_bytes(value).to_f64())),
        16 | 17 => each(bytes, |value| int(u16::from_le_bytes(value).into())),
        18 => each(bytes, double),
        19 => each(bytes, |value| real(f16::from_le_bytes(value).to_f64())),
        22 => each(bytes, |value| int(u32::from_le_bytes(value).into())),
        23 => each(bytes, |value| int(u64::from_le_bytes(value).into())),
        other => panic!("no test has content of dtype {other}"),
    }
}
