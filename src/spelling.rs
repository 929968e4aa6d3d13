//! Layer 0: finds the known name that a misspelt one was probably meant to be. Only for messages;
//! no request is ever changed by it.

use strsim::osa_distance;

/// Longest name that is compared, in bytes: the work grows with the square of the length.
const MAX_LENGTH: usize = 64;

/// Maximum number of known names of a similar length that are compared: a hint is not worth more.
const MAX_COMPARED: usize = 1024;

/// The known name nearest to `name`, if at most a third of the letters differ. Case is ignored, and
/// `-` equals `_`.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    within((length / 3).max(1), name, known)
}

/// Like [`nearest`], but stricter: at most two letters differ, and none in a name of one or two.
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
        .take(MAX_COMPARED)
        .map(|candidate| (osa_distance(&name, &folded(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Names that differ only by case, or by `-` for `_`, are the same.
fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_recognised_and_a_different_word_is_not() {
        let known = ["listen", "admin_listen", "upstream", "limits"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("admin-listen", known), Some("admin_listen"));
        assert_eq!(nearest("Upstraem", known), Some("upstream"));
        assert_eq!(nearest("port", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn close_names_differ_by_two_letters_at_most_and_short_ones_by_none() {
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
