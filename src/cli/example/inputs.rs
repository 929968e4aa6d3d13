//! A value for each input of an example call: one row, and what the input's name and shape suggest.
use serde_json::Value;

use super::json;
use crate::repair::policy::{Literal, Policy};
use crate::repair::rules::{DEFAULT, SCALAR};
use crate::signature::{Signature, TensorInfo};
use crate::tensor::{DataType, ValueList};

/// An input of the example.
pub(super) struct Sample<'a> {
    info: &'a TensorInfo,
    dims: Vec<i64>,
    /// The elements as JSON. A single one stands for all.
    values: String,
    guess: Option<String>,
}

/// What an input is, by its name, dtype and shape and those of its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The values of a RaggedTensor.
    RaggedValues,
    /// Where the rows of a RaggedTensor begin and end: the last one ends at `end`.
    RowSplits {
        end: i64,
    },
    /// The dense shape of a SparseTensor.
    DenseShape,
    /// The indices of a SparseTensor.
    Indices,
    /// A serialized `tf.Example`.
    Example,
    /// An encoded image.
    ImageFile,
    /// The pixels of an image.
    Pixels,
    Plain,
}

/// A black PNG file of 32 x 32 RGB pixels. TensorFlow's decoders of images take any format.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAGUlEQVR42u3BMQEAAADCoPVP7WENoAAAAG4MIAABITLN7AAAAABJRU5ErkJggg==";
/// A `tf.Example` with an empty `Features`.
const EXAMPLE: &str = "CgA=";
/// The text "example". JSON has bytes in base64.
const TEXT: &str = "ZXhhbXBsZQ==";
/// The height and width of an image that declares none: pooling has to halve it a few times.
const IMAGE_SIZE: i64 = 224;
/// Levels of a ragged tensor that are looked at.
const MAX_PARTS: usize = 16;
/// The row splits of the example are 0 and this. With one value for each split, all parts of the
/// tensor have the same number of rows.
const RAGGED_VALUES: i64 = 2;

/// Why an input cannot be sent, if it cannot.
pub(super) fn unsendable(info: &TensorInfo) -> Option<String> {
    if info.tensor_name.is_empty() {
        let why = "a sparse or composite tensor, which Predict cannot send; export the model with the tensor's components as inputs";
        return Some(why.to_owned());
    }
    match info.dtype.info().map(|dtype| dtype.list) {
        None | Some(ValueList::ResourceHandle | ValueList::Variant) => {
            Some(format!("values of dtype {} cannot be sent", info.dtype))
        }
        Some(_) => None,
    }
}

pub(super) fn samples<'a>(signature: &'a Signature, policy: &Policy) -> Vec<Sample<'a>> {
    signature.inputs.iter().map(|info| sample(signature, info, policy)).collect()
}

impl Sample<'_> {
    pub(super) fn alias(&self) -> &str {
        &self.info.alias
    }

    /// `NAME: what is not certain`.
    pub(super) fn guess(&self) -> Option<String> {
        Some(format!("{}: {}", self.info.alias, self.guess.as_ref()?))
    }

    /// The TensorProto as JSON.
    pub(super) fn tensor(&self) -> String {
        let dims: Vec<String> = self.dims.iter().map(|size| format!("{{\"size\": {size}}}")).collect();
        format!(
            "{{\"dtype\": {}, \"tensor_shape\": {{\"dim\": [{}]}}, \"{}\": {}}}",
            json(&self.info.dtype.enum_name()),
            dims.join(", "),
            list(self.info).name(),
            self.values
        )
    }

    /// How many values the input has.
    pub(super) fn elements(&self) -> i64 {
        self.dims.iter().fold(1, |elements: i64, size| elements.saturating_mul(*size))
    }

    /// The values as nested lists, the way the REST API takes them.
    pub(super) fn nested(&self) -> String {
        let parsed = serde_json::from_str(&self.values).unwrap_or_default();
        let values: Vec<Value> = match list(self.info) {
            ValueList::SComplex | ValueList::DComplex => vec![parsed],
            ValueList::Float8 => vec![0.into()],
            ValueList::String => {
                let bytes = parsed.as_array().into_iter().flatten();
                bytes.map(|bytes| serde_json::json!({ "b64": bytes })).collect()
            }
            _ => parsed.as_array().cloned().unwrap_or_default(),
        };
        let mut next = 0;
        nested(&self.dims, &mut || {
            // The last value stands for all others.
            let value = values.get(next).or(values.last()).cloned().unwrap_or_default();
            next += 1;
            value
        })
        .to_string()
    }
}

