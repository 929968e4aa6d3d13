//! One log line: bounded in length, and without a character that a peer could forge lines with.
//!
//! Names, texts and addresses of peers are logged in many places. Here is the only place that
//! writes them, so that none can forget to escape.
use std::cell::RefCell;
use std::fmt::{self, Write};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::names::Names;
use super::second::Second;
use crate::config::LogFormat;

/// Bounds in bytes, after escaping.
const MAX_LINE: usize = 4096;
const MAX_MESSAGE: usize = 2048;
const MAX_FIELD: usize = 1024;
/// What follows a value that was cut.
const CUT: &str = "[...]";

/// Writes events as text or JSON.
pub(super) struct Line(pub LogFormat);

thread_local! {
    /// Kept, so that a line takes no memory of its own.
    static FIELDS: RefCell<Fields> = RefCell::default();
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        FIELDS.with(|fields| match fields.try_borrow_mut() {
            Ok(mut fields) => self.write(&mut fields, writer, event),
            // What is formatted may log, too.
            Err(_) => self.write(&mut Fields::default(), writer, event),
        })
    }
}

impl Line {
    fn write(&self, fields: &mut Fields, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        fields.begin(self.0, writer.has_ansi_escapes(), event.metadata());
        event.record(fields);
        fields.line += match (self.0, fields.truncated) {
            (LogFormat::Text, false) => "\n",
            (LogFormat::Text, true) => " truncated=true\n",
            (LogFormat::Json, false) => "}\n",
            (LogFormat::Json, true) => ",\"truncated\":true}\n",
        };
        writer.write_str(&fields.line)
    }
}

/// A line in the making: its fields are escaped and bounded.
#[derive(Debug, Default)]
struct Fields {
    format: LogFormat,
    line: String,
    /// Where the message ends in `line`, without the quote after it; other fields follow.
    message_end: usize,
    /// What `line` may be long before its last field is left out.
    max: usize,
    /// Whether fields were left out because the line would be too long.
    truncated: bool,
    second: Second,
    names: Names,
}

impl Fields {
    /// Writes what is before the message.
    fn begin(&mut self, format: LogFormat, colour: bool, event: &Metadata<'_>) {
        self.format = format;
        self.truncated = false;
        self.names.select(format, event);
        self.line.clear();
        self.second.with_micros(SystemTime::now());
        let (time, level) = (&*self.second.text, *event.level());
        match format {
            LogFormat::Text if colour => {
                let (colour, level) = (colour_of(level), padded(level));
                // Writing to a string cannot fail.
                write!(self.line, "\x1b[2m{time}\x1b[0m \x1b[{colour}m{level}\x1b[0m ").ok();
            }
            LogFormat::Text => self.line.extend([time, " ", padded(level), " "]),
            LogFormat::Json => self.line.extend([
                "{\"timestamp\":\"",
                time,
                "\",\"level\":\"",
                level.as_str(),
                "\",\"target\":\"",
                event.target(),
                "\",\"message\":\"",
            ]),
        }
        self.message_end = self.line.len();
        self.max = self.line.len() + MAX_LINE;
        if format == LogFormat::Json {
            self.line.push('"');
        }
    }

