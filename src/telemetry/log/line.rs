//! One log line: bounded in length, and without a character that a peer could forge lines with.
//!
//! Names, texts and addresses of peers are logged in many places. Here is the only place that
//! writes them, so that none can forget to escape.
use std::cell::RefCell;
use std::fmt::{self, Write};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

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
        fields.begin(self.0);
        event.record(fields);
        let Fields { message, others, truncated, second, .. } = fields;
        let level = *event.metadata().level();
        second.with_micros(SystemTime::now());
        let time = &*second.text;
        match self.0 {
            LogFormat::Text if writer.has_ansi_escapes() => {
                let (colour, level) = (colour_of(level), padded(level));
                write!(writer, "\x1b[2m{time}\x1b[0m \x1b[{colour}m{level}\x1b[0m ")?;
            }
            LogFormat::Text => {
                for part in [time, " ", padded(level), " "] {
                    writer.write_str(part)?;
                }
            }
            LogFormat::Json => {
                let target = event.metadata().target();
                let level = level.as_str();
                for part in [
                    "{\"timestamp\":\"",
                    time,
                    "\",\"level\":\"",
                    level,
                    "\",\"target\":\"",
                    target,
                    "\",\"message\":\"",
                ] {
                    writer.write_str(part)?;
                }
            }
        }
        writer.write_str(message)?;
        if self.0 == LogFormat::Json {
            writer.write_char('"')?;
        }
        writer.write_str(others)?;
        writer.write_str(match (self.0, *truncated) {
            (LogFormat::Text, false) => "\n",
            (LogFormat::Text, true) => " truncated=true\n",
            (LogFormat::Json, false) => "}\n",
            (LogFormat::Json, true) => ",\"truncated\":true}\n",
        })
    }
}

/// The fields of an event, escaped and bounded.
#[derive(Debug, Default)]
struct Fields {
    format: LogFormat,
    message: String,
    /// All but the message, as they are written.
    others: String,
    /// Whether fields were left out because the line would be too long.
    truncated: bool,
    second: Second,
}

impl Fields {
    fn begin(&mut self, format: LogFormat) {
        self.format = format;
        self.message.clear();
        self.others.clear();
        self.truncated = false;
    }

    /// Adds a field; `quoted` if its text has quotes also where the format does not need them.
    fn add(&mut self, field: &Field, quoted: bool, write: impl FnOnce(&mut Escaped<'_>) -> fmt::Result) {
        let format = self.format;
        if field.name() == "message" {
            let end = MAX_MESSAGE;
            if write(&mut Escaped { format, quoted: false, text: &mut self.message, end }).is_err() {
                self.message += CUT;
            }
            return;
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
        let (start, name) = (self.others.len(), field.name());
        // Often all that the field takes.
        self.others.reserve(name.len() + 64);
        match self.format {
            LogFormat::Text => {
                self.others.push(' ');
                self.others += name;
                self.others.push('=');
            }
            LogFormat::Json => {
                self.others += ",\"";
                self.others += name;
                self.others += "\":";
            }
        }
        write(&mut self.others);
        if self.message.len() + self.others.len() > MAX_LINE {
            self.others.truncate(start);
            self.truncated = true;
        }
    }
}

/// Writes a number in decimal digits, quicker than a formatter.
fn number(text: &mut String, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    *text += std::str::from_utf8(&digits[start..]).unwrap_or_default();
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, false, |text| write!(text, "{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, true, |text| text.write_str(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, false, |text| write!(text, "{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let thousandths = (value * 1_000.0).round();
        if (0.0..1e12).contains(&thousandths) && thousandths / 1_000.0 == value {
            // Much quicker than the shortest form of any number: durations are such.
            let whole = thousandths as u64;
            self.other(field, |text| {
                number(text, whole / 1_000);
                text.push('.');
                for digit in [whole / 100, whole / 10, whole] {
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
        self.other(field, |text| number(text, value));
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

/// How many bytes from the start are plain. Most texts are, so eight are looked at at a time.
fn plain(text: &[u8]) -> usize {
    let is_plain = |byte: &u8| PLAIN[usize::from(*byte)];
    let (words, _) = text.as_chunks::<8>();
    let whole = 8 * words.iter().take_while(|word| word.iter().all(is_plain)).count();
    whole + text[whole..].iter().take_while(|byte| is_plain(byte)).count()
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
                for byte in [b'"', b'\\', b'\n', 0x7f, 0x80, 0xff, 0] {
                    let mut text = text.clone();
                    text[at] = byte;
                    assert_eq!(plain(&text), at);
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
