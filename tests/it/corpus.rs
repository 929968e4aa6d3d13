//! The fuzz targets' bodies over the committed corpus and the attacks: what a fuzzer once found
//! stays found.
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

#[allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::pedantic,
    reason = "it is a package of its own with a public interface, of which the fuzz targets use another part"
)]
#[path = "../../fuzz/src/lib.rs"]
mod bodies;

type Body = fn(&[u8]);

const TARGETS: [(&str, Body); 4] = [
    ("scan", bodies::scan),
    ("plan", bodies::plan),
    ("apply", bodies::apply),
    ("metadata", bodies::metadata),
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A line of base64 is an input; `fuzz/run.sh minimise` writes them.
#[test]
fn the_committed_corpus_is_replayed() {
    for (name, body) in TARGETS {
        let text = std::fs::read_to_string(folder("fuzz").join(format!("{name}.b64"))).unwrap();
        assert!(text.lines().count() > 50, "{name} has few inputs");
        for line in text.lines() {
            body(&STANDARD.decode(line).unwrap());
        }
    }
}

/// An attack is the bytes of a message; each target takes it as the request, the answer or the
/// metadata that it could be.
#[test]
fn attacks_are_survived() {
    let files = std::fs::read_dir(folder("attacks")).unwrap().map(|entry| entry.unwrap().path());
    for file in files.filter(|file| file.extension().is_some_and(|kind| kind == "bin")) {
        let message = std::fs::read(file).unwrap();
        bodies::scan(&[&[3], message.as_slice()].concat());
        bodies::metadata(&[&[0], message.as_slice()].concat());
        for model in 0..bodies::world::MODELS.len() {
            let request = [&[0, model as u8, 1, 5], message.as_slice()].concat();
            bodies::plan(&request);
            bodies::apply(&request);
        }
    }
}
