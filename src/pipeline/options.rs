//! What a client may ask of the sidecar in its request metadata.
use http::{HeaderMap, HeaderName};

use crate::fault::Fault;
use crate::repair::Mode;

const PREFIX: &str = "tfs-sidecar-";
const MODE: HeaderName = HeaderName::from_static("tfs-sidecar-mode");
pub(super) const DRY_RUN: HeaderName = HeaderName::from_static("tfs-sidecar-dry-run");

/// Read once a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestOptions {
    /// The least strict mode that the client accepts. It only makes the configured mode stricter.
    pub mode: Mode,
    /// Run nothing, and say what would be done.
    pub dry_run: bool,
}

impl RequestOptions {
    /// Nothing is asked for.
    pub(crate) const NONE: Self = Self { mode: Mode::Off, dry_run: false };

    /// # Errors
    /// An unknown mode. Ignoring it would check the request less strictly than the client asked
    /// for.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Fault> {
        // Nearly all requests have none, and a look at the names costs less than a search for each.
        if !headers.keys().any(|name| name.as_str().starts_with(PREFIX)) {
            return Ok(Self::NONE);
        }
        let mode = match headers.get(MODE) {
            None => Mode::Off,
            Some(value) => {
                value.to_str().ok().and_then(|value| value.trim().parse().ok()).ok_or_else(|| {
                    let got = String::from_utf8_lossy(value.as_bytes());
                    Fault::malformed(format!(
                        "expected observe, repair or strict in metadata {MODE}, got {got:?}"
                    ))
                })?
            }
        };
        let dry_run = headers.get(DRY_RUN).is_some_and(|value| matches!(value.as_bytes(), b"1" | b"true"));
        Ok(Self { mode, dry_run })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(pairs: &[(&'static str, &'static str)]) -> Result<RequestOptions, Fault> {
        let headers = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        RequestOptions::read(&headers.collect())
    }

    #[test]
    fn options_are_read_from_the_metadata() {
        assert_eq!(read(&[]).unwrap(), RequestOptions { mode: Mode::Off, dry_run: false });
        let both = read(&[("tfs-sidecar-mode", "strict"), ("tfs-sidecar-dry-run", "1")]);
        assert_eq!(both.unwrap(), RequestOptions { mode: Mode::Strict, dry_run: true });
        assert!(!read(&[("tfs-sidecar-dry-run", "0")]).unwrap().dry_run);
        let misspelt = read(&[("tfs-sidecar-mode", "strct")]).unwrap_err();
        assert!(misspelt.to_string().contains("\"strct\""), "{misspelt}");
    }
}