/// Lists of these sizes, as deep as the signature is.
fn nested(dims: &[i64], value: &mut dyn FnMut() -> Value) -> Value {
    match dims {
        [] => value(),
        [size, inner @ ..] => (0..*size).map(|_| nested(inner, value)).collect(),
    }
}

fn list(info: &TensorInfo) -> ValueList {
    info.dtype.info().map_or(ValueList::Int, |dtype| dtype.list)
}

fn sample<'a>(signature: &'a Signature, info: &'a TensorInfo, policy: &Policy) -> Sample<'a> {
    let role = role(signature, info);
    let (mut dims, mut guess) = dims(info, role);
    let mut values = values(info, role, &dims);
    let setting = policy.input(&info.alias);
    if setting.is_some_and(|setting| setting.is_on(&SCALAR)) {
        (dims, guess) = (Vec::new(), None);
    }
    if let Some(value) =
        setting.and_then(|setting| setting.literal(&DEFAULT)).and_then(|value| literal(info, value))
    {
        values = value;
    } else if let Some(about) = about_values(info, role) {
        guess = Some(guess.map_or(about.clone(), |dims| format!("{about}; {dims}")));
    }
    if dims.contains(&0) {
        "[]".clone_into(&mut values);
    }
    Sample { info, dims, values, guess }
}

/// TensorFlow names the components of a composite tensor `NAME`, `NAME_1`, `NAME_2`: values and row
/// splits, outer ones first, of a RaggedTensor; indices, values and dense shape of a SparseTensor
/// (`ragged_tensor.py`, `sparse_tensor.py`).
fn role(signature: &Signature, info: &TensorInfo) -> Role {
    let (base, at) = match info.alias.rsplit_once('_') {
        Some((base, at)) if signature.input(base).is_some() => (base, at.parse().unwrap_or(0)),
        _ => (info.alias.as_str(), 0_usize),
    };
    let part = |at: usize| match at {
        0 => signature.input(base),
        at => signature.input(&format!("{base}_{at}")),
    };
    let is_int = |info: &TensorInfo| matches!(info.dtype, DataType::INT64 | DataType::INT32);
    let dims = |at: usize| part(at).and_then(|info| info.shape.dims());
    let sparse = part(0).is_some_and(|info| info.dtype == DataType::INT64)
        && part(2).is_some_and(|info| info.dtype == DataType::INT64)
        && matches!((dims(0), dims(1), dims(2)), (Some([_, _]), Some([_]), Some([_])))
        && part(3).is_none();
    let is_splits = |at: usize| part(at).is_some_and(is_int) && dims(at) == Some(&[-1]);
    let ragged = part(0).is_some_and(TensorInfo::has_rows)
        && part(1).is_some()
        && (1..=MAX_PARTS).take_while(|at| part(*at).is_some()).all(is_splits);
    match at {
        0 if sparse => Role::Indices,
        2 if sparse => Role::DenseShape,
        1 if sparse => Role::Plain,
        0 if ragged => Role::RaggedValues,
        at if ragged && at > 0 => {
            Role::RowSplits { end: if part(at + 1).is_none() { RAGGED_VALUES } else { 1 } }
        }
        _ if is_int(info) && info.alias.ends_with("row_splits") => Role::RowSplits { end: 1 },
        _ if is_int(info) && info.alias.ends_with("dense_shape") => Role::DenseShape,
        _ if info.dtype == DataType::STRING => string_role(signature, info),
        _ if image_axes(info).is_some() => Role::Pixels,
        _ => Role::Plain,
    }
}

fn string_role(signature: &Signature, info: &TensorInfo) -> Role {
    let name = format!("{} {}", info.alias, info.tensor_name).to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let classifies = ["classify", "regress"].iter().any(|method| signature.method_name.ends_with(method));
    if classifies || has(&["example", "serialized"]) {
        Role::Example
    } else if has(&["image", "img", "jpeg", "jpg", "png"])
        && !has(&["url", "uri", "path", "file", "_id", "label"])
    {
        Role::ImageFile
    } else {
        Role::Plain
    }
}

