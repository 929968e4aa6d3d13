//! The time of a log line.
use std::time::SystemTime;

/// The time as it was written last: most lines begin within the same second.
#[derive(Debug, Default)]
pub(super) struct Second {
    since_epoch: u64,
    /// RFC 3339 with microseconds.
    pub(super) text: String,
}

impl Second {
    pub(super) fn with_micros(&mut self, now: SystemTime) {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let begins = self.text.len().checked_sub("000000Z".len());
        if let Some(begins) = begins.filter(|_| self.since_epoch == since.as_secs()) {
            self.text.truncate(begins);
            let mut place = 100_000;
            while place > 0 {
                self.text.push(char::from(b'0' + (since.subsec_micros() / place % 10) as u8));
                place /= 10;
            }
            self.text.push('Z');
        } else {
            self.since_epoch = since.as_secs();
            self.text = humantime::format_rfc3339_micros(now).to_string();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_within_a_second_are_written_as_others_are() {
        let mut second = Second::default();
        for micros in [0, 1, 999_999, 1_000_000, 1_000_020, 61_000_000, 60_000_500, 1_764_218_400_123_456] {
            let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(micros);
            second.with_micros(now);
            assert_eq!(second.text, humantime::format_rfc3339_micros(now).to_string());
        }
    }
}
