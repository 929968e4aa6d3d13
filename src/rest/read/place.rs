//! JSON pointers to places of which only the byte is known. Errors need them, so they are found by
//! reading the body once more up to the place.
use std::ops::Range;

use super::cursor::Cursor;
use super::finding::step;
use super::text;

/// Nested lists and objects that a pointer names; it ends at the last of them.
const MAX_LEVELS: usize = 32;

/// A list or an object that is open.
#[derive(Debug)]
struct Level {
    object: bool,
    /// Values before the current one.
    index: u64,
    /// The name of the current member, without its quotes, and whether it has escapes.
    key: Option<(Range<usize>, bool)>,
}

/// The pointer of the list or object that is open at a byte; empty for the body itself.
pub fn around(body: &[u8], at: usize) -> String {
    let mut levels = levels(body, at);
    levels.pop();
    pointer(body, &levels)
}

/// The pointer of the value that begins at a byte.
pub fn of_value(body: &[u8], at: usize) -> String {
    pointer(body, &levels(body, at))
}

/// The levels that are open at a byte. The body has no syntax errors before it.
fn levels(body: &[u8], at: usize) -> Vec<Level> {
    let mut levels: Vec<Level> = Vec::new();
    let mut deeper = 0_usize;
    let mut cursor = Cursor::new(body);
    while cursor.at < at.min(body.len()) {
        match cursor.peek() {
            b'"' => {
                let Ok(text) = cursor.string() else { break };
                if let Some(level) = levels.last_mut().filter(|level| level.object && deeper == 0) {
                    // Behind the name comes the value.
                    level.key.get_or_insert((text.range, text.escaped));
                }
                continue;
            }
            b'[' | b'{' if levels.len() == MAX_LEVELS => deeper += 1,
            open @ (b'[' | b'{') => levels.push(Level { object: open == b'{', index: 0, key: None }),
            b']' | b'}' if deeper > 0 => deeper -= 1,
            b']' | b'}' => drop(levels.pop()),
            b',' => {
                if let Some(level) = levels.last_mut().filter(|_| deeper == 0) {
                    level.index += 1;
                    level.key = None;
                }
            }
            b' ' => {
                cursor.space();
                continue;
            }
            _ => {}
        }
        cursor.at += 1;
    }
    levels
}

fn pointer(body: &[u8], levels: &[Level]) -> String {
    let mut pointer = String::new();
    for level in levels {
        match &level.key {
            Some((range, escaped)) => {
                let mut name = Vec::new();
                text::append(&body[range.clone()], *escaped, &mut name);
                step(&mut pointer, &String::from_utf8_lossy(&name));
            }
            None if level.object => break,
            None => step(&mut pointer, itoa::Buffer::new().format(level.index)),
        }
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_the_pointers_of_their_values_and_of_what_is_around_them() {
        let body = br#" {"a": [1, {"b/c": "x,\"]", "d": [[], [2, 3]]}], "e": {}}"#;
        for (text, value, outside) in [
            ("{\"a\"", "", ""),
            ("[1,", "/a", ""),
            ("1,", "/a/0", "/a"),
            ("\"x", "/a/1/b~1c", "/a/1"),
            ("[]", "/a/1/d/0", "/a/1/d"),
            ("3", "/a/1/d/1/1", "/a/1/d/1"),
            ("{}", "/e", ""),
        ] {
            let at = body.windows(text.len()).position(|found| found == text.as_bytes()).unwrap();
            assert_eq!((of_value(body, at).as_str(), around(body, at).as_str()), (value, outside), "{text}");
        }
    }

    #[test]
    fn pointers_end_at_a_depth() {
        let body = "[".repeat(100_000);
        assert_eq!(of_value(body.as_bytes(), 99_999), "/0".repeat(MAX_LEVELS));
        let body = format!("{}1{}, 2]", "[".repeat(100), "]".repeat(99));
        assert_eq!(of_value(body.as_bytes(), body.len() - 2), "/1");
    }
}
