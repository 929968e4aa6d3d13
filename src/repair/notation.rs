//! Signatures and requests as one line of text, for the command line, the docs and test tables.
//!
//! ```text
//! signature := ("@" name)? input* (" -> " output*)?
//! input     := name ("=" graph tensor)? ":" dtype shape
//! request   := ("@" name)? tensor*
//! tensor    := name ":" dtype shape ("@" field)? ("=" count)? ("{" value,... "}")?
//! ```
//! Signatures: `x:float[-1,128]`, `x:float` (unknown rank),
//! `x=serving_default_x:0:float[-1,2] -> y:float[-1,10]`.
//!
//! Tensors of a request have the values in braces, or otherwise as many ones as their shape has
//! elements (`=6` for another count). The values are in `tensor_content`, or in the named field
//! (`x:float[1,2]@int_val`). Strings are `text`.
use super::policy::Literal;
use crate::signature::{Signature, Signatures, TensorInfo};
use crate::tensor::{Cast, DataType, Exactness, PartialShape, Shape, ValueList};
use crate::wire::emit;
use crate::wire::rope::Rope;

/// Maximum number of values of a tensor in this notation, which is typed by hand.
const MAX_VALUES: u64 = 1 << 24;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotationError {
    #[error("expected `name:dtype[shape]`, got `{found}`")]
    Tensor { found: String },
    #[error("expected a dtype such as float or int64, got `{found}`")]
    Dtype { found: String },
    #[error("expected a shape such as [1,128], got `{found}`")]
    Shape { found: String },
    #[error("expected a field such as tensor_content or float_val, got `{found}`")]
    Field { found: String },
    #[error("expected a value of dtype {dtype}, got `{found}`")]
    Value { dtype: DataType, found: String },
    #[error("too many values: {found} (limit {MAX_VALUES})")]
    TooMany { found: u64 },
}

/// Parses a signature. Its name is `serving_default` unless one is given.
///
/// # Errors
/// If the text is not in the notation.
pub fn signature(text: &str) -> Result<Signatures, NotationError> {
    let (inputs, outputs) = text.split_once("->").unwrap_or((text, ""));
    let mut name = crate::signature::DEFAULT_SIGNATURE.to_owned();
    let mut infos = |side: &str| -> Result<Vec<TensorInfo>, NotationError> {
        let mut all = Vec::new();
        for word in side.split_whitespace() {
            match word.strip_prefix('@') {
                Some(given) => given.clone_into(&mut name),
                None => all.push(info(word)?),
            }
        }
        Ok(all)
    };
    let (inputs, outputs) = (infos(inputs)?, infos(outputs)?);
    Ok([Signature { name, inputs, outputs, method_name: String::new() }].into_iter().collect())
}

fn info(word: &str) -> Result<TensorInfo, NotationError> {
    let (name, typed) =
        word.rsplit_once(':').ok_or_else(|| NotationError::Tensor { found: word.to_owned() })?;
    let (alias, tensor_name) = name.split_once('=').unwrap_or((name, ""));
    let (dtype, shape) = typed.split_at(typed.find('[').unwrap_or(typed.len()));
    let shape = match shape {
        "" => PartialShape::UnknownRank,
        shape => {
            PartialShape::parse(shape).ok_or_else(|| NotationError::Shape { found: shape.to_owned() })?
        }
    };
    let dtype = parse_dtype(dtype)?;
    Ok(TensorInfo {
        alias: alias.to_owned(),
        tensor_name: tensor_name.to_owned(),
        dtype,
        shape,
        has_default: false,
    })
}

/// Builds a Predict request for a model of this name.
///
/// # Errors
/// If the text is not in the notation.
pub fn request(model: &str, text: &str) -> Result<Rope, NotationError> {
    let mut spec = emit::field(1, Rope::from(model.as_bytes().to_vec()));
    let mut inputs = Rope::new();
    for word in text.split_whitespace() {
        match word.strip_prefix('@') {
            Some(name) => spec.append(emit::field(3, Rope::from(name.as_bytes().to_vec()))),
            None => inputs.append(tensor(word)?),
        }
    }
    let mut message = emit::field(1, spec);
    message.append(inputs);
    Ok(message)
}

