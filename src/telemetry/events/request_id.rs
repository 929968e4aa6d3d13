//! The id by which a client and the log speak about one request.
use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

/// Where clients send an id, and get it back.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Bytes of an id. A longer one is cut in the log, and not sent back: it would take the room that
/// clients leave for trailers.
const MAX_ID: usize = 128;

/// Up to 128 bytes of printable ASCII.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(SmallVec<[u8; 40]>);

impl RequestId {
    /// The id that a client sent.
    pub(crate) fn sent(value: &HeaderValue) -> Self {
        Self(SmallVec::from_slice(printable(value.as_bytes(), MAX_ID).as_bytes()))
    }

    /// An id that no other request has: 64 random bits of this process, and a number.
    pub(crate) fn made() -> Self {
        static PROCESS: LazyLock<String> =
            LazyLock::new(|| format!("{:016x}-", RandomState::new().hash_one("request id")));
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Relaxed);
        let (mut digits, mut start, mut left) = ([0; 16], 16, number);
        while left > 0 {
            start -= 1;
            digits[start] = b"0123456789abcdef"[left as usize & 0xf];
            left >>= 4;
        }
        let mut id = SmallVec::from_slice(PROCESS.as_bytes());
        id.extend_from_slice(&digits[start..]);
        Self(id)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The value to send back to the client; `None` for one that is too long.
    pub(crate) fn echo(sent: &HeaderValue) -> Option<HeaderValue> {
        (sent.len() <= MAX_ID).then(|| sent.clone())
    }
}

/// At most `max` bytes of what a client sent, with `_` in place of all but printable ASCII.
pub(crate) fn printable(bytes: &[u8], max: usize) -> std::borrow::Cow<'_, str> {
    let bytes = &bytes[..bytes.len().min(max)];
    let is_printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.iter().all(|byte| is_printable(*byte)) => text.into(),
        _ => {
            let clean = bytes.iter().map(|byte| if is_printable(*byte) { char::from(*byte) } else { '_' });
            clean.collect::<String>().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_ids_differ() {
        let (one, other) = (RequestId::made(), RequestId::made());
        let (one, other) = (one.as_str(), other.as_str());
        assert_ne!(one, other);
        assert_eq!(one.split('-').next(), other.split('-').next());
        assert_eq!(one.find('-'), Some(16), "{one}");
    }

    #[test]
    fn ids_of_clients_are_printable_and_short_and_only_short_ones_are_sent_back() {
        let sent = |bytes: &[u8]| HeaderValue::from_bytes(bytes).unwrap();
        let shown = |bytes: &[u8]| RequestId::sent(&sent(bytes)).as_str().to_owned();
        assert_eq!(shown(b"4bf92f35-77b3"), "4bf92f35-77b3");
        assert_eq!(shown("z\u{fc}rich\t".as_bytes()), "z__rich_");
        assert_eq!(shown(&[b'x'; 4_000]).len(), MAX_ID);
        assert_eq!(RequestId::echo(&sent(&[b'x'; MAX_ID])), Some(sent(&[b'x'; MAX_ID])));
        assert_eq!(RequestId::echo(&sent(&[b'x'; MAX_ID + 1])), None);
    }
}
