//! A collector that takes OTLP over gRPC, and what it received.
use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
#[cfg(feature = "tls")]
use tonic::transport::{Identity, ServerTlsConfig};
use tonic::{Code, Request, Response, Status};

#[cfg(feature = "tls")]
use super::tls::content;
use super::within;

/// A running collector; stopped on drop.
#[derive(Debug)]
pub struct Collector {
    pub addr: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    received: watch::Sender<Received>,
    /// What exports are answered with.
    code: watch::Sender<Code>,
    /// Keeps only the number of spans, for runs of many minutes.
    forgets: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Received {
    pub exports: usize,
    /// How many spans were taken.
    pub taken: usize,
    pub spans: Vec<Span>,
    pub resource: BTreeMap<String, String>,
}

impl Collector {
    pub async fn start() -> Self {
        Self::serve(Server::builder(), false).await
    }

    /// One that only counts.
    pub async fn counting() -> Self {
        Self::serve(Server::builder(), true).await
    }

    /// With the certificate of the fixture, whose name is `localhost`.
    #[cfg(feature = "tls")]
    pub async fn start_tls() -> Self {
        let identity = Identity::from_pem(content("server.pem"), content("server.key"));
        let tls = ServerTlsConfig::new().identity(identity);
        Self::serve(Server::builder().tls_config(tls).unwrap(), false).await
    }

    async fn serve(mut builder: Server, forgets: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let shared =
            Shared { received: watch::Sender::default(), code: watch::Sender::new(Code::Ok), forgets };
        let shared = Arc::new(shared);
        let service = TraceServiceServer::from_arc(Arc::new(Service(Arc::clone(&shared))));
        let server = tokio::spawn(async move {
            let incoming = TcpIncoming::from(listener);
            builder.add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        Self { addr, shared, server }
    }

    /// Answers exports with this code from now on.
    pub fn answer(&self, code: Code) {
        self.shared.code.send_replace(code);
    }

    /// Waits until what was received is enough.
    pub async fn until(&self, what: &str, mut enough: impl FnMut(&Received) -> bool) -> Received {
        let mut received = self.shared.received.subscribe();
        let found = within(what, received.wait_for(|received| enough(received))).await;
        found.unwrap().clone()
    }

    /// Waits for so many spans with this name.
    pub async fn spans(&self, name: &str, count: usize) -> Vec<Span> {
        let named = |received: &Received| {
            received.spans.iter().filter(|span| span.name == name).cloned().collect::<Vec<_>>()
        };
        let what = format!("{count} spans `{name}`");
        named(&self.until(&what, |received| named(received).len() >= count).await)
    }

    pub fn received(&self) -> Received {
        self.shared.received.borrow().clone()
    }

    /// The spans below another.
    pub fn below(&self, parent: &Span) -> Vec<Span> {
        let mut spans = self.received().spans;
        spans.retain(|span| span.parent_span_id == parent.span_id && span.trace_id == parent.trace_id);
        spans
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Debug)]
struct Service(Arc<Shared>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let code = *self.0.code.borrow();
        self.0.received.send_modify(|received| {
            received.exports += 1;
            if code == Code::Ok {
                for one in request.into_inner().resource_spans {
                    received.resource = texts(&one.resource.unwrap().attributes);
                    let spans: Vec<Span> =
                        one.scope_spans.into_iter().flat_map(|scope| scope.spans).collect();
                    received.taken += spans.len();
                    if !self.0.forgets {
                        received.spans.extend(spans);
                    }
                }
            }
        });
        match code {
            Code::Ok => Ok(Response::new(ExportTraceServiceResponse::default())),
            code => Err(Status::new(code, "not now")),
        }
    }
}

/// Attributes as text.
pub fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{}: {other:?}", pair.key),
    };
    attributes.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

/// The events of a span as lines: name and values.
pub fn events(span: &Span) -> Vec<String> {
    let line = |(key, value): (String, String)| format!(" {key}={value}");
    let event = |event: &opentelemetry_proto::tonic::trace::v1::span::Event| {
        let attributes: String = texts(&event.attributes).into_iter().map(line).collect();
        format!("{}{attributes}", event.name)
    };
    span.events.iter().map(event).collect()
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
