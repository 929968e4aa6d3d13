//! The response metadata that tells a client what was repaired, and what it is warned about.
use http::{HeaderMap, HeaderName, HeaderValue};

use super::options::DRY_RUN;
use crate::repair::report::repair_entry;
use crate::repair::{Action, Mode, Step, Verdict, Warning};

const REPAIRS: HeaderName = HeaderName::from_static("tfs-sidecar-repairs");
const REPAIR: HeaderName = HeaderName::from_static("tfs-sidecar-repair");
const WARNING: HeaderName = HeaderName::from_static("tfs-sidecar-warning");
/// Repairs and warnings that are spelled out, each; the others are only counted.
const MAX_SPELLED_OUT: usize = 8;
/// Bytes of one entry.
const MAX_LENGTH: usize = 256;

/// `tfs-sidecar-repairs` and one `tfs-sidecar-repair` for each step that is made, and one
/// `tfs-sidecar-warning` for each warning. `None` if there are none. Mode observe adds nothing to
/// an answer, except to that of a dry run.
pub(crate) fn repair_metadata(verdict: &Verdict, dry_run: bool) -> Option<HeaderMap> {
    let steps: &[Step] = match verdict.action {
        Action::Apply => &verdict.plan.steps,
        Action::Forward | Action::Refuse => &[],
    };
    let warnings: &[Warning] =
        if verdict.mode == Mode::Observe && !dry_run { &[] } else { &verdict.warnings };
    if steps.is_empty() && warnings.is_empty() {
        return None;
    }
    let mut metadata = HeaderMap::new();
    if !steps.is_empty() {
        metadata.insert(REPAIRS, HeaderValue::from(steps.len()));
    }
    spell_out(&mut metadata, &REPAIR, steps.iter().map(repair_entry));
    spell_out(&mut metadata, &WARNING, warnings.iter().map(|warning| warning.text.clone()));
    Some(metadata)
}

/// Adds a warning that is no part of the verdict.
pub(crate) fn append_warning(metadata: &mut HeaderMap, mut text: String) {
    text.truncate(MAX_LENGTH);
    if let Ok(value) = HeaderValue::try_from(text) {
        metadata.append(WARNING, value);
    }
}

/// One value for each entry, up to a limit.
fn spell_out(
    metadata: &mut HeaderMap,
    name: &HeaderName,
    mut entries: impl ExactSizeIterator<Item = String>,
) {
    for mut text in entries.by_ref().take(MAX_SPELLED_OUT) {
        // Always printable ASCII, whatever the names in the signature are, so it can be cut
        // anywhere.
        text.truncate(MAX_LENGTH);
        if let Ok(value) = HeaderValue::try_from(text) {
            metadata.append(name, value);
        }
    }
    if entries.len() > 0 {
        metadata.append(name, HeaderValue::from_static("more"));
    }
}

/// Says that nothing was run.
pub(crate) fn mark_dry_run(headers: &mut HeaderMap) {
    headers.insert(DRY_RUN, HeaderValue::from_static("1"));
}