    /// Adds a field; `quoted` if its text has quotes also where the format does not need them.
    fn add(&mut self, field: &Field, quoted: bool, write: impl FnOnce(&mut Escaped<'_>) -> fmt::Result) {
        let format = self.format;
        if field.name() == MESSAGE {
            return self.message(write);
        }
        let quoted = quoted || format == LogFormat::Json;
        self.other(field, |text| {
            if quoted {
                text.push('"');
            }
            let end = text.len() + MAX_FIELD;
            if write(&mut Escaped { format, quoted, text, end }).is_err() {
                *text += CUT;
            }
            if quoted {
                text.push('"');
            }
        });
    }

    /// Writes the message, before the other fields. Usually there are none yet.
    fn message(&mut self, write: impl FnOnce(&mut Escaped<'_>) -> fmt::Result) {
        let quote = if self.format == LogFormat::Json { "\"" } else { "" };
        let others = self.line.split_off(self.message_end + quote.len());
        self.line.truncate(self.message_end);
        let (format, end) = (self.format, self.line.len() + MAX_MESSAGE);
        if write(&mut Escaped { format, quoted: false, text: &mut self.line, end }).is_err() {
            self.line += CUT;
        }
        self.message_end = self.line.len();
        self.line += quote;
        self.line += &others;
    }

    /// Adds a field that needs no escapes.
    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.other(field, |text| {
            // Writing to a string cannot fail.
            write!(text, "{value}").ok();
        });
    }

    /// Adds a field if the line has room for it.
    fn other(&mut self, field: &Field, write: impl FnOnce(&mut String)) {
        if self.truncated {
            return;
        }
        let start = self.line.len();
        self.line += self.names.before(field);
        write(&mut self.line);
        if self.line.len() > self.max {
            self.line.truncate(start);
            self.truncated = true;
        }
    }
}

/// The name that `tracing` gives to the message.
const MESSAGE: &str = "message";

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, false, |text| write!(text, "{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if value.len() > MAX_FIELD || !is_plain(value) || field.name() == MESSAGE {
            return self.add(field, true, |text| text.write_str(value));
        }
        // Most texts need no escapes.
        self.other(field, |text| {
            text.push('"');
            *text += value;
            text.push('"');
        });
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, false, |text| write!(text, "{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let thousandths = (value * 1_000.0 + 0.5) as u64;
        if thousandths < 1_000_000_000_000 && thousandths as f64 / 1_000.0 == value {
            // Much quicker than the shortest form of any number: durations are such.
            self.other(field, |text| {
                *text += itoa::Buffer::new().format(thousandths / 1_000);
                text.push('.');
                for digit in [thousandths / 100, thousandths / 10, thousandths] {
                    text.push(char::from(b'0' + (digit % 10) as u8));
                }
            });
        } else if value.is_finite() {
            self.plain(field, value);
        } else {
            // JSON has no infinity.
            self.add(field, false, |text| write!(text, "{value}"));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.other(field, |text| *text += itoa::Buffer::new().format(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }
}

/// Escapes what is written to it. A text that becomes too long is an error, so that the rest of it
/// is not even formatted.
struct Escaped<'a> {
    format: LogFormat,
    quoted: bool,
    text: &'a mut String,
    /// The length of `text` at which it is cut.
    end: usize,
}

impl Write for Escaped<'_> {
    fn write_str(&mut self, mut text: &str) -> fmt::Result {
        loop {
            let plain = plain(text.as_bytes());
            let room = self.end.saturating_sub(self.text.len());
            *self.text += &text[..plain.min(room)];
            let Some(c) = text[plain..].chars().next() else {
                return if plain <= room { Ok(()) } else { Err(fmt::Error) };
            };
            if plain >= room {
                return Err(fmt::Error);
            }
            self.escape(c)?;
            text = &text[plain + c.len_utf8()..];
        }
    }
}

impl Escaped<'_> {
    fn escape(&mut self, c: char) -> fmt::Result {
        match (c, self.format) {
            ('\n', _) => *self.text += "\\n",
            ('\r', _) => *self.text += "\\r",
            ('\t', _) => *self.text += "\\t",
            ('"' | '\\', LogFormat::Json) => self.text.extend(['\\', c]),
            ('"' | '\\', LogFormat::Text) if self.quoted => self.text.extend(['\\', c]),
            (c, LogFormat::Text) if is_deceptive(c) => self.text.extend(c.escape_unicode()),
            (c, LogFormat::Json) if is_deceptive(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(self.text, "\\u{unit:04x}")?;
                }
            }
            (c, _) => self.text.push(c),
        }
        Ok(())
    }
}

/// Whether a byte is printable ASCII that is the same in every format.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        plain[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    plain
};

/// How many bytes from the start are plain.
fn plain(text: &[u8]) -> usize {
    let (words, _) = text.as_chunks::<8>();
    let whole = 8 * words.iter().take_while(|word| is_plain_word(**word)).count();
    whole + text[whole..].iter().take_while(|byte| PLAIN[usize::from(**byte)]).count()
}

/// Whether all of a text is plain, as most texts are.
fn is_plain(text: &str) -> bool {
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    words.iter().all(|word| is_plain_word(*word)) && rest.iter().all(|byte| PLAIN[usize::from(*byte)])
}

/// Whether eight bytes are plain: the arithmetic sets the highest bit of each that is not. A borrow
/// or carry may set it in the next byte too, but only if one is not plain.
fn is_plain_word(word: [u8; 8]) -> bool {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let word = u64::from_ne_bytes(word);
    let zero_if = |byte: u8| (word ^ (EACH * u64::from(byte))).wrapping_sub(EACH);
    let control = word.wrapping_sub(EACH * u64::from(b' '));
    let delete = word.wrapping_add(EACH);
    (word | control | delete | zero_if(b'"') | zero_if(b'\\')) & (EACH * 0x80) == 0
}

