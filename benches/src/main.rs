//! Micro-benchmarks: `micro table` and `micro rest` print the parts of docs/benchmarks.md; `micro
//! repeat CASE N` runs one case under an instruction counter.
mod alloc;
mod cases;
mod clock;
mod framings;
mod rest;
mod table;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["table", counts @ ..] => table::print(counts.first().copied()),
        ["rest"] => rest::print(),
        ["list"] => {
            cases::all().iter().filter(|case| case.counted).for_each(|case| println!("{}", case.name))
        }
        ["repeat", name, times] => {
            let (Some(case), Ok(times)) =
                (cases::all().into_iter().find(|case| case.name == *name), times.parse())
            else {
                return ExitCode::FAILURE;
            };
            (0..times).for_each(|_: u64| (case.run)());
        }
        _ => {
            eprintln!("expected `table [COUNTS]`, `rest`, `list` or `repeat CASE N`");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
