//! Whether a header block can be dropped without the decoder missing anything.
use super::{Head, flag};

/// Whether the frame is the whole block, and nothing else.
pub(super) fn is_whole(head: &Head) -> bool {
    head.flags & (flag::END_HEADERS | flag::PADDED | flag::PRIORITY) == flag::END_HEADERS
}

/// Whether a header block leaves HPACK's dynamic table as it is (RFC 7541, section 6).
pub(super) fn is_stateless(mut block: &[u8]) -> bool {
    while let Some(first) = block.first() {
        let after = match first {
            // An indexed field.
            0x80.. => integer(block, 7).map(|(_, rest)| rest),
            // A literal that enters the table, or a change of the table's size.
            0x20.. => return false,
            // A literal that does not.
            _ => literal(block),
        };
        let Some(after) = after else { return false };
        block = after;
    }
    true
}

fn literal(block: &[u8]) -> Option<&[u8]> {
    let (name, mut rest) = integer(block, 4)?;
    if name == 0 {
        rest = string(rest)?;
    }
    string(rest)
}

fn string(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = integer(bytes, 7)?;
    rest.get(length..)
}

/// An integer with a prefix of so many bits, and what follows it.
fn integer(bytes: &[u8], prefix: u32) -> Option<(usize, &[u8])> {
    let (first, mut rest) = bytes.split_first()?;
    let max = (1 << prefix) - 1;
    let mut value = usize::from(*first) & max;
    if value < max {
        return Some((value, rest));
    }
    for shift in [0, 7, 14] {
        let (next, after) = rest.split_first()?;
        rest = after;
        value += usize::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Some((value, rest));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blocks_without_an_effect_on_the_table_can_be_dropped() {
        // `:status: 200`, a literal with an indexed name, one with its own name, a long one.
        let literal = [&[0x88, 0x0f, 0x10, 2][..], b"ab", &[0x00, 1], b"n", &[1], b"v"].concat();
        let long = [&[0x10, 1][..], b"n", &[0x7f, 0x49], &[b'x'; 200]].concat();
        for block in [&[][..], &[0x88], &literal, &long, &[0xff, 0x20]] {
            assert!(is_stateless(block), "{block:?}");
        }
        // A literal that enters the table, a change of its size, and blocks that are cut.
        for block in [&[0x88, 0x41, 1, b'v'][..], &[0x3f, 0xe1, 0x1f], &literal[..7], &[0xff], &[0xff; 9]] {
            assert!(!is_stateless(block), "{block:?}");
        }
    }
}
