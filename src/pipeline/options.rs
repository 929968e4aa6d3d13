//! What a client may ask of the sidecar in its request metadata, and how the sidecar answers in
//! kind.
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::fault::Fault;
use crate::repair::report::repair_entry;
use crate::repair::{Mode, Step};

const MODE: HeaderName = HeaderName::from_static("tfs-sidecar-mode");
const DRY_RUN: HeaderName = HeaderName::from_static("tfs-sidecar-dry-run");
const REPAIRS: HeaderName = HeaderName::from_static("tfs-sidecar-repairs");
const REPAIR: HeaderName = HeaderName::from_static("tfs-sidecar-repair");
/// Repairs that are spelled out; more are only counted.
const SPELLED_OUT: usize = 8;
const MAX_LENGTH: usize = 256;

/// Read once a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestOptions {
    /// The least mode: it may raise what is configured, never lower it.
    pub mode: Mode,
    /// Run nothing; tell what would be done.
    pub dry_run: bool,
}

impl RequestOptions {
    /// # Errors
    /// A mode that there is not: whoever asks to be held more strictly must not be held less
    /// strictly for a slip of the pen.
    pub fn read(headers: &HeaderMap) -> Result<Self, Fault> {
        let mode = match headers.get(MODE) {
            None => Mode::Off,
            Some(value) => {
                value.to_str().ok().and_then(|value| value.trim().parse().ok()).ok_or_else(|| {
                    let found = String::from_utf8_lossy(value.as_bytes());
                    Fault::malformed(format!(
                        "expected observe, repair or strict in metadata {MODE}, found {found:?}"
                    ))
                })?
            }
        };
        let dry_run = headers.get(DRY_RUN).is_some_and(|value| matches!(value.as_bytes(), b"1" | b"true"));
        Ok(Self { mode, dry_run })
    }
}

/// The metadata that tells a client what was changed; none if nothing was.
pub fn repair_metadata(steps: &[Step]) -> Option<HeaderMap> {
    if steps.is_empty() {
        return None;
    }
    let mut repair_metadata = HeaderMap::with_capacity(SPELLED_OUT + 2);
    repair_metadata.insert(REPAIRS, HeaderValue::from(steps.len()));
    for step in steps.iter().take(SPELLED_OUT) {
        // Printable ASCII, whatever the names in the signature are: it can be cut anywhere, and be
        // metadata.
        let mut text = repair_entry(step);
        text.truncate(MAX_LENGTH);
        if let Ok(value) = HeaderValue::try_from(text) {
            repair_metadata.append(REPAIR, value);
        }
    }
    if steps.len() > SPELLED_OUT {
        repair_metadata.append(REPAIR, HeaderValue::from_static("more"));
    }
    Some(repair_metadata)
}

pub fn mark_dry_run(headers: &mut HeaderMap) {
    headers.insert(DRY_RUN, HeaderValue::from_static("1"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &'static str)]) -> Result<RequestOptions, Fault> {
        let headers = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        RequestOptions::read(&headers.collect())
    }

    #[test]
    fn wishes_are_read_from_the_metadata() {
        assert_eq!(read(&[]).unwrap(), RequestOptions { mode: Mode::Off, dry_run: false });
        let both = read(&[("tfs-sidecar-mode", "strict"), ("tfs-sidecar-dry-run", "1")]);
        assert_eq!(both.unwrap(), RequestOptions { mode: Mode::Strict, dry_run: true });
        assert!(!read(&[("tfs-sidecar-dry-run", "0")]).unwrap().dry_run);
        let slip = read(&[("tfs-sidecar-mode", "strct")]).unwrap_err();
        assert!(slip.to_string().contains("\"strct\""), "{slip}");
    }
}
