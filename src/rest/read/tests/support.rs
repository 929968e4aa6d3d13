//! What the tests share: signatures of the recorded models, and messages taken apart.
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::rest::read::{Finding, Findings, Kind, Options, Read, Severity, read};
use crate::signature::{Signature, Signatures, TensorInfo};
use crate::tensor::{DataType, PartialShape, Shape, ValueList};

/// One line for each signature of the recorded models: model, name, and for each input its alias,
/// the number of its dtype and its shape.
const SIGNATURES: &str = include_str!("../../../../tests/fixtures/golden/rest_signatures.tsv");

pub(super) const OPTIONS: Options = Options {
    integral_floats: true,
    string_numbers: false,
    bool_numbers: false,
    max_elements: 1 << 30,
    max_bytes: 1 << 30,
    as_served: false,
};
pub(super) const AS_SERVED: Options = Options { integral_floats: false, as_served: true, ..OPTIONS };

pub(super) fn models() -> BTreeMap<String, Signatures> {
    let mut models: BTreeMap<String, Vec<Signature>> = BTreeMap::new();
    for line in SIGNATURES.lines() {
        let mut columns = line.split('\t');
        let model = columns.next().unwrap();
        let name = columns.next().unwrap();
        let inputs = columns.map(|input| {
            let mut words = input.rsplitn(3, ' ');
            let (shape, dtype, alias) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            let shape =
                if shape == "?" { PartialShape::UnknownRank } else { PartialShape::parse(shape).unwrap() };
            info(alias, DataType::from_number(dtype.parse().unwrap()), shape)
        });
        let signature = signature(name, inputs.collect());
        models.entry(model.to_owned()).or_default().push(signature);
    }
    models.into_iter().map(|(model, signatures)| (model, signatures.into_iter().collect())).collect()
}

pub(super) fn info(alias: &str, dtype: DataType, shape: PartialShape) -> TensorInfo {
    TensorInfo {
        alias: alias.to_owned(),
        tensor_name: format!("{alias}:0"),
        dtype,
        shape,
        has_default: false,
    }
}

pub(super) fn signature(name: &str, mut inputs: Vec<TensorInfo>) -> Signature {
    inputs.sort_by(|left, right| left.alias.cmp(&right.alias));
    Signature { name: name.to_owned(), inputs, outputs: Vec::new(), method_name: String::new() }
}

/// A signature of inputs such as `x:float:[-1,3]`.
pub(super) fn of(inputs: &[&str]) -> Arc<Signature> {
    let infos = inputs.iter().map(|input| {
        let mut parts = input.splitn(3, ':');
        let (alias, dtype) = (parts.next().unwrap(), DataType::parse(parts.next().unwrap()).unwrap());
        info(alias, dtype, PartialShape::parse(parts.next().unwrap()).unwrap())
    });
    Arc::new(signature("serving_default", infos.collect()))
}

pub(super) fn read_for(inputs: &[&str], body: &str, options: &Options) -> Result<Read, Findings> {
    let signature = of(inputs);
    read(body.as_bytes(), &|name| name.is_empty().then(|| Arc::clone(&signature)), options)
}

pub(super) fn problems(findings: &Findings) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.kind.severity() == Severity::Problem).collect()
}

pub(super) fn kinds(findings: &Findings) -> Vec<Kind> {
    findings.iter().map(|finding| finding.kind).collect()
}

/// A tensor of a message: dtype, shape, and elements in little-endian bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub(super) dtype: DataType,
    pub(super) shape: Shape,
    pub(super) values: Vec<Vec<u8>>,
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first < 0x80 {
            break;
        }
    }
    value
}

/// Field numbers with their varint or their bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        match tag & 7 {
            0 => fields.push((tag >> 3, varint(&mut bytes), [].as_slice())),
            wire => {
                let length = match wire {
                    1 => 8,
                    2 => varint(&mut bytes) as usize,
                    _ => 4,
                };
                let (payload, rest) = bytes.split_at(length);
                bytes = rest;
                fields.push((tag >> 3, 0, payload));
            }
        }
    }
    fields
}

/// The inputs of a `PredictRequest`.
pub(super) fn tensors(message: &[u8]) -> BTreeMap<String, Tensor> {
    let entries = fields(message).into_iter().filter(|field| field.0 == 2);
    entries
        .map(|(_, _, entry)| {
            let (mut key, mut value) = (String::new(), [].as_slice());
            for (number, _, payload) in fields(entry) {
                match number {
                    1 => key = String::from_utf8(payload.to_vec()).unwrap(),
                    _ => value = payload,
                }
            }
            (key, tensor(value))
        })
        .collect()
}

fn tensor(bytes: &[u8]) -> Tensor {
    let fields_of = fields(bytes);
    let dtype = fields_of.iter().find(|field| field.0 == 1).map_or(0, |field| field.1);
    let dtype = DataType::from_number(dtype as i32);
    let list = dtype.info().unwrap().list;
    let size = dtype.size().unwrap_or(1);
    let mut shape = Shape::scalar();
    let mut values = Vec::new();
    for (number, single, payload) in fields_of {
        match number {
            1 => {}
            2 => {
                for (_, _, dim) in fields(payload) {
                    shape.push(fields(dim).first().map_or(0, |size| size.1 as i64));
                }
            }
            4 => values.extend(payload.chunks_exact(size).map(<[u8]>::to_vec)),
            number => {
                assert_eq!(ValueList::from_field(number as u32), Some(list), "{dtype}");
                let mut rest = payload;
                match list {
                    ValueList::String => values.push(payload.to_vec()),
                    ValueList::Float | ValueList::Double => {
                        values.extend(payload.chunks_exact(size).map(<[u8]>::to_vec));
                    }
                    _ if payload.is_empty() => values.push(single.to_le_bytes()[..size].to_vec()),
                    _ => {
                        while !rest.is_empty() {
                            values.push(varint(&mut rest).to_le_bytes()[..size].to_vec());
                        }
                    }
                }
            }
        }
    }
    Tensor { dtype, shape, values }
}
