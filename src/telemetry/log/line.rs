//! One log line: bounded in length, and without a character that a peer could forge lines with.
//!
//! Names, texts and addresses of peers are logged in many places. Here is the only place that
//! writes them, so that none can forget to escape.
use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::LogFormat;

/// Bounds in bytes, after escaping.
const MAX_LINE: usize = 4096;
const MAX_MESSAGE: usize = 2048;
const MAX_FIELD: usize = 1024;
/// What follows a value that was cut.
const CUT: &str = "[...]";

/// Writes events as text or JSON.
pub(super) struct Line(pub LogFormat);

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields { format: self.0, message: String::new(), others: Vec::new() };
        event.record(&mut fields);
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let level = *event.metadata().level();
        let colour = writer.has_ansi_escapes();
        writer.write_str(&match self.0 {
            LogFormat::Text => fields.text(&time, level, colour),
            LogFormat::Json => fields.json(&time, level),
        })
    }
}

/// The fields of an event, escaped and bounded.
struct Fields {
    format: LogFormat,
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Fields {
    fn text(&self, time: &str, level: Level, colour: bool) -> String {
        let mut line = if colour {
            format!("\x1b[2m{time}\x1b[0m \x1b[{}m{level:>5}\x1b[0m {}", colour_of(level), self.message)
        } else {
            format!("{time} {level:>5} {}", self.message)
        };
        for (name, value) in &self.others {
            if line.len() + name.len() + value.len() > MAX_LINE {
                line += " truncated=true";
                break;
            }
            line.extend([" ", name, "=", value]);
        }
        line + "\n"
    }

    fn json(&self, time: &str, level: Level) -> String {
        let mut line = format!(r#"{{"timestamp":"{time}","level":"{level}","message":"{}""#, self.message);
        for (name, value) in &self.others {
            if line.len() + name.len() + value.len() > MAX_LINE {
                line += r#","truncated":true"#;
                break;
            }
            line.extend([",\"", name, "\":", value]);
        }
        line + "}\n"
    }

    /// Adds a field; `quoted` if its text has quotes also where the format does not need them.
    fn add(&mut self, field: &Field, quoted: bool, value: fmt::Arguments<'_>) {
        let is_message = field.name() == "message";
        let quoted = !is_message && (quoted || self.format == LogFormat::Json);
        let max = if is_message { MAX_MESSAGE } else { MAX_FIELD };
        let mut text = Escaped { format: self.format, quoted, text: String::new(), max };
        if quoted {
            text.text.push('"');
        }
        if text.write_fmt(value).is_err() {
            text.text += CUT;
        }
        if quoted {
            text.text.push('"');
        }
        if is_message { self.message = text.text } else { self.others.push((field.name(), text.text)) }
    }

    /// Adds a field that needs no escapes.
    fn plain(&mut self, field: &Field, value: impl ToString) {
        self.others.push((field.name(), value.to_string()));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, false, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, true, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, false, format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity.
        if value.is_finite() {
            self.plain(field, value);
        } else {
            self.add(field, false, format_args!("{value}"));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }
}

/// Escapes what is written to it. A text that becomes too long is an error, so that the rest of it
/// is not even formatted.
struct Escaped {
    format: LogFormat,
    quoted: bool,
    text: String,
    max: usize,
}

impl Write for Escaped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.text.len() >= self.max {
                return Err(fmt::Error);
            }
            match (c, self.format) {
                ('\n', _) => self.text += "\\n",
                ('\r', _) => self.text += "\\r",
                ('\t', _) => self.text += "\\t",
                ('"' | '\\', LogFormat::Json) => self.text.extend(['\\', c]),
                ('"' | '\\', LogFormat::Text) if self.quoted => self.text.extend(['\\', c]),
                (c, LogFormat::Text) if is_deceptive(c) => self.text.extend(c.escape_unicode()),
                (c, LogFormat::Json) if is_deceptive(c) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(&mut self.text, "\\u{unit:04x}")?;
                    }
                }
                (c, _) => self.text.push(c),
            }
        }
        Ok(())
    }
}

/// Whether a terminal or a viewer acts on the character instead of showing it: control characters,
/// separators of lines, and marks that are invisible or change the direction of text.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
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