/// Whether a terminal or a viewer acts on the character instead of showing it: control characters,
/// separators of lines, and marks that are invisible or change the direction of text.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// All of one width, so that messages are below each other.
fn padded(level: Level) -> &'static str {
    match level {
        Level::INFO => " INFO",
        Level::WARN => " WARN",
        level => level.as_str(),
    }
}

fn colour_of(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::captured;
    use super::*;

    /// A name with which a client would forge a line, clear a terminal, and reverse text.
    const HOSTILE: &str =
        "a\"\\\n2026-01-01T00:00:00Z ERROR forged\r\t\u{1b}[2J\u{7f}\u{9b}31m\u{202e}b\u{2028}\u{e0041}";

    fn hostile(format: LogFormat) -> String {
        captured(format, "info", || {
            tracing::info!(name = HOSTILE, shown = %HOSTILE, debug = ?HOSTILE, count = 3, ok = true, "of {HOSTILE}");
        })
    }

    #[test]
    fn plain_bytes_are_counted_up_to_the_first_that_is_not() {
        for length in 0..40 {
            let text = vec![b'x'; length];
            assert_eq!(plain(&text), length);
            for at in 0..length {
                for byte in 0..=255 {
                    let mut text = text.clone();
                    text[at] = byte;
                    let is_plain = matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
                    assert_eq!(plain(&text), if is_plain { length } else { at });
                }
            }
        }
        assert_eq!(plain(b" !#[]~"), 6);
    }

    #[test]
    fn hostile_names_stay_inside_their_line() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let log = hostile(format);
            assert_eq!((log.lines().count(), log.matches('\n').count()), (1, 1), "{log}");
            let line = log.trim_end_matches('\n');
            assert!(line.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{line:?}");
            assert!(line.contains("forged") && line.contains("[2J"), "{line}");
        }
    }

    #[test]
    fn text_shows_what_was_escaped() {
        let log = hostile(LogFormat::Text);
        let escaped =
            r"\n2026-01-01T00:00:00Z ERROR forged\r\t\u{1b}[2J\u{7f}\u{9b}31m\u{202e}b\u{2028}\u{e0041}";
        assert!(log.contains(&format!(r#" of a"\{escaped} name="#)), "{log}");
        assert!(log.contains(&format!(r#" shown=a"\{escaped} debug="#)), "{log}");
        assert!(log.contains(&format!(r#" name="a\"\\{escaped}" shown="#)), "{log}");
        assert!(log.contains(" count=3 ok=true"), "{log}");
    }

    #[test]
    fn json_reads_back_as_the_same_text() {
        let line: serde_json::Value = serde_json::from_str(&hostile(LogFormat::Json)).unwrap();
        assert_eq!(line["name"], HOSTILE);
        assert_eq!(line["shown"], HOSTILE);
        assert_eq!(line["message"], format!("of {HOSTILE}"));
        assert_eq!((&line["count"], &line["ok"]), (&3.into(), &true.into()));
    }

    #[test]
    fn the_message_is_before_the_fields_wherever_it_was_given() {
        let log = |format| captured(format, "info", || tracing::info!(a = 1, message = "a \"b\"", c = 2));
        assert!(log(LogFormat::Text).ends_with(" INFO a \"b\" a=1 c=2\n"));
        assert!(log(LogFormat::Json).ends_with("\"message\":\"a \\\"b\\\"\",\"a\":1,\"c\":2}\n"));
    }

    #[test]
    fn a_long_name_does_not_make_a_long_line() {
        for name in ["n".repeat(1 << 20), "\u{202e}".repeat(1 << 20), "\u{1b}".repeat(1 << 20)] {
            for format in [LogFormat::Text, LogFormat::Json] {
                let log = captured(format, "info", || {
                    tracing::info!(a = name, b = %name, c = ?name, d = %name, e = name, "of {name}");
                });
                assert!(log.len() < MAX_LINE + 64, "{} bytes", log.len());
                assert!(log.contains(CUT) && log.contains("truncated"), "{log}");
                if format == LogFormat::Json {
                    serde_json::from_str::<serde_json::Value>(&log).unwrap();
                }
            }
        }
    }

    #[test]
    fn numbers_without_a_json_form_are_text() {
        let log = captured(LogFormat::Json, "info", || tracing::info!(share = f64::NAN, half = 0.5, "x"));
        let line: serde_json::Value = serde_json::from_str(&log).unwrap();
        assert_eq!((&line["share"], &line["half"]), (&"NaN".into(), &0.5.into()));
    }
}
