//! What was sent to a model that parses a `tf.Example`: the features of an Example, or something
//! else.
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use super::detail::{MAX_NAMES, list};
use crate::wire::Rope;
use crate::wire::scan::{Reader, Wire};

/// Strings that are longer are not looked into.
const MAX_SIZE: usize = 1 << 20;
/// Paths are not longer than this.
const MAX_PATH: usize = 4096;

/// What the first of the strings that is no Example is, or otherwise which features the first
/// Example has.
pub(super) fn describe(strings: &[Bytes]) -> Option<String> {
    let wrong = strings.iter().find(|string| features(string).is_none());
    let string = wrong.or_else(|| strings.first()).filter(|string| string.len() <= MAX_SIZE)?;
    if string.is_empty() {
        return Some("sent: an empty string".to_owned());
    }
    if let Some(names) = features(string) {
        return Some(format!("sent: an Example {}", with_features(&names)));
    }
    if let Some(names) = from_base64(string).as_deref().and_then(features) {
        let which = with_features(&names);
        return Some(format!("sent: base64 of an Example {which}: decode it before it is sent"));
    }
    let text = std::str::from_utf8(string).ok().filter(|text| !text.contains('\0'))?;
    Some(match text.trim_start() {
        text if is_path(text) => "sent: a file's path; send the contents, as Examples".to_owned(),
        text if text.starts_with(['{', '[']) => "sent: JSON, not a serialized Example".to_owned(),
        _ => "sent: text, not a serialized Example".to_owned(),
    })
}

fn with_features(names: &[String]) -> String {
    let named: Vec<&str> = names.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    let unnamed = match names.len() - named.len() {
        0 => "",
        _ if named.is_empty() => "with a feature whose name is the empty string",
        _ => ", and one whose name is the empty string",
    };
    match list(named.into_iter(), MAX_NAMES).as_str() {
        "" if unnamed.is_empty() => "without features".to_owned(),
        "" => unnamed.to_owned(),
        named => format!("with the features {named}{unnamed}"),
    }
}

/// The names of the features, if the bytes are a `tensorflow.Example` and nothing else.
fn features(bytes: &[u8]) -> Option<Vec<String>> {
    if bytes.is_empty() {
        return None;
    }
    let message = Rope::from(bytes.to_vec());
    let mut names = Vec::new();
    // Example.features, Features.feature, then a map entry of a key and a Feature.
    each(&mut Reader::new(&message), &[1], &mut |features, _| {
        each(features, &[1], &mut |entry, _| {
            let mut name = String::new();
            each(entry, &[1, 2], &mut |value, field| {
                if field == 1 {
                    let key = message.slice(value.position()..value.position() + value.remaining());
                    name = String::from_utf8(key.to_bytes().to_vec()).ok()?;
                }
                Some(())
            })?;
            names.push(name);
            Some(())
        })
    })?;
    Some(names)
}

/// Reads a message that has only these fields, all of them with a length.
fn each(
    reader: &mut Reader<'_>,
    fields: &[u32],
    visit: &mut dyn FnMut(&mut Reader<'_>, u32) -> Option<()>,
) -> Option<()> {
    while let Some(field) = reader.next_field().ok()? {
        if field.wire != Wire::Bytes || !fields.contains(&field.number) {
            return None;
        }
        visit(&mut reader.inner(&field), field.number)?;
    }
    Some(())
}

fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabets = [base64::alphabet::STANDARD, base64::alphabet::URL_SAFE];
    let text = text.trim_ascii();
    alphabets.iter().find_map(|alphabet| GeneralPurpose::new(alphabet, CONFIG).decode(text).ok())
}

/// `/data/cat.jpg`, `gs://bucket/file`, `C:\data\cat.jpg`, `cat.jpg`.
fn is_path(text: &str) -> bool {
    let text = text.trim_end();
    let last = text.rsplit(['/', '\\']).next().unwrap_or_default();
    let ending = last.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map_or("", |(_, ending)| ending);
    let has_ending = (1..=8).contains(&ending.len())
        && ending.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && ending.bytes().any(|byte| byte.is_ascii_alphabetic());
    let has_folders = text.starts_with('/') || text.contains("://") || text.contains(":\\");
    text.len() <= MAX_PATH
        && !text.contains(|c: char| c.is_whitespace() || c == ',')
        && (has_ending || has_folders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::emit::field;

    /// An Example with a float feature of each name.
    fn example(names: &[&str]) -> Bytes {
        let mut features = Rope::new();
        for name in names {
            let mut entry = field(1, Rope::from(name.as_bytes().to_vec()));
            entry.append(field(2, field(2, field(1, Rope::from(vec![0, 0, 0x80, 0x3f])))));
            features.append(field(1, entry));
        }
        field(1, features).to_bytes()
    }

    fn of(bytes: &[u8]) -> String {
        describe(&[Bytes::copy_from_slice(bytes)]).unwrap_or_default()
    }

    #[test]
    fn an_example_is_told_by_its_features() {
        assert_eq!(of(&example(&["age", "income"])), "sent: an Example with the features age, income");
        assert_eq!(of(&example(&[""])), "sent: an Example with a feature whose name is the empty string");
        assert_eq!(
            of(&example(&["age", ""])),
            "sent: an Example with the features age, and one whose name is the empty string"
        );
        assert_eq!(of(&example(&[])), "sent: an Example without features");
    }

    #[test]
    fn what_is_no_example_is_told_by_what_it_is() {
        let encoded = base64::engine::general_purpose::STANDARD.encode(example(&["age"]));
        assert_eq!(
            of(encoded.as_bytes()),
            "sent: base64 of an Example with the features age: decode it before it is sent"
        );
        for path in ["/data/cat", "gs://bucket/cat.tfrecord", "C:\\data\\cat.jpg", "cat.jpg", "a/b/cat.jpg"] {
            assert_eq!(of(path.as_bytes()), "sent: a file's path; send the contents, as Examples", "{path}");
        }
        for text in ["you are very good", "0.5,1.5", "3.14", "https is no path", "positive"] {
            assert_eq!(of(text.as_bytes()), "sent: text, not a serialized Example", "{text}");
        }
        assert_eq!(of(b"{\"age\": 3}"), "sent: JSON, not a serialized Example");
        assert_eq!(of(b""), "sent: an empty string");
        assert_eq!(of(b"\x89PNG\r\n\x1a\n\0"), "");
    }

    #[test]
    fn the_one_that_is_no_example_is_told() {
        let strings = [example(&["age"]), Bytes::from_static(b"some text")];
        assert_eq!(describe(&strings).as_deref(), Some("sent: text, not a serialized Example"));
    }

    #[test]
    fn bytes_that_are_cut_are_no_example() {
        let whole = example(&["age", "income"]);
        for end in 1..whole.len() {
            assert_eq!(features(&whole[..end]), None, "{end}");
        }
    }
}
