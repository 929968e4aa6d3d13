//! Target `rest_request`: reads arbitrary bytes as the JSON of a request, as the sidecar and as TF
//! Serving do. There is no panic, and what is read is a request.
use std::sync::Arc;

use tfs_sidecar::rest::read::{Finding, Findings, Options, Read, Severity, read};
use tfs_sidecar::rest::theirs;
use tfs_sidecar::signature::Signature;
use tfs_sidecar::wire::PredictView;
use tfs_sidecar::wire::infer::InferView;

use super::world;

/// Elements of an input, and bytes of all.
const MAX: u64 = 1 << 20;

/// The first byte is the model, the second the options, and the rest is the body.
pub fn rest_request(data: &[u8]) {
    let [model, switches, body @ ..] = data else { return };
    let signatures = world::signatures(*model as usize);
    let choose = |name: &str| {
        let name = if name.is_empty() { "serving_default" } else { name };
        signatures.get(name).cloned()
    };
    let options = Options {
        integral_floats: switches & 1 == 0,
        string_numbers: switches & 2 != 0,
        bool_numbers: switches & 4 != 0,
        max_elements: MAX,
        max_bytes: MAX,
        as_served: false,
    };
    let ours = read(body, &choose, &options);
    let served = read(body, &choose, &Options { as_served: true, ..options });
    for outcome in [&ours, &served] {
        match outcome {
            Ok(read) => is_a_request(read, body, &choose),
            Err(findings) => {
                assert!(findings.iter().any(|found| found.kind.severity() == Severity::Problem));
                are_in(findings, body);
            }
        }
    }
    let refusal = theirs::refusal(body, signatures);
    if let Some(refusal) = &refusal {
        assert!(!refusal.lossy().is_empty());
    }
    // What is right for us is right for TF Serving, which reads the same.
    if let Ok(ours) = &ours
        && ours.findings.is_empty()
        && let Ok(served) = &served
    {
        assert!(ours.message(b"").to_bytes() == served.message(b"").to_bytes());
    }
    let spec = |name: &[u8]| [&[0x0a, 1, b'm'][..], &name[..0]].concat();
    if let Ok(examples) = theirs::examples(body, spec, MAX as usize) {
        let view = InferView::scan_single(&examples.message).expect("what is made scans");
        assert_eq!(view.examples, examples.examples);
    }
}

fn is_a_request(read: &Read, body: &[u8], choose: &dyn Fn(&str) -> Option<Arc<Signature>>) {
    are_in(&read.findings, body);
    assert!(read.findings.iter().all(|found| found.kind.severity() != Severity::Problem));
    assert_eq!(
        choose(&read.signature_name).map(|found| found.name.clone()),
        Some(read.signature.name.clone())
    );
    let message = read.message(b"");
    let view = PredictView::scan(&message).expect("what is made scans");
    assert_eq!(view.inputs.len(), read.inputs.len());
    for (input, made) in read.inputs.iter().zip(&view.inputs) {
        assert_eq!(
            (&made.key, made.tensor.dtype, &made.tensor.shape),
            (&input.name, input.dtype, &input.shape)
        );
        let elements = input.shape.iter().product::<i64>() as u64;
        assert!(elements <= MAX);
        if let Some(size) = input.dtype.size() {
            assert_eq!(input.values.len() as u64, elements * size as u64, "{}", input.name);
        }
    }
}

/// Each finding is at a place in the body, and its text is a line.
fn are_in(findings: &Findings, body: &[u8]) {
    for Finding { offset, pointer, what, .. } in findings.iter() {
        assert!(*offset <= body.len(), "byte {offset} of {}", body.len());
        assert!(pointer.is_empty() || pointer.starts_with('/'), "{pointer}");
        assert!(!what.is_empty());
    }
}
