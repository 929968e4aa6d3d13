//! JSON: reading the body of one image and writing the answer of a classifier, beside sonic-rs and
//! serde_json, in turns.
use std::hint::black_box;
use std::sync::Arc;

use tfs_sidecar::rest::read::{Options, read};
use tfs_sidecar::rest::write::{Format, predict};
use tfs_sidecar::signature::{Signature, TensorInfo};
use tfs_sidecar::tensor::{DataType, PartialShape, Shape};
use tfs_sidecar::wire::{Rope, emit};

use crate::alloc::allocations;
use crate::clock::{ratio, seconds};

/// The pixels of an image, and the numbers of a pixel.
const SIDE: usize = 224;
const CHANNELS: usize = 3;
/// The answer: its rows, and the numbers of a row.
const ROWS: usize = 64;
const CLASSES: usize = 1000;

const OPTIONS: Options = Options {
    integral_floats: true,
    string_numbers: false,
    bool_numbers: false,
    max_elements: 1 << 30,
    max_bytes: 1 << 30,
    as_served: false,
};

pub fn print() {
    println!("## JSON\n");
    reading();
    writing();
}

fn reading() {
    println!(
        "The body `{{\"instances\": [...]}}` of one 224x224x3 image, read into its float32 tensor, beside sonic-rs reading the list into"
    );
    println!(
        "`Vec<Vec<Vec<Vec<f32>>>>`, and serde_json reading it into a `Value` whose numbers are then collected. Bars: at most 1.0 of"
    );
    println!("sonic-rs, at least 4 times as fast as serde_json, and no memory beyond the tensor but 1 MB.\n");
    println!("| numbers | body bytes | time | of sonic-rs | serde_json takes | allocated beyond the tensor | bars |");
    println!("|---|---:|---:|---:|---:|---:|---|");
    let signature = Arc::new(signature());
    for (name, digits) in
        [("float64", Digits::Double), ("float32", Digits::Float), ("4 decimals", Digits::Four), ("0 to 255", Digits::Byte)]
    {
        let text = body(digits);
        let bytes = text.as_bytes();
        // The others get the list alone.
        let list = &bytes["{\"instances\": ".len()..bytes.len() - 1];
        let ours = || {
            let body = read(black_box(bytes), &|_| Some(Arc::clone(&signature)), &OPTIONS);
            drop(black_box(body.expect("a right body")));
        };
        let sonic = || {
            let list = sonic_rs::from_slice::<Vec<Vec<Vec<Vec<f32>>>>>(black_box(list));
            drop(black_box(list.expect("a list")));
        };
        let serde = || {
            let value: serde_json::Value = serde_json::from_slice(black_box(list)).expect("a list");
            let mut numbers = Vec::new();
            collect(&value, &mut numbers);
            drop(black_box((value, numbers)));
        };
        let of_sonic = ratio(ours, sonic);
        let serde = ratio(serde, ours);
        let beyond = allocations(ours).bytes.saturating_sub((4 * SIDE * SIDE * CHANNELS) as u64);
        let kept = of_sonic <= 1.0 && serde >= 4.0 && beyond <= 1 << 20;
        println!(
            "| {name} | {} | {:.2} ms | {of_sonic:.2} | {serde:.1} x | {:.1} KB | {} |",
            bytes.len(),
            seconds(ours) * 1e3,
            beyond as f64 / 1024.0,
            if kept { "kept" } else { "missed" }
        );
    }
    println!();
}

