//! Runs all cases and prints the report.
use std::collections::HashMap;
use std::hint::black_box;

use tfs_sidecar::tensor::{Cast, DataType, Exactness};

use crate::alloc::allocations;
use crate::cases;
use crate::clock::{ratio, seconds};

/// Sizes that fit in the L2 cache, and in no cache.
const SOURCES: [(&str, usize); 3] = [("256 KB", 256 << 10), ("1 MB", 1 << 20), ("64 MB", 64 << 20)];

/// `counts` is a file of `instructions TAB case` lines.
pub fn print(counts: Option<&str>) {
    println!(
        "# Micro-benchmarks\n\nWritten by `benches/run.sh`; every figure is of one run. Ratios are of best times, taken in turns.\n"
    );
    requests(&read(counts));
    casts();
}

fn read(file: Option<&str>) -> HashMap<String, String> {
    let text = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(count, name)| (name.to_owned(), count.to_owned()))
        .collect()
}

fn requests(counts: &HashMap<String, String>) {
    println!("## Requests\n");
    println!(
        "`plan` is the scan and the decision on a request that conforms, `repair` the same for one that lacks its batch"
    );
    println!(
        "dimension, and its new bytes. Bar: planning a conforming request takes under 2 µs at any size and allocates nothing"
    );
    println!("that grows with the message. M is a typed list, S, L and XL are `tensor_content`.\n");
    println!("| case | message bytes | time | allocations | bytes allocated | instructions | bar |");
    println!("|---|---:|---:|---:|---:|---:|---|");
    let mut planned: Vec<u64> = Vec::new();
    for case in cases::all() {
        let used = allocations(&case.run);
        let time = seconds(&case.run);
        let bar = if case.name.starts_with("plan ") {
            planned.push(used.bytes);
            if time < 2e-6 { "kept" } else { "missed" }
        } else {
            ""
        };
        let count = counts.get(&case.name).map_or("-", String::as_str);
        println!(
            "| {} | {} | {:.2} µs | {} | {} | {count} | {bar} |",
            case.name,
            case.bytes,
            time * 1e6,
            used.times,
            used.bytes
        );
    }
    let (least, most) = (planned.iter().min().unwrap_or(&0), planned.iter().max().unwrap_or(&0));
    println!(
        "\nPlanning a conforming request allocates {least} to {most} bytes, whatever the message's size.\n"
    );
}

fn casts() {
    println!("## Casts\n");
    println!(
        "How many times as long as a memcpy of the source, into warm memory. `check` is made when planning, `convert` when"
    );
    println!(
        "applying; a cast that cannot fail has no check. Bar: float64 to float32 with rounding, both together, within 1.5.\n"
    );
    println!("| cast | source | memcpy | check | convert | both | bar |\n|---|---|---:|---:|---:|---:|---|");
    for (name, bytes) in SOURCES {
        for (from, to, source) in cases::casts(bytes) {
            if bytes > 1 << 20 && from.size() < Some(8) {
                continue;
            }
            let exactness = if (from, to) == (DataType::DOUBLE, DataType::FLOAT) {
                Exactness::Round
            } else {
                Exactness::Exact
            };
            let cast = Cast::new(from, to, exactness).expect("it is a cast of numbers");
            assert_eq!(cast.check(&source), Ok(()));
            let mut copy = vec![0_u8; source.len()];
            let mut made = Vec::with_capacity(source.len() * 8);
            let mut memcpy = || black_box(&mut copy).copy_from_slice(black_box(&source));
            let check = ratio(|| _ = black_box(cast.check(black_box(&source))), &mut memcpy);
            let convert = ratio(
                || {
                    made.clear();
                    cast.convert(black_box(&source), black_box(&mut made));
                },
                &mut memcpy,
            );
            let speed = source.len() as f64 / seconds(&mut memcpy) / 1e9;
            let bar = match (from, check + convert <= 1.5) {
                (DataType::DOUBLE, true) => "kept",
                (DataType::DOUBLE, false) => "missed",
                _ => "",
            };
            println!(
                "| {from} to {to} | {name} | {speed:.0} GB/s | {check:.2} | {convert:.2} | {:.2} | {bar} |",
                check + convert
            );
        }
    }
    println!();
}
