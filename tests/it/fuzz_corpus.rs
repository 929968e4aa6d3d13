//! Runs the fuzz targets on the committed corpus and on the attacks.
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

#[allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::pedantic,
    reason = "a package with a public interface, of which this test uses only a part"
)]
#[path = "../../fuzz/src/lib.rs"]
mod bodies;

type Body = fn(&[u8]);

const TARGETS: [(&str, Body); 11] = [
    ("scan", bodies::scan),
    ("plan", bodies::plan),
    ("apply", bodies::apply),
    ("metadata", bodies::metadata),
    ("framing", bodies::framing),
    ("scan_cuts", bodies::scan_cuts),
    ("rest_request", bodies::rest_request),
    ("image_door", bodies::image_door),
    ("profile_file", bodies::profile_file),
    ("tfrecord", bodies::tfrecord),
    ("npy", bodies::npy),
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Each line is an input in base64, written by `fuzz/run.sh minimise`.
#[test]
fn no_input_of_the_corpus_panics() {
    for (name, body) in TARGETS {
        let text = std::fs::read_to_string(folder("fuzz").join(format!("{name}.b64"))).unwrap();
        assert!(text.lines().count() > 50, "{name} has few inputs");
        for line in text.lines() {
            body(&STANDARD.decode(line).unwrap());
        }
    }
}

/// An attack is a message; it is scanned, read as metadata, and judged as a request to each model.
#[test]
fn no_attack_panics() {
    let files = std::fs::read_dir(folder("attacks")).unwrap().map(|entry| entry.unwrap().path());
    for file in files.filter(|file| file.extension().is_some_and(|kind| kind == "bin")) {
        let message = std::fs::read(file).unwrap();
        bodies::scan(&[&[3], message.as_slice()].concat());
        bodies::metadata(&[&[0], message.as_slice()].concat());
        bodies::framing(&[&[2, 0, 1, 200], message.as_slice()].concat());
        bodies::rest_request(&[&[0, 0], message.as_slice()].concat());
        for model in 0..bodies::world::MODELS.len() {
            let request = [&[0, model as u8, 1, 5], message.as_slice()].concat();
            bodies::plan(&request);
            bodies::apply(&request);
            bodies::scan_cuts(&[&[3, 2, 1, 7], request.as_slice()].concat());
        }
    }
}
