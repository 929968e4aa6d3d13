//! The deadline of a request: read from `grpc-timeout`, and written to upstream calls as the time
//! that remains.
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::fault::Fault;

pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// TF Serving counts in whole milliseconds and reads 0 as "no deadline", so less than this
/// counts as passed.
const MIN: Duration = Duration::from_millis(1);
/// The grammar allows eight digits.
const MAX_VALUE: u64 = 99_999_999;

/// When a request must be answered; none if its client set no timeout.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// From the metadata of a request that arrived at `now`.
    ///
    /// # Errors
    /// A timeout that cannot be read, which ends the call in gRPC too.
    pub(crate) fn read(headers: &HeaderMap, now: Instant) -> Result<Self, Fault> {
        let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(Self(None)) };
        let timeout = value.to_str().ok().and_then(parse).ok_or_else(|| {
            Fault::malformed(format!(
                "expected grpc-timeout as up to 8 digits and one of H M S m u n, got {value:?}"
            ))
        })?;
        // A timeout beyond the range of the clock is as good as none.
        Ok(Self(now.checked_add(timeout)))
    }

    pub(crate) fn until(at: Instant) -> Self {
        Self(Some(at))
    }

    pub(crate) fn at(self) -> Option<Instant> {
        self.0
    }

    /// Writes the time left at `now` into the metadata of the upstream call.
    ///
    /// # Errors
    /// The deadline has passed.
    pub(crate) fn stamp(self, headers: &mut HeaderMap, now: Instant) -> Result<(), Fault> {
        let Some(at) = self.0 else { return Ok(()) };
        let left = at.saturating_duration_since(now);
        if left < MIN {
            return Err(Fault::Deadline { during: "sending the request to the upstream" });
        }
        headers.insert(GRPC_TIMEOUT, format(left));
        Ok(())
    }
}

/// `TimeoutValue TimeoutUnit`: 1 to 8 digits, then H, M, S, m (milli), u (micro) or n (nano).
fn parse(text: &str) -> Option<Duration> {
    let unit = *text.as_bytes().last()?;
    let digits = text.get(..text.len() - 1)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(value * 3600)),
        b'M' => Some(Duration::from_secs(value * 60)),
        b'S' => Some(Duration::from_secs(value)),
        b'm' => Some(Duration::from_millis(value)),
        b'u' => Some(Duration::from_micros(value)),
        b'n' => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// Never more than `left`, in the finest unit that has room.
fn format(left: Duration) -> HeaderValue {
    let (value, unit) = [(left.as_micros(), 'u'), (left.as_millis(), 'm'), (u128::from(left.as_secs()), 'S')]
        .into_iter()
        .find(|(value, _)| *value <= u128::from(MAX_VALUE))
        .unwrap_or((u128::from(left.as_secs() / 3600).min(u128::from(MAX_VALUE)), 'H'));
    // Digits and a letter are always a header value.
    HeaderValue::try_from(format!("{value}{unit}")).unwrap_or(HeaderValue::from_static("1m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        let cases = [("1H", 3_600_000), ("2M", 120_000), ("3S", 3000), ("4m", 4), ("99999999m", 99_999_999)];
        for (text, millis) in cases {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("5u"), Some(Duration::from_micros(5)));
        assert_eq!(parse("6n"), Some(Duration::from_nanos(6)));
        for text in ["", "S", "1", "1s", "-1S", "+1S", "100000000S", "1 S", "1.5S", "٣S"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_written_timeout_is_never_longer_than_the_remaining_time() {
        for micros in [1_000, 1_234_567, 99_999_999, 100_000_000, 86_400_000_000, 1 << 50] {
            let left = Duration::from_micros(micros);
            let text = format(left);
            let back = parse(text.to_str().unwrap()).unwrap();
            assert!(back <= left && back * 1001 / 1000 + Duration::from_secs(1) >= left, "{text:?}");
        }
    }

    #[test]
    fn the_remaining_time_shrinks_until_the_deadline_passes() {
        let mut headers = HeaderMap::new();
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_static("50m"));
        let start = Instant::now();
        let deadline = Deadline::read(&headers, start).unwrap();
        deadline.stamp(&mut headers, start + Duration::from_millis(20)).unwrap();
        assert_eq!(headers[GRPC_TIMEOUT], "30000u");
        for over in [50, 60, 1000] {
            assert!(matches!(
                deadline.stamp(&mut headers, start + Duration::from_millis(over)),
                Err(Fault::Deadline { .. })
            ));
        }
        assert!(
            deadline.stamp(&mut headers, start + Duration::from_micros(49_500)).is_err(),
            "0 whole ms mean no deadline to TF Serving"
        );
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_static("soon"));
        assert!(Deadline::read(&headers, start).is_err());
    }
}
