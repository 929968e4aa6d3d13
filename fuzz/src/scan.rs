//! Target `scan`: scans arbitrary bytes in chunks of several sizes and compares the result with
//! prost.
use std::collections::BTreeSet;

use prost::Message as _;
use tfs_sidecar::proto::tensorflow::serving::input::Kind;
use tfs_sidecar::proto::tensorflow::serving::{
    ClassificationRequest, MultiInferenceRequest, PredictRequest, PredictResponse,
};
use tfs_sidecar::tensor::ValueList;
use tfs_sidecar::wire::infer::InferView;
use tfs_sidecar::wire::reply::{self, ReplyView};
use tfs_sidecar::wire::{PredictView, Rope, WireError};

use super::check::{in_range, prost_errs, same_heads};
use super::cut;

/// The first byte is the second chunk size, and the rest is the message.
pub fn scan(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let whole = cut(bytes, bytes.len());
    let cuts = [cut(bytes, 1), cut(bytes, *size as usize)];
    predict(bytes, &whole, &cuts);
    infer(bytes, &whole, &cuts);
    answer(bytes, &whole, &cuts);
}

fn predict(bytes: &[u8], whole: &Rope, cuts: &[Rope]) {
    let view = PredictView::scan(whole);
    for cut in cuts {
        assert_eq!(PredictView::scan(cut), view, "the cut of the chunks is seen");
    }
    if let Ok(view) = &view {
        in_range(view, bytes.len());
    }
    let Ok(decoded) = PredictRequest::decode(bytes) else { return };
    if prost_errs(bytes, 2) {
        return;
    }
    match view {
        Ok(view) => {
            let sent: BTreeSet<&str> = view.inputs.iter().map(|input| input.key.as_str()).collect();
            let keys: BTreeSet<&str> = decoded.inputs.keys().map(String::as_str).collect();
            assert_eq!((sent.len(), sent), (view.inputs.len(), keys));
            assert_eq!(view.output_filter, decoded.output_filter);
            let spec = decoded.model_spec.unwrap_or_default();
            assert_eq!(
                (&view.model_spec.name, &view.model_spec.signature_name),
                (&spec.name, &spec.signature_name)
            );
            for input in &view.inputs {
                same_heads(&input.tensor, whole, &decoded.inputs[&input.key]);
            }
        }
        // These are our own limits. prost has its own limit on the depth of unknown fields.
        Err(WireError::TooMany { .. } | WireError::TooDeep { .. }) => {}
        Err(error) => panic!("prost reads what the scan refuses: {error}"),
    }
}

fn infer(bytes: &[u8], whole: &Rope, cuts: &[Rope]) {
    let single = InferView::scan_single(whole);
    let multi = InferView::scan_multi(whole);
    for cut in cuts {
        assert_eq!(InferView::scan_single(cut), single);
        assert_eq!(InferView::scan_multi(cut), multi);
    }
    let examples = |kind: Option<Kind>| match kind {
        Some(Kind::ExampleList(list)) => list.examples.len(),
        Some(Kind::ExampleListWithContext(list)) => list.examples.len(),
        None => 0,
    };
    if let Ok(request) = ClassificationRequest::decode(bytes) {
        let view = limits(&single);
        let kind = request.input.and_then(|input| input.kind);
        assert!(view.is_none_or(|view| view.examples == examples(kind) as u64));
    }
    if let Ok(request) = MultiInferenceRequest::decode(bytes) {
        let view = limits(&multi);
        let kind = request.input.and_then(|input| input.kind);
        assert!(view.is_none_or(|view| view.examples == examples(kind) as u64));
        assert!(view.is_none_or(|view| view.tasks.len() == request.tasks.len()));
    }
    for (view, decodes) in [(single, false), (multi, true)] {
        let Ok(view) = view else { continue };
        let names = vec![Some("another"); view.tasks.len()];
        let again = view.rewrite(whole, None, &names);
        let scanned = if decodes { InferView::scan_multi(&again) } else { InferView::scan_single(&again) };
        let scanned = scanned.expect("what is written anew scans");
        let renamed = scanned.tasks.iter().all(|task| task.model_spec.effective_signature() == "another");
        // Without a model spec, a Classify request has no signature name to rewrite.
        assert!(renamed || view.tasks.iter().any(|task| !task.model_spec.present));
        assert_eq!((scanned.examples, scanned.tasks.len()), (view.examples, view.tasks.len()));
    }
}

/// `None` if a limit was exceeded. Anything else that prost decodes must scan.
fn limits(view: &Result<InferView, WireError>) -> Option<&InferView> {
    match view {
        Ok(view) => Some(view),
        Err(WireError::TooMany { .. } | WireError::TooDeep { .. }) => None,
        Err(error) => panic!("prost reads what the scan refuses: {error}"),
    }
}

fn answer(bytes: &[u8], whole: &Rope, cuts: &[Rope]) {
    let view = ReplyView::scan(whole);
    let outputs = |view: &Result<ReplyView, WireError>| {
        view.as_ref().map(|view| view.outputs.clone()).map_err(Clone::clone)
    };
    for cut in cuts {
        assert_eq!(outputs(&ReplyView::scan(cut)), outputs(&view));
    }
    if PredictResponse::decode(bytes).is_ok() && !prost_errs(bytes, 1) {
        let limit = matches!(view, Err(WireError::TooMany { .. } | WireError::TooDeep { .. }));
        assert!(limit || view.is_ok(), "prost reads what the scan refuses");
    }
    let Ok(view) = view else { return };
    let Some(rows) = view.outputs.first().and_then(|output| output.tensor.shape.first().copied()) else {
        return;
    };
    let few = view
        .outputs
        .iter()
        .all(|output| output.tensor.lists().iter().all(|(list, _)| *list != ValueList::Variant));
    let kept = if few { rows.clamp(0, 2) } else { 0 };
    for message in [whole, &cuts[0]] {
        if let Ok(short) = reply::cut(message, kept, rows) {
            let scanned = ReplyView::scan(&short).expect("an answer that was cut scans");
            assert_eq!(scanned.outputs.len(), view.outputs.len());
            if let Ok(joined) = reply::join(&[(short.clone(), kept), (short, kept)]) {
                ReplyView::scan(&joined).expect("joined answers scan");
            }
        }
    }
}
