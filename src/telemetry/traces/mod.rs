//! The spans of requests as plain data: made where a request runs, queued, and encoded where they
//! are exported.
mod encode;
mod tracer;

use std::sync::Arc;

pub(crate) use encode::{Resource, encode};
pub(crate) use tracer::{TraceReceiver, TraceSender, Tracer, channel};

/// Bytes of a text from a client or of a description; more are cut off.
const MAX_TEXT: usize = 256;

/// The spans that a request or a shared run made, which have one trace.
#[derive(Debug)]
pub(crate) struct Trace {
    pub id: [u8; 16],
    /// The client's `tracestate`.
    pub state: Option<Box<str>>,
    pub spans: Vec<Span>,
}

/// Names a span everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanContext {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
}

#[derive(Debug)]
pub(crate) struct Span {
    pub id: [u8; 8],
    pub parent: Option<[u8; 8]>,
    /// Whether the parent is a span of the caller.
    pub remote_parent: bool,
    pub name: &'static str,
    pub kind: Kind,
    /// Nanoseconds of Unix time, here and in all others.
    pub start: u64,
    pub end: u64,
    pub attributes: Vec<Attribute>,
    pub events: Vec<Event>,
    pub links: Vec<SpanContext>,
    /// Why it failed.
    pub error: Option<&'static str>,
    /// Those beyond the bounds.
    pub dropped_events: u32,
    pub dropped_links: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Server,
    Client,
    Internal,
}

pub(crate) type Attribute = (&'static str, Value);

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Word(&'static str),
    Shared(Arc<str>),
    Text(Box<str>),
    Number(i64),
}

#[derive(Debug)]
pub(crate) struct Event {
    pub name: &'static str,
    pub at: u64,
    pub attributes: Vec<Attribute>,
}

impl Value {
    /// A text of bounded length.
    pub(crate) fn text(text: &str) -> Self {
        let mut end = text.len().min(MAX_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self::Text(text[..end].into())
    }

    fn size(&self) -> usize {
        match self {
            // Belongs to the program, or to the catalog.
            Self::Word(_) | Self::Shared(_) | Self::Number(_) => 0,
            Self::Text(text) => text.len(),
        }
    }
}

impl Trace {
    /// About how much memory it takes.
    pub(crate) fn size(&self) -> usize {
        let attributes = |attributes: &[Attribute]| {
            let values: usize = attributes.iter().map(|(_, value)| value.size()).sum();
            values + size_of_val(attributes)
        };
        let event = |event: &Event| size_of::<Event>() + attributes(&event.attributes);
        let span = |span: &Span| {
            let events: usize = span.events.iter().map(event).sum();
            size_of::<Span>() + attributes(&span.attributes) + events + size_of_val(&*span.links)
        };
        let state = self.state.as_ref().map_or(0, |state| state.len());
        size_of::<Self>() + state + self.spans.iter().map(span).sum::<usize>()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A trace of one span.
    pub(crate) fn trace(id: u8) -> Trace {
        let span = Span {
            id: [id; 8],
            parent: Some([9; 8]),
            remote_parent: true,
            name: "tensorflow.serving.PredictionService/Predict",
            kind: Kind::Server,
            start: 1_000,
            end: 3_000,
            attributes: vec![("rpc.system", Value::Word("grpc")), ("rpc.grpc.status_code", Value::Number(3))],
            events: vec![Event { name: "repair", at: 2_000, attributes: vec![("rule", Value::Word("r"))] }],
            links: vec![SpanContext { trace_id: [7; 16], span_id: [6; 8] }],
            error: Some("INVALID_ARGUMENT"),
            dropped_events: 1,
            dropped_links: 2,
        };
        Trace { id: [id; 16], state: Some("k=v".into()), spans: vec![span] }
    }

    #[test]
    fn texts_are_cut_at_a_character() {
        let Value::Text(text) = Value::text(&"\u{e9}".repeat(200)) else { panic!() };
        assert_eq!(text.chars().count(), 128);
    }
}
