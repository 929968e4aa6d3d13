//! Accidents for minutes: TF Serving is killed, restarted and frozen, clients cancel, time out and
//! vanish, and every answer is checked against the values that were sent.
//!
//! `make chaos` runs it. Exits with 1 if an answer was wrong or missing, if a request failed for no
//! reason, or if the sidecar counts other requests than the clients do.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "this program reports what it finds")]

#[path = "../support/mod.rs"]
mod support;

mod accidents;
mod client;
mod tally;
mod upstream;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::accidents::Accidents;
use crate::support::admin::{self, Metrics};
use crate::support::pace::pause;
use crate::support::process::Process;
use crate::tally::{Tally, faults};
use crate::upstream::Upstream;

const CLIENTS: u64 = 24;
/// On top of what a sidecar without traffic holds.
const GROWTH_MIB: f64 = 64.0;
/// The last calls are over so long after the last accident.
const SETTLED: Duration = Duration::from_secs(12);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(port) = upstream::requested(&arguments) {
        upstream::serve(port);
        return ExitCode::SUCCESS;
    }
    let seconds = arguments.get(1).map_or(600, |seconds| seconds.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(chaos(Duration::from_secs(seconds)))
}

async fn chaos(length: Duration) -> ExitCode {
    let upstream = Upstream::start();
    let mut sidecar = Process::start(upstream.addr(), "workers: 2\nmodels: {echo: {}}");
    sidecar.ready().await;
    let idle = sidecar.memory();
    let (accidents, stop) = (Arc::new(Accidents::default()), CancellationToken::new());
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (addr, accidents, stop) = (sidecar.grpc.clone(), Arc::clone(&accidents), stop.clone());
        clients.spawn(async move { client::run(&addr, number, &accidents, &stop).await });
    }
    let upstream = accidents.cause(upstream, length).await;
    // Everything works again, and requests show it.
    pause(SETTLED).await;
    stop.cancel();
    let tally = clients.join_all().await.into_iter().fold(Tally::default(), Tally::add);
    drop(upstream);
    let metrics = Metrics::read(&sidecar.admin).await;
    let mut faults = faults(&tally, &metrics);
    let rss = sidecar.memory();
    if !sidecar.is_running() {
        faults.push(format!("the sidecar has ended: {}", sidecar.log()));
    }
    if admin::get(&sidecar.admin, "/livez").await.status != 200 {
        faults.push("/livez does not answer 200".to_owned());
    }
    if rss > idle + GROWTH_MIB {
        faults.push(format!("memory grew from {idle:.0} to {rss:.0} MiB"));
    }
    println!("{}", accidents.summary());
    println!("{tally}memory: {idle:.0} MiB before, {rss:.0} MiB after");
    for fault in &faults {
        println!("FAULT {fault}");
    }
    println!("chaos: {} faults", faults.len());
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
