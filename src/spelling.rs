//! Floor 0: which known name a misspelt one was most likely meant to be. For messages only: nothing
//! is ever matched by it.

/// Longer names are not compared: the work grows with the square.
const MAX_LENGTH: usize = 64;

/// The known name nearest to `name`, if at most a third of the letters differ; upper case and `-`
/// for `_` are no difference.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    within((length / 3).max(1), name, known)
}

/// As [`nearest`], for short names too, and never further than two letters.
pub(crate) fn close<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    within((length / 3).min(2), name, known)
}

fn within<'a>(allowed: usize, name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_LENGTH {
        return None;
    }
    let name = folded(name);
    known
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_LENGTH && candidate.len().abs_diff(name.len()) <= allowed)
        .map(|candidate| (distance(&name, &folded(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn folded(name: &str) -> Vec<u8> {
    // Bytes will do: names are ASCII as a rule, and other ones only seem further apart.
    name.bytes().map(|byte| if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() }).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
fn distance(from: &[u8], to: &[u8]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != other);
            let mut best = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *letter == to[column - 1] && from[row - 1] == *other {
                best = best.min(before_last[column - 1] + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_a_different_word_is_not() {
        let known = ["listen", "admin_listen", "upstream", "limits"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("admin-listen", known), Some("admin_listen"));
        assert_eq!(nearest("Upstraem", known), Some("upstream"));
        assert_eq!(nearest("port", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn close_names_differ_by_little_and_short_ones_by_nothing() {
        let known = ["input_ids", "x", "Mask"];
        assert_eq!(close("input-IDs", known), Some("input_ids"));
        assert_eq!(close("inptu_id", known), Some("input_ids"));
        assert_eq!(close("inputs_x", known), None);
        assert_eq!(close("X", known), Some("x"));
        assert_eq!(close("y", known), None);
        assert_eq!(close("mask", known), Some("Mask"));
        assert_eq!(close(&"x".repeat(1 << 20), known), None);
    }
}