/// The axes of height and width, if the shape is that of images: `[n,h,w,3]` or `[n,3,h,w]`.
fn image_axes(info: &TensorInfo) -> Option<[usize; 2]> {
    match info.shape.dims()? {
        [_, _, _, 1 | 3 | 4] => Some([1, 2]),
        [_, 1 | 3 | 4, _, _] => Some([2, 3]),
        _ => None,
    }
}

/// The sizes to send, and what about them the signature leaves open.
fn dims(info: &TensorInfo, role: Role) -> (Vec<i64>, Option<String>) {
    let Some(declared) = info.shape.dims() else {
        let guess = "a scalar is sent, as the signature does not declare the rank: fill in the dims that the model requires";
        return (Vec::new(), Some(guess.to_owned()));
    };
    let rows = match role {
        Role::RaggedValues | Role::RowSplits { .. } => RAGGED_VALUES,
        _ => 1,
    };
    let axes = image_axes(info).filter(|_| role == Role::Pixels);
    let size = |(axis, size): (usize, &i64)| match (*size, axis) {
        (0.., _) => *size,
        (_, 0) => rows,
        (_, 1) if role == Role::Indices => 2,
        _ if axes.is_some_and(|axes| axes.contains(&axis)) => IMAGE_SIZE,
        _ => 1,
    };
    let dims: Vec<i64> = declared.iter().enumerate().map(size).collect();
    let open = declared.iter().skip(1).any(|size| *size < 0) && role != Role::Indices;
    let guess = open.then(|| {
        let sizes: Vec<String> = dims.iter().map(ToString::to_string).collect();
        format!("[{}] is sent where {} is declared", sizes.join(","), info.shape)
    });
    (dims, guess)
}

fn values(info: &TensorInfo, role: Role, dims: &[i64]) -> String {
    let text = match role {
        Role::Example => EXAMPLE,
        Role::ImageFile => PNG,
        _ => TEXT,
    };
    match (role, list(info)) {
        (Role::RowSplits { end }, _) => format!("[0, {end}]"),
        (Role::DenseShape, _) => {
            let rank = dims.first().copied().unwrap_or(1).clamp(1, 64);
            let sizes: Vec<&str> = (0..rank).map(|_| "1").collect();
            format!("[{}]", sizes.join(", "))
        }
        (_, ValueList::String) => format!("[\"{text}\"]"),
        (_, ValueList::Bool) => "[false]".to_owned(),
        (_, ValueList::Float8) => "\"AA==\"".to_owned(),
        (_, ValueList::SComplex | ValueList::DComplex) => "[0, 0]".to_owned(),
        _ => "[0]".to_owned(),
    }
}

/// A value of the configuration, where JSON can say it.
fn literal(info: &TensorInfo, value: &Literal) -> Option<String> {
    use base64::Engine as _;
    let value = match (list(info), value) {
        (ValueList::String, Literal::Text(text)) => json(&base64::prelude::BASE64_STANDARD.encode(text)),
        (ValueList::Bool, Literal::Bool(value)) => value.to_string(),
        (ValueList::Float | ValueList::Double, Literal::Float(value)) if value.is_finite() => {
            value.to_string()
        }
        (ValueList::Float | ValueList::Double, Literal::Int(value)) => value.to_string(),
        (ValueList::Int | ValueList::Int64 | ValueList::Uint32 | ValueList::Uint64, Literal::Int(value)) => {
            value.to_string()
        }
        _ => return None,
    };
    Some(format!("[{value}]"))
}

/// What about the values is a guess.
fn about_values(info: &TensorInfo, role: Role) -> Option<String> {
    let about = match role {
        Role::RaggedValues => {
            "read as the values of a ragged tensor, whose row splits are the inputs of this name with a number"
        }
        Role::RowSplits { .. } => {
            "read as the row splits of a ragged tensor: the last one is the number of values, or of the next level's rows"
        }
        Role::DenseShape => {
            "read as the dense shape of a sparse tensor: fill in the sizes that the model requires"
        }
        Role::Indices => "read as the indices of a sparse tensor",
        Role::Example => {
            "an empty tf.Example is sent, as the signature does not show the features: fill in the base64 of example.SerializeToString()"
        }
        Role::ImageFile => "a black PNG file of 32x32 pixels is sent: fill in the base64 of an image",
        Role::Plain if info.dtype == DataType::STRING => {
            "the text `example` is sent (bytes are base64 in JSON): fill in a value that the model can parse"
        }
        Role::Pixels | Role::Plain => return None,
    };
    Some(about.to_owned())
}
