//! Target `scan_cuts`: the chunks in which a message came change nothing of what is read from it or
//! made of it.
use bytes::Bytes;
use tfs_sidecar::repair::calls::{answer, requests};
use tfs_sidecar::repair::{Action, Mode, apply, cost};
use tfs_sidecar::wire::infer::InferView;
use tfs_sidecar::wire::reply::ReplyView;
use tfs_sidecar::wire::{PredictView, Rope, WireError};

use super::plan::{case, judged};

/// The first byte is a number of cuts; then their sizes, then an input of `plan`.
pub fn scan_cuts(data: &[u8]) {
    let Some((count, rest)) = data.split_first() else { return };
    let (sizes, rest) = rest.split_at(rest.len().min(*count as usize % 32));
    let Some(mut case) = case(rest) else { return };
    case.policy.defaults.mode = Mode::Repair;
    let whole = Rope::from(case.message.clone());
    let cut = cut(&case.message, sizes);

    let view = PredictView::scan(&cut);
    assert_eq!(view, PredictView::scan(&whole));
    assert_eq!(InferView::scan_single(&cut), InferView::scan_single(&whole));
    assert_eq!(InferView::scan_multi(&cut), InferView::scan_multi(&whole));
    let outputs = |rope| ReplyView::scan(rope).map(|view| view.outputs);
    assert_eq!(outputs(&cut), outputs(&whole));
    for fuel in [0, 1, sizes.len(), case.message.len()] {
        let limited = PredictView::scan_within(&cut, fuel);
        assert!(limited == view || matches!(limited, Err(WireError::Unfinished { .. })));
        // Every field has two bytes at least.
        assert!(limited == view || fuel < case.message.len());
    }
    let Ok(view) = view else { return };

    let verdict = judged(&cut, &case.signatures, &case.policy, case.limits, None);
    assert_eq!(verdict, judged(&whole, &case.signatures, &case.policy, case.limits, None));
    let Some(verdict) = verdict.filter(|verdict| verdict.action == Action::Apply) else { return };
    let made = apply(&cut, &view, &verdict.plan).expect("what was planned can be done");
    assert_eq!(Ok(&made), apply(&whole, &view, &verdict.plan).as_ref());
    let cost = cost(&view, &verdict.plan);
    assert!(cost.values <= made.len() as u64, "{cost:?}");
    assert!(made.len() as u64 <= grown(&whole, &verdict) + cost.memory, "{cost:?}\n{verdict:?}");

    let calls = verdict.plan.calls;
    let parts = requests(&made, calls);
    assert_eq!(parts, requests(&Rope::from(made.to_bytes()), calls));
    // A request has the fields of an answer under other numbers; joining must not panic.
    drop(parts.map(|parts| answer(&parts, calls)));
}

/// The message in chunks of these sizes, over and over.
fn cut(bytes: &[u8], sizes: &[u8]) -> Rope {
    let mut sizes = sizes.iter().map(|size| (*size as usize).max(1)).chain([1]).cycle();
    let mut rest = bytes;
    let mut rope = Rope::new();
    while !rest.is_empty() {
        let (chunk, left) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
        rope.push(Bytes::copy_from_slice(chunk));
        rest = left;
    }
    rope
}

/// The message with new names and descriptors, without new values.
fn grown(message: &Rope, verdict: &tfs_sidecar::repair::Verdict) -> u64 {
    // A descriptor has up to 254 dimensions of 13 bytes each.
    (message.len() + 4096 * verdict.plan.steps.len()) as u64
}
