//! Everything at once for minutes: clients over gRPC and REST with batching, profiles, traces and
//! TLS, accidents of all kinds, and attackers. Every answer is checked against what was sent.
//!
//! `make chaos` runs it. Exits with 1 if an answer was wrong or missing, if a request failed for no
//! reason, if the sidecar logs or counts other requests than the clients do, or if it leaks.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "this program reports what it finds")]

#[path = "../support/mod.rs"]
mod support;

mod accidents;
mod attackers;
mod ending;
mod grpc;
mod judge;
mod log;
mod memory;
mod request;
mod rest;
mod setup;
mod summary;
mod tally;
mod upstream;
mod world;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::accidents::Diary;
use crate::attackers::Attackers;
use crate::memory::Memory;
use crate::request::{Door, Identity};
use crate::setup::{AUTHORITIES, Files};
use crate::support::collector::Collector;
use crate::support::dial::Dial;
use crate::support::pace::pause;
use crate::support::process::Process;
use crate::support::tls::trusting;
use crate::tally::Tally;
use crate::upstream::{ECHO, SCALED, Upstream};
use crate::world::{Mode, World};

/// The deadline of calls that are not in a hurry; no call may outlive it by much.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const OVERDUE: Duration = Duration::from_secs(12);
/// Faults that are printed.
const SHOWN: usize = 40;
/// The last calls are over so long after the last accident.
const SETTLED: Duration = Duration::from_secs(12);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some((port, version)) = upstream::requested(&arguments) {
        upstream::serve(port, version);
        return ExitCode::SUCCESS;
    }
    let seconds = arguments.get(1).map_or(600, |seconds| seconds.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(chaos(Duration::from_secs(seconds)))
}

/// Who takes part: models, listeners, and who forgets the scaler.
fn identities() -> Vec<Identity> {
    let groups = [
        (12, Door::Grpc, ECHO, false),
        (6, Door::Grpc, SCALED, false),
        (2, Door::Grpc, SCALED, true),
        (6, Door::Rest, ECHO, false),
        (4, Door::Rest, SCALED, false),
        (1, Door::Rest, SCALED, true),
    ];
    let each = groups.iter().flat_map(|group| std::iter::repeat_n(group, group.0));
    let identity = |(number, &(_, door, model, unscaled))| Identity { door, model, unscaled, number };
    (0..).zip(each).map(identity).collect()
}

/// Shows what the sidecar logged last if this program panics, for example because it has ended.
struct LastWords<'a>(&'a Process);

impl Drop for LastWords<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.0.log();
            let lines: Vec<&str> = log.lines().collect();
            println!("{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}

async fn chaos(length: Duration) -> ExitCode {
    let (collector, upstream) = (Collector::counting().await, Upstream::start());
    let files = Files::new(&collector.addr);
    let (on_line, lines) = log::reader();
    let sidecar = Process::with_log(upstream.addr(), &files.yaml(Mode::Repair, 0), on_line);
    let _words = LastWords(&sidecar);
    sidecar.ready().await;
    let (memory, descriptors) = (Memory::new(&sidecar), sidecar.descriptors());
    let (world, diary) = (Arc::new(World::new()), Mutex::new(Diary::default()));
    let grpc = Dial::tls(&sidecar.grpc, trusting(AUTHORITIES, "h2"));
    let rest = Dial::tls(sidecar.rest.as_ref().unwrap(), trusting(AUTHORITIES, "http/1.1"));

    let stop = CancellationToken::new();
    let mut clients = JoinSet::new();
    for who in identities() {
        let (grpc, rest, world, stop) = (grpc.clone(), rest.clone(), Arc::clone(&world), stop.clone());
        clients.spawn(async move {
            match who.door {
                Door::Grpc => grpc::run(&grpc, &who, &world, &stop).await,
                Door::Rest => rest::run(&rest, &who, &world, &stop).await,
            }
        });
    }
    let attackers = Attackers::start(grpc.clone(), rest, stop.clone());
    let calm = CancellationToken::new();
    let traffic = async {
        let _calm = calm.clone().drop_guard();
        let upstream = accidents::upstream(upstream, &world, &diary, length).await;
        calm.cancel();
        // Everything works again, and requests show it.
        pause(SETTLED).await;
        upstream
    };
    let (upstream, (), memory) = tokio::join!(
        traffic,
        accidents::files(&sidecar, &files, &world, &diary, &calm),
        memory.watch(&sidecar, &attackers, &calm),
    );
    let mut faults = Vec::new();
    if attackers.is_finished() {
        faults.push("the attackers ended before the clients".to_owned());
    }
    stop.cancel();
    let mut tally = Tally::default();
    while let Some(client) = clients.join_next().await {
        match client {
            Ok(seen) => tally.add(seen),
            Err(error) => tally.fault(format!("a client panicked: {error}")),
        }
    }
    let (attacked, wrong) = attackers.end();
    faults.extend(wrong);
    faults.extend(tally.faults());
    let diary = diary.into_inner().unwrap();
    faults.extend(diary.faults.iter().cloned());
    let ended = ending::wait(&sidecar, &grpc, &collector, &lines, (descriptors, memory.allowed())).await;
    drop(upstream);
    let (leaks, memory) = memory.judge(ended.memory, sidecar.peak_memory());
    faults.extend(leaks);
    let lines = lines.lock().unwrap();
    faults.extend(ending::faults(&tally, &lines, &ended));
    print!("{}", summary::text(&tally, &diary, &attacked, &ended, &lines));
    println!("{memory}");
    for fault in faults.iter().take(SHOWN) {
        println!("FAULT {fault}");
    }
    println!("chaos: {} faults", faults.len());
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
