//! Times of checking the values of a request against a profile: reading the sample, the row
//! findings and the caller's window, beside reading the whole tensor once.
//!
//! The fastest round of each counts: a loaded machine only adds to it.
use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use tfs_sidecar::profile::{Budget, By, Checks, FeatureProfile, QUANTILES, Sample, TensorProfile, Window};
use tfs_sidecar::tensor::{DataType, Shape};
use tfs_sidecar::wire::{PredictView, Rope, emit};

const ROUNDS: usize = 31;
/// Calls of a round, and those that are timed together: few, so that a loaded machine does not
/// interrupt all of them. The first 64 rows of a window are counted in full, later every fourth.
const CALLS: usize = 512;
const BATCH: usize = 16;

/// The profile of values that are spread evenly from 0 to 1.
fn uniform(by: By, features: usize) -> TensorProfile {
    let feature = FeatureProfile {
        count: 100_000,
        missing: 0.0,
        non_finite: 0.0,
        min: 0.0,
        max: 1.0,
        mean: 0.5,
        std: 0.288_7,
        quantiles: QUANTILES,
        integral: 0.0,
        zero: 0.0,
        values: Vec::new(),
    };
    TensorProfile {
        dtype: DataType::FLOAT,
        by,
        features: vec![feature; features],
        names: Vec::new(),
        raw: None,
        scaler: None,
        text: None,
    }
}

/// A request of one input with these dims, whose values are from 0 to 1.
fn request(dims: &[i64], state: &mut u64) -> Rope {
    let elements: i64 = dims.iter().product();
    let mut number = || {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 40) as f32 / (1_u64 << 24) as f32 * 0.998 + 0.001
    };
    let values: Vec<u8> = (0..elements).flat_map(|_| number().to_le_bytes()).collect();
    let tensor = emit::new_tensor(DataType::FLOAT, &Shape::from(dims), &emit::content(Rope::from(values)));
    let mut entry = vec![0x0a, 1, b'x', 0x12];
    emit::put_varint(&mut entry, tensor.len() as u64);
    entry.extend_from_slice(&tensor);
    let mut message = vec![0x12];
    emit::put_varint(&mut message, entry.len() as u64);
    message.extend_from_slice(&entry);
    let bytes = Bytes::from(message);
    // As HTTP/2 frames deliver it.
    (0..bytes.len()).step_by(16 << 10).map(|at| bytes.slice(at..bytes.len().min(at + (16 << 10)))).collect()
}

fn main() {
    println!("| request | read | rows | window | together | bar |\n|---|---:|---:|---:|---:|---|");
    for (dims, by, bar) in [
        (&[1, 10][..], By::Feature, None),
        (&[1, 128], By::Feature, Some(1.0)),
        (&[32, 128], By::Feature, None),
        (&[1, 4096], By::Feature, None),
        (&[1, 224, 224, 3], By::Channel, Some(15.0)),
        (&[16, 224, 224, 3], By::Channel, None),
    ] {
        let features = *dims.last().expect("dims") as usize;
        let checks = Checks::new(&uniform(by, features)).expect("features");
        let mut window = Window::new(&checks);
        let (mut sample, mut out) = (Sample::default(), Vec::new());
        let mut best = [f64::INFINITY; 4];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        // Few enough that they are in a cache, as a request that just came from a socket.
        let messages: Vec<Rope> = (0..8).map(|_| request(dims, &mut state)).collect();
        let views: Vec<PredictView> =
            messages.iter().map(|message| PredictView::scan(message).expect("it is sound")).collect();
        let add = |at: usize, sample: &mut Sample, window: &mut Window| {
            // Another row each time: equal ones would count once.
            if let Some(first) = sample.values.first_mut() {
                *first = 0.001 + at as f64 * 1e-6;
            }
            window.add(&checks, black_box(sample));
        };
        for _ in 0..ROUNDS {
            window = Window::new(&checks);
            let mut at = 0;
            while at < CALLS {
                let mut times = [0.0; 4];
                let start = Instant::now();
                for at in at..at + BATCH {
                    sample.read(&messages[at % 8], &views[at % 8].inputs[0].tensor, by, features, Budget::default());
                }
                times[0] = start.elapsed().as_secs_f64();
                let start = Instant::now();
                for _ in 0..BATCH {
                    checks.rows(black_box(&sample), &mut out);
                }
                times[1] = start.elapsed().as_secs_f64();
                let start = Instant::now();
                for at in at..at + BATCH {
                    add(at, &mut sample, &mut window);
                }
                times[2] = start.elapsed().as_secs_f64();
                at += BATCH;
                let start = Instant::now();
                for at in at..at + BATCH {
                    sample.read(&messages[at % 8], &views[at % 8].inputs[0].tensor, by, features, Budget::default());
                    checks.rows(black_box(&sample), &mut out);
                    add(at, &mut sample, &mut window);
                }
                times[3] = start.elapsed().as_secs_f64();
                at += BATCH;
                // A window begins with rows that are all summed up.
                if at > 64 {
                    for (best, time) in best.iter_mut().zip(times) {
                        *best = best.min(time / BATCH as f64);
                    }
                }
            }
        }
        assert!(out.is_empty() && window.verdict().is_none());
        let bar = bar.map_or_else(String::new, |bar| {
            format!("{bar} us: {}", if best[3] * 1e6 <= bar { "kept" } else { "missed" })
        });
        let [read, rows, add, together] = best.map(|seconds| format!("{:.2} us", seconds * 1e6));
        println!("| `{dims:?}` | {read} | {rows} | {add} | {together} | {bar} |");
    }
}
