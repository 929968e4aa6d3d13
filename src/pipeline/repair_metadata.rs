//! The response metadata that tells a client what was repaired.
use http::{HeaderMap, HeaderName, HeaderValue};

use super::options::DRY_RUN;
use crate::repair::Step;
use crate::repair::report::repair_entry;

const REPAIRS: HeaderName = HeaderName::from_static("tfs-sidecar-repairs");
const REPAIR: HeaderName = HeaderName::from_static("tfs-sidecar-repair");
/// Repairs that are spelled out; the others are only counted.
const MAX_SPELLED_OUT: usize = 8;
/// Bytes of one entry.
const MAX_LENGTH: usize = 256;

/// `tfs-sidecar-repairs` and one `tfs-sidecar-repair` for each step. `None` if there is no step.
pub fn repair_metadata(steps: &[Step]) -> Option<HeaderMap> {
    if steps.is_empty() {
        return None;
    }
    let mut metadata = HeaderMap::with_capacity(MAX_SPELLED_OUT + 2);
    metadata.insert(REPAIRS, HeaderValue::from(steps.len()));
    for step in steps.iter().take(MAX_SPELLED_OUT) {
        // Always printable ASCII, whatever the names in the signature are, so it can be cut
        // anywhere.
        let mut text = repair_entry(step);
        text.truncate(MAX_LENGTH);
        if let Ok(value) = HeaderValue::try_from(text) {
            metadata.append(REPAIR, value);
        }
    }
    if steps.len() > MAX_SPELLED_OUT {
        metadata.append(REPAIR, HeaderValue::from_static("more"));
    }
    Some(metadata)
}

/// Says that nothing was run.
pub fn mark_dry_run(headers: &mut HeaderMap) {
    headers.insert(DRY_RUN, HeaderValue::from_static("1"));
}
