//! Traces as OTLP's protobuf messages.
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as ProtoValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1::span::{Event as ProtoEvent, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as ProtoSpan, Status};

use super::{Attribute, Event, Kind, Span, SpanContext, Trace, Value};

/// The flags of a span whose trace is recorded.
const SAMPLED: u32 = 1;
/// It is known whether the parent is on another process, and it is.
const PARENT_KNOWN: u32 = 1 << 8;
const PARENT_REMOTE: u32 = 1 << 9;

/// What sends the spans: the same for all of them.
#[derive(Debug, Clone)]
pub(crate) struct Resource(ProtoResource);

impl Resource {
    /// `attributes` come first: they may name the service too.
    pub(crate) fn new(service_name: &str, attributes: &[(String, String)]) -> Self {
        let own = [
            ("service.name", service_name),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("telemetry.sdk.language", "rust"),
        ];
        let given = attributes.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let missing =
            own.iter().copied().filter(|(key, _)| !attributes.iter().any(|(given, _)| given == key));
        let text = |text: &str| ProtoValue::StringValue(text.to_owned());
        let attributes = given.chain(missing).map(|(key, value)| key_value(key, text(value))).collect();
        Self(ProtoResource { attributes, ..ProtoResource::default() })
    }
}

/// The request that exports the traces.
pub(crate) fn encode(resource: &Resource, traces: &[Trace]) -> ExportTraceServiceRequest {
    let spans = traces.iter().flat_map(|trace| trace.spans.iter().map(|one| span(trace, one)));
    let scope = InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let scope_spans = ScopeSpans { scope: Some(scope), spans: spans.collect(), schema_url: String::new() };
    let of_resource = ResourceSpans {
        resource: Some(resource.0.clone()),
        scope_spans: vec![scope_spans],
        schema_url: String::new(),
    };
    ExportTraceServiceRequest { resource_spans: vec![of_resource] }
}

fn span(trace: &Trace, span: &Span) -> ProtoSpan {
    let remote = if span.remote_parent { PARENT_REMOTE } else { 0 };
    ProtoSpan {
        trace_id: trace.id.to_vec(),
        span_id: span.id.to_vec(),
        trace_state: trace.state.as_deref().unwrap_or_default().to_owned(),
        parent_span_id: span.parent.map_or_else(Vec::new, |parent| parent.to_vec()),
        flags: SAMPLED | PARENT_KNOWN | remote,
        name: span.name.to_owned(),
        kind: match span.kind {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
            Kind::Internal => SpanKind::Internal,
        } as i32,
        start_time_unix_nano: span.start,
        end_time_unix_nano: span.end,
        attributes: attributes(&span.attributes),
        events: span.events.iter().map(event).collect(),
        dropped_events_count: span.dropped_events,
        links: span.links.iter().map(link).collect(),
        dropped_links_count: span.dropped_links,
        status: span.error.map(|error| Status { message: error.to_owned(), code: StatusCode::Error as i32 }),
        ..ProtoSpan::default()
    }
}

fn event(event: &Event) -> ProtoEvent {
    ProtoEvent {
        time_unix_nano: event.at,
        name: event.name.to_owned(),
        attributes: attributes(&event.attributes),
        dropped_attributes_count: 0,
    }
}

fn link(to: &SpanContext) -> Link {
    Link {
        trace_id: to.trace_id.to_vec(),
        span_id: to.span_id.to_vec(),
        flags: SAMPLED | PARENT_KNOWN,
        ..Link::default()
    }
}

fn attributes(attributes: &[Attribute]) -> Vec<KeyValue> {
    let value = |value: &Value| match value {
        Value::Word(word) => ProtoValue::StringValue((*word).to_owned()),
        Value::Shared(text) => ProtoValue::StringValue(text.as_ref().to_owned()),
        Value::Text(text) => ProtoValue::StringValue(text.as_ref().to_owned()),
        Value::Number(number) => ProtoValue::IntValue(*number),
    };
    attributes.iter().map(|(key, given)| key_value(key, value(given))).collect()
}

fn key_value(key: &str, value: ProtoValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::trace;
    use super::*;

    #[test]
    fn a_trace_becomes_spans_with_events_links_and_status() {
        let request = encode(&Resource::new("tfs-sidecar", &[]), &[trace(1), trace(2)]);
        let [of_resource] = &request.resource_spans[..] else { panic!("{request:?}") };
        let spans = &of_resource.scope_spans[0].spans;
        let first = &spans[0];
        assert_eq!((spans.len(), &first.trace_id[..], &first.span_id[..]), (2, &[1; 16][..], &[1; 8][..]));
        assert_eq!((&first.parent_span_id[..], first.trace_state.as_str()), (&[9; 8][..], "k=v"));
        assert_eq!((first.kind, first.flags), (SpanKind::Server as i32, 0x301));
        assert_eq!((first.start_time_unix_nano, first.end_time_unix_nano), (1_000, 3_000));
        assert_eq!((first.events[0].name.as_str(), first.dropped_events_count), ("repair", 1));
        assert_eq!((&first.links[0].span_id[..], first.dropped_links_count), (&[6; 8][..], 2));
        let status = first.status.as_ref().unwrap();
        assert_eq!((status.code, status.message.as_str()), (StatusCode::Error as i32, "INVALID_ARGUMENT"));
        let code = first.attributes.iter().find(|pair| pair.key == "rpc.grpc.status_code").unwrap();
        assert_eq!(code.value.as_ref().unwrap().value, Some(ProtoValue::IntValue(3)));
    }

    #[test]
    fn given_attributes_of_the_resource_come_before_our_own() {
        let given =
            [("service.version".to_owned(), "7".to_owned()), ("k8s.pod.name".to_owned(), "p".to_owned())];
        let Resource(resource) = Resource::new("scorer", &given);
        let text = |pair: &KeyValue| match &pair.value.as_ref().unwrap().value {
            Some(ProtoValue::StringValue(text)) => format!("{}={text}", pair.key),
            other => panic!("{other:?}"),
        };
        let all: Vec<String> = resource.attributes.iter().map(text).collect();
        assert_eq!(
            all,
            ["service.version=7", "k8s.pod.name=p", "service.name=scorer", "telemetry.sdk.language=rust"]
        );
    }
}
