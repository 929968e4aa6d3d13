//! The W3C `traceparent` header: read strictly, and written.

/// The call that a request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceParent {
    pub trace_id: [u8; 16],
    /// The caller's span.
    pub parent_id: [u8; 8],
    /// Whether the caller records the trace.
    pub sampled: bool,
}

/// The length of version `00`; later versions may be longer.
const LENGTH: usize = 55;

impl TraceParent {
    /// Where the header has the trace's id.
    pub(crate) const TRACE_ID: std::ops::Range<usize> = 3..35;

    /// Reads `00-TRACE-PARENT-FLAGS` in lowercase hexadecimal. What a later version adds behind a
    /// further `-` is ignored.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(LENGTH)?;
        let [version] = hex(&known[..2])?;
        let ends_well = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => matches!(rest, [] | [b'-', ..]),
        };
        if !ends_well || [2, 35, 52].iter().any(|at| known[*at] != b'-') {
            return None;
        }
        let (trace_id, parent_id) = (hex(&known[Self::TRACE_ID])?, hex(&known[36..52])?);
        let [flags] = hex(&known[53..])?;
        let valid = trace_id != [0; 16] && parent_id != [0; 8];
        valid.then_some(Self { trace_id, parent_id, sampled: flags & 1 == 1 })
    }

    /// The header for a call that belongs to this one.
    pub(crate) fn write(&self) -> [u8; LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&self.trace_id, &mut text[Self::TRACE_ID]);
        write_hex(&self.parent_id, &mut text[36..52]);
        write_hex(&[u8::from(self.sampled)], &mut text[53..]);
        text
    }
}

/// The id of a trace as the header has it.
pub(crate) fn digits(trace_id: [u8; 16]) -> [u8; 32] {
    let mut digits = [0; 32];
    write_hex(&trace_id, &mut digits);
    digits
}

/// Twice as many digits as there are bytes.
fn hex<const BYTES: usize>(digits: &[u8]) -> Option<[u8; BYTES]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

fn write_hex(bytes: &[u8], to: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(to.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parse(text: &str) -> Option<TraceParent> {
        TraceParent::parse(text.as_bytes())
    }

    #[test]
    fn the_example_of_the_specification_is_read() {
        let trace_id = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
        let parent_id = 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes();
        assert_eq!(parse(GOOD), Some(TraceParent { trace_id, parent_id, sampled: true }));
    }

    #[test]
    fn only_the_lowest_flag_says_that_the_trace_is_recorded() {
        for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("03", true), ("ff", true)] {
            let text = format!("{}{flags}", &GOOD[..53]);
            assert_eq!(parse(&text).map(|parent| parent.sampled), Some(sampled), "{flags}");
        }
    }

    #[test]
    fn later_versions_may_have_more_behind_a_dash() {
        for version in ["01", "cc", "fe"] {
            let text = format!("{version}{}", &GOOD[2..]);
            assert_eq!(parse(&text), parse(GOOD), "{text}");
            assert_eq!(parse(&format!("{text}-what-the-future-will-be-like")), parse(GOOD));
            assert_eq!(parse(&format!("{text}-")), parse(GOOD));
            assert_eq!(parse(&format!("{text}.what")), None);
            assert_eq!(parse(&format!("{text}0")), None);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let zero_trace = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let zero_parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16));
        for text in [
            "",
            "00",
            "00-1-2-3",
            &GOOD[..54],
            &zero_trace,
            &zero_parent,
            &format!("ff{}", &GOOD[2..]),
            &format!("{GOOD}-"),
            &format!("{GOOD}-extra"),
            &format!(" {GOOD}"),
            &GOOD.to_uppercase(),
            &GOOD.replace('-', "_"),
            &GOOD.replace("00-4b", "0x-4b"),
            &GOOD.replace("4bf9", ".bf9"),
            &GOOD.replace("00f0", "00 0"),
            &GOOD.replace("-01", "-0g"),
            &format!("{GOOD},{GOOD}"),
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(TraceParent::parse(&[0xff; 55]), None);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in [GOOD, "00-ffffffffffffffffffffffffffffffff-0000000000000001-00"] {
            assert_eq!(parse(text).unwrap().write(), text.as_bytes());
        }
    }
}
