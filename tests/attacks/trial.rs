//! One attack: the honest client alone, then beside the attacker, and what must hold.
use std::future::Future;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use crate::honest::{self, Record};
use crate::support::dial::Dial;
use crate::support::fake_tfs::FakeTfs;
use crate::support::frames::{Raw, Reads};
use crate::support::process::Process;
use crate::support::{admin, attacks, dense};

/// How long the honest client is watched alone, and under the attack.
const ALONE: Duration = Duration::from_millis(1500);
const ATTACKED: Duration = Duration::from_secs(3);
/// The attack begins so long before the honest client is measured.
const BEFORE: Duration = Duration::from_millis(500);
/// The bounds. The honest client may have so many times its own p99, and a noisy machine adds some.
const SHARE_OK: f64 = 0.99;
const TIMES_P99: u32 = 3;
const NOISE: Duration = Duration::from_millis(100);
/// Memory on top of the limit on bytes in flight.
const EXTRA_MIB: f64 = 64.0;
/// `limits.max_inflight_bytes` of the trials that set nothing else.
pub(crate) const BYTES_MIB: u64 = 64;

/// The fake server, the sidecar in front of it, and the latency of the honest client alone.
pub(crate) struct Trial {
    _turn: MutexGuard<'static, ()>,
    name: &'static str,
    _fake: FakeTfs,
    pub(crate) sidecar: Process,
    alone: Record,
    limit_mib: f64,
    before: Duration,
}

impl Trial {
    /// Serves the dense model, with the default limits but for the bytes in flight.
    pub(crate) async fn new(name: &'static str) -> Self {
        let yaml = format!("limits: {{max_inflight_bytes: {BYTES_MIB}MiB}}");
        Self::with(name, FakeTfs::start([dense::model()]), &yaml, BYTES_MIB).await
    }

    /// A sidecar with this configuration, whose limits allow `limit_mib` of messages in flight.
    pub(crate) async fn with(name: &'static str, fake: FakeTfs, yaml: &str, limit_mib: u64) -> Self {
        // Attacks take turns: each is measured on its own.
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        // Some attackers open thousands of connections.
        rlimit::increase_nofile_limit(16 << 10).ok();
        let sidecar = Process::start(fake.addr(), yaml);
        sidecar.ready().await;
        // The first requests fill caches and start connections.
        work(&sidecar, Duration::from_millis(300)).await;
        let alone = work(&sidecar, ALONE).await;
        assert_eq!(alone.failures, Vec::<String>::new(), "{name}: the honest client alone");
        Self { _turn: turn, name, _fake: fake, sidecar, alone, limit_mib: limit_mib as f64, before: BEFORE }
    }

    /// The same with a REST listener, which the honest client uses.
    pub(crate) async fn over_rest(name: &'static str) -> Self {
        let yaml = format!("rest_listen: 127.0.0.1:0\nlimits: {{max_inflight_bytes: {BYTES_MIB}MiB}}");
        Self::with(name, FakeTfs::start([dense::model()]), &yaml, BYTES_MIB).await
    }

    /// Measures only after so long, when the limiter knows what calls take.
    pub(crate) fn after(self, before: Duration) -> Self {
        Self { before, ..self }
    }

    /// Runs the attack on threads of its own while the honest client works, then checks the honest
    /// client and the sidecar. The attack gets the address and ends when it is cancelled.
    pub(crate) async fn run<F, A>(mut self, attack: A) -> Self
    where
        F: Future<Output = ()>,
        A: FnOnce(String, CancellationToken) -> F + Send + 'static,
    {
        let stop = CancellationToken::new();
        let addr = self.sidecar.rest.as_ref().unwrap_or(&self.sidecar.grpc).clone();
        let cancelled = stop.clone();
        let attacker = std::thread::spawn(move || {
            run_when_idle();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(attack(addr, cancelled));
        });
        work(&self.sidecar, self.before).await;
        let start = Instant::now();
        let attacked = work(&self.sidecar, ATTACKED).await;
        let live = admin::get(&self.sidecar.admin, "/livez").await.status;
        stop.cancel();
        attacker.join().expect("the attacker must not panic");
        let peak = self.sidecar.peak_memory();
        let (before, after) = (self.alone.p99(), attacked.p99());
        eprintln!(
            "{}: {:.1} % OK, p99 {after:.1?} (alone {before:.1?}), peak memory {peak:.0} MiB, {:.1?}",
            self.name,
            attacked.share_ok() * 100.0,
            start.elapsed()
        );
        assert!(self.sidecar.is_running(), "the sidecar has ended: {}", self.sidecar.log());
        assert_eq!(live, 200, "/livez");
        let failures = &attacked.failures[..attacked.failures.len().min(3)];
        assert!(attacked.share_ok() >= SHARE_OK, "{}: {failures:?}", self.name);
        assert!(after <= before * TIMES_P99 + NOISE, "{}: p99 {after:?}, alone {before:?}", self.name);
        assert!(peak <= self.limit_mib + EXTRA_MIB, "{}: peak memory {peak:.0} MiB", self.name);
        self
    }
}

/// Lets this thread run only when no other wants to. In reality an attacker has a machine of its
/// own, and takes no processor time from the sidecar and the honest client but by what it sends.
fn run_when_idle() {
    let thread = std::fs::read_link("/proc/thread-self").unwrap();
    let id = thread.file_name().unwrap();
    let done = Command::new("renice").args(["-n", "19", "-p"]).arg(id).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The honest client for so long: over REST if there is a listener for it.
async fn work(sidecar: &Process, length: Duration) -> Record {
    match &sidecar.rest {
        Some(rest) => honest::run_rest(rest, length).await,
        None => honest::run(&sidecar.grpc, length).await,
    }
}

/// Sends these bytes on a new connection and holds it open; again whenever it is closed. `window`
/// is what each stream may be sent.
pub(crate) async fn hold(addr: &str, stop: &CancellationToken, window: u32, reads: Reads, bytes: &[u8]) {
    attacks::hold(&Dial::plain(addr), stop, window, reads, bytes).await;
}

/// Sends these bytes on so many connections and holds them open.
pub(crate) async fn hold_many(
    addr: &str,
    stop: &CancellationToken,
    count: usize,
    window: u32,
    reads: Reads,
    bytes: &[u8],
) {
    let mut connections = Vec::new();
    while connections.len() < count && !stop.is_cancelled() {
        let mut raw = Raw::connect(addr, window, reads).await.unwrap();
        raw.send(bytes).await.ok();
        connections.push(raw);
    }
    stop.cancelled().await;
}
