//! What must hold when all clients and attackers are gone: nothing is in flight, nothing is held,
//! and what was logged, counted and traced agrees.
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::log::Lines;
use crate::request::{Act, Door};
use crate::support::admin::{self, Metrics};
use crate::support::client::{Client, Request};
use crate::support::collector::Collector;
use crate::support::dial::Dial;
use crate::support::pace::pause;
use crate::support::process::Process;
use crate::support::sidecar::HEALTH_CHECK;
use crate::tally::{self, Tally};
use crate::upstream::{ECHO, SCALED};

/// How long the last request, span and line may take to be over, and idle threads to give back
/// what they have freed.
const QUIET: Duration = Duration::from_secs(30);
/// Gauges that are 0 without traffic.
const IDLE: [&str; 7] = [
    "tfs_sidecar_connections",
    "tfs_sidecar_inflight_requests",
    "tfs_sidecar_inflight_bytes",
    "tfs_sidecar_open_streams",
    "tfs_sidecar_queued_requests",
    "tfs_sidecar_queue_rows",
    "tfs_sidecar_upstream_inflight",
];
/// Descriptors that a sidecar opens on first use and keeps, such as the one to the collector.
const KEPT_DESCRIPTORS: usize = 4;

/// The sidecar without traffic, at last.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) metrics: Metrics,
    /// Resident memory in MiB.
    pub(crate) memory: f64,
    pub(crate) descriptors: (usize, usize),
    pub(crate) spans: usize,
    live: u16,
}

/// Waits until nothing is in flight any more, all spans have arrived, and memory is given back, but
/// not for ever. `descriptors` were open before, and so many MiB are allowed after.
pub(crate) async fn wait(
    sidecar: &Process,
    grpc: &Dial,
    collector: &Collector,
    lines: &Mutex<Lines>,
    (descriptors, allowed): (usize, f64),
) -> Ended {
    let start = Instant::now();
    loop {
        turn(grpc).await;
        let logged = lines.lock().unwrap().total();
        // The connections of these calls are closed, and the last lines are read.
        pause(Duration::from_millis(500)).await;
        let metrics = Metrics::read(&sidecar.admin).await;
        let ended = Ended {
            memory: sidecar.memory(),
            descriptors: (descriptors, sidecar.descriptors()),
            spans: collector.received().taken,
            live: admin::get(&sidecar.admin, "/livez").await.status,
            metrics,
        };
        let is_over = ended.leftovers().is_empty()
            && logged == lines.lock().unwrap().total()
            && ended.memory <= allowed;
        if is_over || start.elapsed() > QUIET {
            return ended;
        }
    }
}

/// Calls of another method on each thread: the allocator gives memory back when it is used.
async fn turn(grpc: &Dial) {
    let mut clients = Vec::new();
    for _ in 0..4 {
        let Ok(socket) = grpc.connect().await else { return };
        clients.push(Client::over(socket).await);
    }
    for client in &clients {
        client.try_call(Request::new(HEALTH_CHECK, b"")).await.ok();
    }
}

impl Ended {
    /// What is not over.
    fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> = IDLE
            .iter()
            .map(|gauge| (gauge, self.metrics.sum(gauge, &[])))
            .filter(|(_, value)| *value != 0.0)
            .map(|(gauge, value)| format!("{gauge} is {value} without traffic"))
            .collect();
        let (before, after) = self.descriptors;
        if after > before + KEPT_DESCRIPTORS {
            left.push(format!("{before} descriptors were open before, {after} are after"));
        }
        let exported = self.metrics.sum("tfs_sidecar_otlp_spans_total", &[("result", "exported")]);
        if exported != self.spans as f64 {
            left.push(format!("{exported} spans were exported, the collector has {}", self.spans));
        }
        left
    }
}

/// Everything that is wrong.
pub(crate) fn faults(tally: &Tally, lines: &Lines, ended: &Ended) -> Vec<String> {
    let mut faults = ended.leftovers();
    let metrics = &ended.metrics;
    if metrics.sum("tfs_sidecar_log_lines_lost_total", &[]) > 0.0 {
        faults.push("lines of the log were lost, so that nothing can be compared with it".to_owned());
    }
    faults.extend(tally::compare_with_log(tally, lines));
    faults.extend(tally::compare_with_metrics(lines, metrics));
    faults.extend(lines.panics.iter().take(3).map(|line| format!("the log has {line}")));
    for counter in ["panics_total", "batch_divergence_total"] {
        let count = metrics.sum(&format!("tfs_sidecar_{counter}"), &[]);
        if count > 0.0 {
            faults.push(format!("{counter} is {count}"));
        }
    }
    for model in [ECHO, SCALED] {
        if metrics.sum("tfs_sidecar_batching", &[("model", model)]) != 1.0 {
            faults.push(format!("batching of `{model}` was switched off"));
        }
    }
    if ended.live != 200 {
        faults.push(format!("/livez answers {}", ended.live));
    }
    faults.extend(findings(tally, metrics));
    faults.extend(proves_nothing(tally, ended));
    faults
}

/// Each client that does not scale was found, and no other one.
fn findings(tally: &Tally, metrics: &Metrics) -> Vec<String> {
    let mut faults = Vec::new();
    for who in crate::identities() {
        let name = who.name(Act::Row);
        let found = metrics.sum("tfs_sidecar_preprocessing_findings_total", &[("client", &name)]);
        let told = tally.shifted.get(&name).copied().unwrap_or_default();
        let shifted = [("client", name.as_str()), ("kind", "SHIFTED")];
        let shifted = metrics.sum("tfs_sidecar_preprocessing_findings_total", &shifted);
        if who.unscaled && (shifted == 0.0 || told == 0) {
            faults.push(format!("{name} sends unscaled values: {shifted} findings, told {told} times"));
        }
        if !who.unscaled && (found > 0.0 || told > 0) {
            faults.push(format!("{name} is honest: {found} findings, told {told} times"));
        }
    }
    faults
}

/// What has to have happened for the run to mean anything.
fn proves_nothing(tally: &Tally, ended: &Ended) -> Vec<String> {
    let mut faults = Vec::new();
    for door in [Door::Grpc, Door::Rest] {
        for (act, code) in
            [(Act::Row, 0), (Act::Rows, 0), (Act::Gzip, 0), (Act::Flat, 0), (Act::Cast, 0), (Act::Wrong, 3)]
        {
            let codes = tally.kinds.get(&(door, act));
            if codes.and_then(|codes| codes.get(&code)).is_none() {
                faults.push(format!("no {act:?} over {door:?} had the code {code}: this run proves nothing"));
            }
        }
    }
    if tally.shared == 0 || ended.spans == 0 {
        let (shared, spans) = (tally.shared, ended.spans);
        faults.push(format!("{shared} answers of shared runs, {spans} spans: this run proves nothing"));
    }
    faults
}
