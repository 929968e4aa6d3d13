//! Times of reading the JSON body of one image, beside sonic-rs and serde_json, in turns.
//!
//! Each time includes dropping what was read. The fastest round of each counts: a loaded machine
//! only adds to it.
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use tfs_sidecar::rest::read::{Options, read};
use tfs_sidecar::signature::{Signature, TensorInfo};
use tfs_sidecar::tensor::{DataType, PartialShape};

const ROUNDS: usize = 31;
const OPTIONS: Options = Options {
    integral_floats: true,
    string_numbers: false,
    bool_numbers: false,
    max_elements: 1 << 30,
    max_bytes: 1 << 30,
    as_served: false,
};

/// How the numbers are written.
#[derive(Clone, Copy)]
enum Style {
    /// `json.dumps` of doubles: up to 17 digits.
    Double,
    /// Shortest digits of float32.
    Float,
    /// Four decimals.
    Short,
    /// Integers from 0 to 255.
    Byte,
}

fn body(style: Style) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut number = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let value = (state >> 11) as f64 / (1_u64 << 53) as f64;
        match style {
            Style::Double => format!("{value:?}"),
            Style::Float => format!("{:?}", value as f32),
            Style::Short => format!("{value:.4}"),
            Style::Byte => format!("{}", (value * 256.0) as u8),
        }
    };
    let mut list = |count: usize, inner: &mut dyn FnMut() -> String| {
        let parts: Vec<String> = (0..count).map(|_| inner()).collect();
        format!("[{}]", parts.join(", "))
    };
    let mut rows = Vec::new();
    for _ in 0..224 {
        let mut pixels = Vec::new();
        for _ in 0..224 {
            pixels.push(list(3, &mut number));
        }
        rows.push(format!("[{}]", pixels.join(", ")));
    }
    format!("{{\"instances\": [[{}]]}}", rows.join(", "))
}

fn collect(value: &serde_json::Value, out: &mut Vec<f32>) {
    match value {
        serde_json::Value::Array(values) => values.iter().for_each(|value| collect(value, out)),
        value => out.push(value.as_f64().expect("a number") as f32),
    }
}

/// Seconds of a call.
fn time<T>(call: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    drop(black_box(call()));
    start.elapsed().as_secs_f64()
}

fn main() {
    let info = TensorInfo {
        alias: "image".to_owned(),
        tensor_name: "image:0".to_owned(),
        dtype: DataType::FLOAT,
        shape: PartialShape::parse("[-1,224,224,3]").expect("a shape"),
        has_default: false,
    };
    let inputs = vec![info];
    let signature =
        Arc::new(Signature { name: String::new(), inputs, outputs: Vec::new(), method_name: String::new() });
    println!("| numbers | bytes | ours, ms | of sonic-rs | serde_json is slower by |");
    println!("|---|---|---|---|---|");
    let styles =
        [("double", Style::Double), ("float", Style::Float), ("short", Style::Short), ("byte", Style::Byte)];
    for (name, style) in styles {
        let text = body(style);
        let bytes = text.as_bytes();
        // The others get the list alone.
        let list = &bytes["{\"instances\": ".len()..bytes.len() - 1];
        let mut best = [f64::INFINITY; 3];
        for _ in 0..ROUNDS {
            let times = [
                time(|| {
                    read(black_box(bytes), &|_| Some(Arc::clone(&signature)), &OPTIONS).expect("a right body")
                }),
                time(|| sonic_rs::from_slice::<Vec<Vec<Vec<Vec<f32>>>>>(black_box(list)).expect("a list")),
                time(|| {
                    let value: serde_json::Value = serde_json::from_slice(black_box(list)).expect("a list");
                    let mut out = Vec::new();
                    collect(&value, &mut out);
                    out
                }),
            ];
            best.iter_mut().zip(times).for_each(|(best, time)| *best = best.min(time));
        }
        let [ours, sonic, serde] = best;
        println!(
            "| {name} | {} | {:.2} | {:.2} | {:.1} x |",
            bytes.len(),
            ours * 1e3,
            ours / sonic,
            serde / ours
        );
    }
}