/// Builds one entry of a request's `inputs`.
///
/// # Errors
/// If the word is not in the notation.
pub fn tensor(word: &str) -> Result<Rope, NotationError> {
    let wrong = || NotationError::Tensor { found: word.to_owned() };
    let (spec, values) = match word.split_once('{') {
        Some((spec, values)) => (spec, Some(values.strip_suffix('}').ok_or_else(wrong)?)),
        None => (word, None),
    };
    let bracket = spec.rfind(']').map_or(spec.len(), |at| at + 1);
    let (typed, mut rest) = spec.split_at(bracket);
    let (name, typed) = typed.rsplit_once(':').ok_or_else(wrong)?;
    let (dtype, shape) = typed.split_at(typed.find('[').unwrap_or(typed.len()));
    let dtype = parse_dtype(dtype)?;
    let shape = Shape::parse(shape).ok_or_else(|| NotationError::Shape { found: shape.to_owned() })?;
    let mut count = shape.elements().unwrap_or(0);
    let mut field = if dtype.size().is_some() { "tensor_content" } else { "string_val" };
    while !rest.is_empty() {
        let next = rest[1..].find(['@', '=']).map_or(rest.len(), |at| at + 1);
        let (part, after) = rest.split_at(next);
        match part.split_at(1) {
            ("@", given) => field = given,
            ("=", given) => count = given.parse().map_err(|_| wrong())?,
            _ => return Err(wrong()),
        }
        rest = after;
    }
    let values: Vec<Literal> = match values {
        Some(list) => {
            // Digits in a string tensor are text.
            let parse = |value: &str| match dtype {
                DataType::STRING => Literal::Text(value.to_owned()),
                _ => literal(value),
            };
            list.split(',').filter(|value| !value.is_empty()).map(parse).collect()
        }
        None if count > MAX_VALUES => return Err(NotationError::TooMany { found: count }),
        None => vec![
            if dtype == DataType::STRING { Literal::Text("text".into()) } else { Literal::Int(1) };
            count as usize
        ],
    };
    let values = carrier(dtype, field, &values)?;
    Ok(emit::map_entry(name.as_bytes(), Rope::from(emit::new_tensor(dtype, &shape, &values))))
}

fn parse_dtype(text: &str) -> Result<DataType, NotationError> {
    DataType::parse(text).ok_or_else(|| NotationError::Dtype { found: text.to_owned() })
}

fn literal(text: &str) -> Literal {
    match (text.parse::<i64>(), text.parse::<f64>(), text) {
        (Ok(int), ..) => Literal::Int(int),
        (_, Ok(float), _) => Literal::Float(float),
        (.., "true" | "false") => Literal::Bool(text == "true"),
        _ => Literal::Text(text.to_owned()),
    }
}

fn carrier(dtype: DataType, field: &str, values: &[Literal]) -> Result<Rope, NotationError> {
    let list = ValueList::all().find(|list| list.name() == field);
    let mut bytes = Vec::new();
    match (field, list) {
        ("tensor_content", _) => {
            for value in values {
                bytes.extend(element(dtype, value)?);
            }
            Ok(if bytes.is_empty() { Rope::new() } else { emit::content(Rope::from(bytes)) })
        }
        (_, Some(ValueList::String)) => {
            let mut all = Rope::new();
            for value in values {
                all.append(emit::list(ValueList::String, Rope::from(element(DataType::STRING, value)?)));
            }
            Ok(all)
        }
        (_, Some(list)) => {
            let as_dtype = list.native().unwrap_or(dtype);
            for value in values {
                bytes.extend(element(as_dtype, value)?);
            }
            Ok(if bytes.is_empty() { Rope::new() } else { emit::packed(list, as_dtype, &bytes) })
        }
        (found, None) => Err(NotationError::Field { found: found.to_owned() }),
    }
}

/// One value as little-endian bytes of the dtype.
///
/// # Errors
/// If the dtype does not have the value.
pub fn element(dtype: DataType, value: &Literal) -> Result<Vec<u8>, NotationError> {
    let wrong = || NotationError::Value { dtype, found: format!("{value:?}") };
    let (from, bytes) = match value {
        Literal::Text(text) if dtype == DataType::STRING => return Ok(text.clone().into_bytes()),
        Literal::Text(_) => return Err(wrong()),
        Literal::Bool(truth) => (DataType::BOOL, vec![u8::from(*truth)]),
        Literal::Int(int) => (DataType::INT64, int.to_le_bytes().to_vec()),
        Literal::Float(float) => (DataType::DOUBLE, float.to_le_bytes().to_vec()),
    };
    // A decimal fraction means the nearest float, as everywhere else.
    let cast = Cast::new(from, dtype, Exactness::Round).ok_or_else(wrong)?;
    cast.check(&bytes).map_err(|_| wrong())?;
    let mut out = Vec::new();
    cast.convert(&bytes, &mut out);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::tensorflow::serving::PredictRequest;

    #[test]
    fn digits_are_numbers_or_text_as_the_dtype_says() {
        let message = request("m", "s:string[2]{255,true} n:int32[2]@int_val{255,-1}").unwrap();
        let message = PredictRequest::decode(message.to_bytes()).unwrap();
        assert_eq!(message.inputs["s"].string_val, [&b"255"[..], b"true"]);
        assert_eq!(message.inputs["n"].int_val, [255, -1]);
    }
}
