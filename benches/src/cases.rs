//! The benchmark cases: requests of four sizes that conform or are repaired, and each cast.
use std::hint::black_box;

use bytes::Bytes;
use tfs_sidecar::repair::{Action, Limits, ModelPolicy, Request, Verdict, apply, judge, notation};
use tfs_sidecar::signature::Signatures;
use tfs_sidecar::tensor::{DataType, Shape, ValueList};
use tfs_sidecar::wire::{PredictView, Rope, emit};

/// Chunk sizes, as HTTP/2 frames deliver them.
const CHUNK: usize = 16 * 1024;

pub struct Case {
    pub name: String,
    pub bytes: usize,
    pub run: Box<dyn Fn()>,
    /// Whether instructions are counted as well.
    pub counted: bool,
}

struct Payload {
    name: &'static str,
    dims: &'static [i64],
    list: bool,
}

/// The sizes of docs/performance.md: a row of features, a batch of 32, an image, 16 images.
const PAYLOADS: &[Payload] = &[
    Payload { name: "S", dims: &[1, 128], list: false },
    Payload { name: "M", dims: &[32, 128], list: true },
    Payload { name: "L", dims: &[1, 224, 224, 3], list: false },
    Payload { name: "XL", dims: &[16, 224, 224, 3], list: false },
];

fn request(dims: &[i64], list: bool) -> Vec<u8> {
    let elements: i64 = dims.iter().product();
    let values: Vec<u8> = (0..elements).flat_map(|at| (at as f32 * 0.25).to_le_bytes()).collect();
    let values = if list {
        emit::packed(ValueList::Float, DataType::FLOAT, &values)
    } else {
        emit::content(Rope::from(values))
    };
    let tensor = emit::new_tensor(DataType::FLOAT, &Shape::from(dims), &values);
    let mut message = vec![0x0a, 3, 0x0a, 1, b'm'];
    let key = b"input_tensor";
    let mut entry = vec![0x0a, key.len() as u8];
    entry.extend_from_slice(key);
    entry.push(0x12);
    emit::put_varint(&mut entry, tensor.len() as u64);
    entry.extend_from_slice(&tensor);
    message.push(0x12);
    emit::put_varint(&mut message, entry.len() as u64);
    message.extend_from_slice(&entry);
    message
}

fn rope(bytes: &[u8], chunk: usize) -> Rope {
    let bytes = Bytes::copy_from_slice(bytes);
    (0..bytes.len()).step_by(chunk).map(|at| bytes.slice(at..bytes.len().min(at + chunk))).collect()
}

fn planned(message: &Rope, signatures: &Signatures, policy: &ModelPolicy) -> (PredictView, Verdict) {
    let view = PredictView::scan(message).expect("the request is sound");
    let verdict = judge(&Request { message, view: &view, signatures, policy, limits: Limits::default(), raised: None, text: None });
    (view, verdict)
}

pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for Payload { name, dims, list } in PAYLOADS {
        let declared: Vec<String> = dims[1..].iter().map(ToString::to_string).collect();
        let signature = format!("input_tensor:float[-1,{}]", declared.join(","));
        let whole = request(dims, *list);
        // Several rows do not lack a batch dimension, so for M and XL the model declares one more.
        let (short, wider) = match dims {
            [1, inner @ ..] => (request(inner, *list), signature.clone()),
            dims => {
                let all: Vec<String> = dims.iter().map(ToString::to_string).collect();
                (request(dims, *list), format!("input_tensor:float[-1,{}]", all.join(",")))
            }
        };
        for (chunks, chunk) in [("whole", usize::MAX), ("16 KiB chunks", CHUNK)] {
            if chunk < usize::MAX && *name == "S" {
                continue;
            }
            let policy = ModelPolicy::default();
            let (message, signatures) =
                (rope(&whole, chunk), notation::signature(&signature).expect("it parses"));
            assert_eq!(planned(&message, &signatures, &policy).1.action, Action::Forward);
            cases.push(Case {
                name: format!("plan {name} {chunks}"),
                bytes: whole.len(),
                counted: true,
                run: Box::new(move || _ = black_box(planned(black_box(&message), &signatures, &policy))),
            });
            let policy = ModelPolicy::default();
            let (message, signatures) =
                (rope(&short, chunk), notation::signature(&wider).expect("it parses"));
            assert_eq!(planned(&message, &signatures, &policy).1.action, Action::Apply);
            cases.push(Case {
                name: format!("repair {name} {chunks}"),
                bytes: short.len(),
                counted: true,
                run: Box::new(move || {
                    let (view, verdict) = planned(black_box(&message), &signatures, &policy);
                    _ = black_box(apply(&message, &view, &verdict.plan));
                }),
            });
        }
    }
    cases.push(varints());
    cases
}

/// A packed list of 64-bit integers, whose elements differ in length and so must be counted.
fn varints() -> Case {
    let values: Vec<u8> = (0..262_144_i64).flat_map(|at| (at * 37).to_le_bytes()).collect();
    let list = emit::packed(ValueList::Int64, DataType::INT64, &values);
    let tensor = emit::new_tensor(DataType::INT64, &Shape::from([1, 262_144]), &list);
    let mut entry = vec![0x0a, 1, b'x', 0x12];
    emit::put_varint(&mut entry, tensor.len() as u64);
    entry.extend_from_slice(&tensor);
    let mut message = vec![0x12];
    emit::put_varint(&mut message, entry.len() as u64);
    message.extend_from_slice(&entry);
    let (bytes, message) = (message.len(), Rope::from(message));
    let run = Box::new(move || {
        _ = black_box(PredictView::scan(black_box(&message)).expect("the request is sound"))
    });
    Case { name: "count varints".to_owned(), bytes, run, counted: true }
}

/// Pairs of dtypes, each with `bytes` bytes of source elements: small integers, so that every cast
/// passes.
pub fn casts(bytes: usize) -> Vec<(DataType, DataType, Vec<u8>)> {
    use DataType as D;
    let pairs = [
        (D::DOUBLE, D::FLOAT),
        (D::FLOAT, D::DOUBLE),
        (D::INT64, D::INT32),
        (D::INT64, D::FLOAT),
        (D::INT32, D::INT64),
        (D::INT32, D::FLOAT),
        (D::UINT8, D::FLOAT),
        (D::HALF, D::FLOAT),
        (D::BFLOAT16, D::FLOAT),
        (D::FLOAT, D::HALF),
        (D::FLOAT, D::BFLOAT16),
    ];
    pairs
        .into_iter()
        .map(|(from, to)| {
            let size = from.size().expect("a number has a size");
            let source: Vec<u8> = (0..bytes / size)
                .flat_map(|at| {
                    let value = (at % 100) as u8;
                    match from {
                        D::DOUBLE => (f64::from(value) * 0.37).to_le_bytes().to_vec(),
                        D::FLOAT => f32::from(value).to_le_bytes().to_vec(),
                        // 1 in half and in bfloat16
                        D::HALF => vec![0x00, 0x3c],
                        D::BFLOAT16 => vec![0x80, 0x3f],
                        _ => {
                            let mut wide = vec![0; size];
                            wide[0] = value;
                            wide
                        }
                    }
                })
                .collect();
            (from, to, source)
        })
        .collect()
}
