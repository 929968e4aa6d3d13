//! Whether two PredictRequests are equivalent, regardless of field order and of how the values are
//! encoded.
use crate::proto::{DOUBLE, FLOAT, Fields, Value};
use std::collections::BTreeMap;

/// The content of a request, with values as little-endian bytes.
#[derive(Debug, Default, PartialEq)]
pub struct Request<'a> {
    pub name: &'a [u8],
    version: Vec<(u32, &'a [u8])>,
    signature: &'a [u8],
    pub inputs: BTreeMap<&'a [u8], Tensor>,
    filter: Vec<&'a [u8]>,
}

#[derive(Debug, Default, PartialEq)]
pub struct Tensor {
    pub dtype: u64,
    pub dims: Vec<i64>,
    pub values: Vec<u8>,
}

/// Both are gRPC-framed. A malformed message equals nothing.
pub fn same(left: &[u8], right: &[u8]) -> bool {
    match (left.get(5..).and_then(request), right.get(5..).and_then(request)) {
        (Some(l), Some(r)) => l == r,
        _ => false,
    }
}

/// Calls `each` on every field. `None` if it rejects a field or the message is malformed.
fn walk<'a>(message: &'a [u8], mut each: impl FnMut(u32, Value<'a>) -> Option<()>) -> Option<()> {
    let mut fields = Fields::of(message);
    for (field, value) in fields.by_ref() {
        each(field, value)?;
    }
    (!fields.broken).then_some(())
}

/// A message that is not framed.
pub fn request(message: &[u8]) -> Option<Request<'_>> {
    let mut request = Request::default();
    walk(message, |field, value| {
        let bytes = value.bytes()?;
        match field {
            1 => walk(bytes, |field, value| {
                match field {
                    1 => request.name = value.bytes()?,
                    3 => request.signature = value.bytes()?,
                    _ => request.version.push((field, value.bytes()?)),
                }
                Some(())
            })?,
            2 => {
                let (mut key, mut content) = (&b""[..], Tensor::default());
                walk(bytes, |field, value| {
                    match field {
                        1 => key = value.bytes()?,
                        _ => content = tensor(value.bytes()?)?,
                    }
                    Some(())
                })?;
                request.inputs.insert(key, content);
            }
            _ => request.filter.push(bytes),
        }
        Some(())
    })?;
    Some(request)
}

pub fn tensor(message: &[u8]) -> Option<Tensor> {
    let mut tensor = Tensor::default();
    walk(message, |field, value| {
        match (field, value) {
            (1, Value::Varint(dtype)) => tensor.dtype = dtype,
            (2, Value::Bytes(shape)) => walk(shape, |_, dim| {
                let mut size = 0;
                walk(dim.bytes()?, |field, value| {
                    if let (1, Value::Varint(v)) = (field, value) {
                        size = v as i64;
                    }
                    Some(())
                })?;
                tensor.dims.push(size);
                Some(())
            })?,
            // tensor_content, float_val and double_val, packed or one by one: the same
            // little-endian bytes
            (4, Value::Bytes(raw)) => tensor.values.extend_from_slice(raw),
            (5, Value::Bytes(raw) | Value::Fixed(raw)) if tensor.dtype == FLOAT => {
                tensor.values.extend_from_slice(raw);
            }
            (6, Value::Bytes(raw) | Value::Fixed(raw)) if tensor.dtype == DOUBLE => {
                tensor.values.extend_from_slice(raw);
            }
            (3, Value::Varint(0)) => {}
            _ => return None,
        }
        Some(())
    })?;
    Some(tensor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Message, model_spec, shape};

    fn sample(swap: bool, list: bool, last: f32) -> Vec<u8> {
        let raw: Vec<u8> = [0.5, last].iter().flat_map(|x: &f32| x.to_le_bytes()).collect();
        let tensor = Message::new().varint(1, FLOAT).bytes(2, &shape(&[1, 2]).0);
        let tensor = tensor.bytes(if list { 5 } else { 4 }, &raw);
        let spec = model_spec("m", None).bytes(3, b"serving_default");
        let message = match swap {
            false => Message::new().bytes(1, &spec.0).entry(2, "x", &tensor),
            true => Message::new().entry(2, "x", &tensor).bytes(1, &spec.0),
        };
        message.framed()
    }

    #[test]
    fn order_and_place_do_not_matter() {
        assert!(same(&sample(false, false, 0.25), &sample(true, true, 0.25)));
    }

    #[test]
    fn values_do() {
        assert!(!same(&sample(false, false, 0.25), &sample(false, false, 0.75)));
    }

    #[test]
    fn repaired_bodies_differ_until_repaired() {
        let bodies: BTreeMap<_, _> = crate::payloads::all().into_iter().collect();
        assert!(same(&bodies["S"], &bodies["S"]));
        assert!(!same(&bodies["S"], &bodies["S_nobatch"]));
        assert!(!same(&bodies["S"], &bodies["S_f64"]));
        assert!(!same(b"", b""));
    }
}
