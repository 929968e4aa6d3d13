//! What a log line has before the value of each of its fields.
use tracing::Metadata;
use tracing::callsite::Identifier;
use tracing::field::Field;

use crate::config::LogFormat;

/// The texts before the fields of the events that were logged so far. They are kept, because the
/// access log writes the same ones for every request.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// There are as many as the program has places that log.
    known: Vec<Known>,
    selected: usize,
}

#[derive(Debug)]
struct Known {
    callsite: Identifier,
    format: LogFormat,
    /// One for each field of the event, by its index.
    before: Box<[Box<str>]>,
}

impl Names {
    /// Makes an event the one whose fields are asked for.
    pub(super) fn select(&mut self, format: LogFormat, event: &Metadata<'_>) {
        let callsite = event.callsite();
        let is_it = |known: &Known| known.callsite == callsite && known.format == format;
        if self.known.get(self.selected).is_some_and(is_it) {
            return;
        }
        self.selected = self.known.iter().position(is_it).unwrap_or_else(|| {
            let before = event.fields().iter().map(|field| before(format, field.name())).collect();
            self.known.push(Known { callsite, format, before });
            self.known.len() - 1
        });
    }

    /// The text before the value of a field.
    pub(super) fn before(&self, field: &Field) -> &str {
        let known = self.known.get(self.selected);
        known.and_then(|known| known.before.get(field.index())).map_or("", |before| before)
    }
}

fn before(format: LogFormat, name: &str) -> Box<str> {
    match format {
        LogFormat::Text => [" ", name, "="].concat().into(),
        LogFormat::Json => [",\"", name, "\":"].concat().into(),
    }
}
