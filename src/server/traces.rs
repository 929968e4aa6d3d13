//! Sends the traces of requests to an OpenTelemetry collector, on a thread of its own. Requests
//! never wait for it: what the collector does not take in time is dropped and counted.
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::Shared;
use crate::config::{Otlp, UpstreamAddr};
use crate::tasks::poll_isolated;
use crate::telemetry::metrics::{PanickedTask, SpanResult, code_name};
use crate::telemetry::traces::{Resource, Trace, TraceReceiver, encode};

/// How long a trace waits for others, and how many spans and bytes are sent at once.
const LINGER: Duration = Duration::from_secs(1);
const MAX_SPANS: usize = 512;
const MAX_BYTES: usize = 1 << 20;

/// The longest time for a batch, connecting included.
const EXPORT_WITHIN: Duration = Duration::from_secs(10);
/// The pause after a batch that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest time for what is left when the process ends.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// Exports until all shards have ended, and what is left then. A panic ends only the export.
pub(super) async fn run(shared: Arc<Shared>, traces: TraceReceiver) {
    let mut exporting = pin!(export(shared, traces));
    poll_fn(|cx| poll_isolated(PanickedTask::Traces, exporting.as_mut(), cx)).await.ok();
}

async fn export(shared: Arc<Shared>, mut traces: TraceReceiver) {
    let mut stop = shared.stop.subscribe();
    let mut overdue = shared.stop.subscribe();
    let late = async move {
        overdue.wait_for(|stop| *stop).await.ok();
        sleep(FLUSH_WITHIN).await;
    };
    let Some(mut exporter) = Exporter::new(&shared.config.load().otlp) else { return };
    tokio::select! {
        () = exporter.run(&mut traces, &mut stop) => {}
        () = late => tracing::warn!("the collector does not take the last traces in time; they are dropped"),
    }
    traces.discard();
}

struct Exporter {
    address: String,
    endpoint: Endpoint,
    resource: Resource,
    /// `None` after a failure: a connection that hangs is not used again.
    client: Option<TraceServiceClient<Channel>>,
    /// Spans that were lost since the collector last took some.
    lost: u64,
    failing: bool,
}

/// Traces that are sent together.
#[derive(Default)]
struct Batch {
    traces: Vec<Trace>,
    spans: usize,
    bytes: usize,
}

impl Exporter {
    fn new(otlp: &Otlp) -> Option<Self> {
        let address = otlp.endpoint.as_ref()?;
        let endpoint = match endpoint(address) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                tracing::error!(%address, %error, "traces are not exported: the address cannot be used");
                return None;
            }
        };
        Some(Self {
            address: address.to_string(),
            endpoint,
            resource: Resource::new(&otlp.service_name, &otlp.attributes()),
            client: None,
            lost: 0,
            failing: false,
        })
    }

    async fn run(&mut self, traces: &mut TraceReceiver, stop: &mut watch::Receiver<bool>) {
        while let Some(batch) = Batch::next(traces).await {
            let spans = batch.spans as u64;
            match self.export(&batch).await {
                Ok(rejected) => {
                    traces.count(SpanResult::Exported, spans - rejected.min(spans));
                    traces.count(SpanResult::Failed, rejected.min(spans));
                    self.recovered();
                }
                Err(error) => {
                    traces.count(SpanResult::Failed, spans);
                    self.failed(&error, spans);
                    let stopping = stop.wait_for(|stop| *stop);
                    if timeout(PAUSE, stopping).await.is_ok() {
                        // What is left would only fail in the same way.
                        return;
                    }
                }
            }
        }
    }

    /// Sends a batch, and gives the number of spans that the collector rejected.
    async fn export(&mut self, batch: &Batch) -> Result<u64, Status> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => TraceServiceClient::new(self.endpoint.connect_lazy()),
        };
        let request = encode(&self.resource, &batch.traces);
        let exported = timeout(EXPORT_WITHIN, client.export(request)).await;
        let response = exported.unwrap_or_else(|_| {
            Err(Status::deadline_exceeded(format!("no answer within {} s", EXPORT_WITHIN.as_secs())))
        })?;
        self.client = Some(client);
        let ExportTraceServiceResponse { partial_success } = response.into_inner();
        let Some(partial) = partial_success else { return Ok(0) };
        if partial.rejected_spans > 0 {
            tracing::debug!(
                rejected = partial.rejected_spans,
                cause = partial.error_message,
                "the collector rejected spans"
            );
        }
        Ok(u64::try_from(partial.rejected_spans).unwrap_or_default())
    }

    /// Logs the beginning of an outage.
    fn failed(&mut self, error: &Status, spans: u64) {
        self.lost += spans;
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(
                collector = self.address,
                cause = %cause(error),
                "cannot export traces; they are dropped until the collector takes them (`otlp_endpoint` must be its OTLP port for gRPC, usually 4317)"
            );
        }
    }

    fn recovered(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        if std::mem::take(&mut self.failing) {
            tracing::info!(collector = self.address, lost_spans = lost, "traces are exported again");
        }
    }
}

impl Batch {
    /// Waits for a trace, and for others that come soon. `None` once no more can come.
    async fn next(traces: &mut TraceReceiver) -> Option<Self> {
        let mut batch = Self::default();
        batch.add(traces.next().await?);
        let mut full = pin!(sleep_until(Instant::now() + LINGER));
        while batch.spans < MAX_SPANS && batch.bytes < MAX_BYTES {
            tokio::select! {
                biased;
                trace = traces.next() => match trace {
                    Some(trace) => batch.add(trace),
                    None => break,
                },
                () = &mut full => break,
            }
        }
        Some(batch)
    }

    fn add(&mut self, trace: Trace) {
        self.spans += trace.spans.len();
        self.bytes += trace.size();
        self.traces.push(trace);
    }
}

fn endpoint(address: &UpstreamAddr) -> Result<Endpoint, tonic::transport::Error> {
    let uri = match address {
        UpstreamAddr::Tcp { .. } => format!("http://{address}"),
        UpstreamAddr::Tls { .. } | UpstreamAddr::Unix(_) => address.to_string(),
    };
    let endpoint = Endpoint::from_shared(uri)?.connect_timeout(EXPORT_WITHIN / 2).tcp_nodelay(true);
    #[cfg(feature = "tls")]
    if matches!(address, UpstreamAddr::Tls { .. }) {
        let tls = tonic::transport::ClientTlsConfig::new().with_native_roots();
        return endpoint.tls_config(tls);
    }
    Ok(endpoint)
}

/// The message of a status with those of its sources, the last of which says what is wrong.
fn cause(error: &Status) -> String {
    let mut text = format!("{}: {}", code_name(error.code()), error.message());
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.extend([": ", more.as_str()]);
        }
        source = error.source();
    }
    text
}