fn writing() {
    println!(
        "The answer of {ROWS} rows of {CLASSES} float32, written from the message of TF Serving with six or nine digits as TF Serving"
    );
    println!(
        "does, beside serde_json writing `Vec<Vec<f32>>` with the fewest digits. Bar: at least 3 times as fast as serde_json.\n"
    );
    println!("| numbers | answer bytes | time | serde_json takes | bar |");
    println!("|---|---:|---:|---:|---|");
    for (name, values) in [("probabilities", probabilities()), ("-8 to 8", logits()), ("4 decimals", rounded())] {
        let message = response(&values);
        let tree: Vec<Vec<f32>> = values.chunks(CLASSES).map(<[f32]>::to_vec).collect();
        let ours = || drop(black_box(predict(black_box(&message), Format::Row, 1 << 30).expect("an answer")));
        let serde = || drop(black_box(serde_json::to_vec(black_box(&tree)).expect("numbers")));
        let times = ratio(serde, ours);
        println!(
            "| {name} | {} | {:.2} ms | {times:.1} x | {} |",
            predict(&message, Format::Row, 1 << 30).expect("an answer").json.len(),
            seconds(ours) * 1e3,
            if times >= 3.0 { "kept" } else { "missed" }
        );
    }
}

/// How the numbers of a body are written.
#[derive(Clone, Copy)]
enum Digits {
    /// `json.dumps` of doubles: up to 17 digits.
    Double,
    /// The fewest digits of float32.
    Float,
    Four,
    /// Whole numbers from 0 to 255.
    Byte,
}

fn body(digits: Digits) -> String {
    let mut random = uniform();
    let mut number = || {
        let value = random();
        match digits {
            Digits::Double => format!("{value:?}"),
            Digits::Float => format!("{:?}", value as f32),
            Digits::Four => format!("{value:.4}"),
            Digits::Byte => format!("{}", (value * 256.0) as u8),
        }
    };
    let mut pixel = || list(CHANNELS, &mut number);
    let mut line = || list(SIDE, &mut pixel);
    format!("{{\"instances\": [{}]}}", list(SIDE, &mut line))
}

fn list(length: usize, item: &mut dyn FnMut() -> String) -> String {
    let items: Vec<String> = (0..length).map(|_| item()).collect();
    format!("[{}]", items.join(", "))
}

fn signature() -> Signature {
    let input = TensorInfo {
        alias: "image".to_owned(),
        tensor_name: "image:0".to_owned(),
        dtype: DataType::FLOAT,
        shape: PartialShape::parse("[-1,224,224,3]").expect("a shape"),
        has_default: false,
    };
    Signature { name: String::new(), inputs: vec![input], outputs: Vec::new(), method_name: String::new() }
}

fn collect(value: &serde_json::Value, numbers: &mut Vec<f32>) {
    match value {
        serde_json::Value::Array(values) => values.iter().for_each(|value| collect(value, numbers)),
        value => numbers.push(value.as_f64().expect("a number") as f32),
    }
}

/// The softmax of random logits.
fn probabilities() -> Vec<f32> {
    logits()
        .chunks(CLASSES)
        .flat_map(|row| {
            let sum: f32 = row.iter().map(|logit| logit.exp()).sum();
            row.iter().map(move |logit| logit.exp() / sum)
        })
        .collect()
}

fn logits() -> Vec<f32> {
    let mut random = uniform();
    (0..ROWS * CLASSES).map(|_| (random() * 16.0 - 8.0) as f32).collect()
}

fn rounded() -> Vec<f32> {
    let mut random = uniform();
    (0..ROWS * CLASSES).map(|_| ((random() * 10_000.0).round() / 10_000.0) as f32).collect()
}

/// Numbers from 0 to 1, always the same ones.
fn uniform() -> impl FnMut() -> f64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A `PredictResponse` with one output.
fn response(values: &[f32]) -> Rope {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let shape = Shape::from(&[ROWS as i64, CLASSES as i64][..]);
    let tensor = emit::new_tensor(DataType::FLOAT, &shape, &emit::content(Rope::from(bytes))).to_vec();
    let mut entry = b"\x0a\x01y\x12".to_vec();
    emit::put_varint(&mut entry, tensor.len() as u64);
    entry.extend_from_slice(&tensor);
    let mut message = vec![0x0a];
    emit::put_varint(&mut message, entry.len() as u64);
    message.extend_from_slice(&entry);
    Rope::from(message)
}
