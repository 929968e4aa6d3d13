//! Generates load from one Predict: a closed loop, an open loop with Poisson arrivals, or an exact
//! number of requests.
use crate::call::{self, Fault};
use crate::procfs::{self, Group, Snapshot};
use crate::timer::Timer;
use crate::{Outcome, args::Args, on_this_thread, summary};
use bytes::Bytes;
use h2::client::SendRequest;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The open loop sends no more while this many requests are unanswered: the target has stalled.
const MAX_IN_FLIGHT: usize = 20_000;
/// A lane gives up after this many errors in a row.
const MAX_ERRORS: usize = 50;

struct Plan {
    target: String,
    body: Bytes,
    expect: Vec<u8>,
    conns: usize,
    streams: usize,
    rate: Option<f64>,
    from: Instant,
    until: Instant,
    /// The number of `--requests` left.
    left: Option<Cell<u64>>,
}

#[derive(Default)]
struct Tally {
    /// In nanoseconds, for requests in the measurement window.
    latency: Vec<u64>,
    late: Vec<u64>,
    sent: u64,
    ok: u64,
    not_sent: u64,
    faults: BTreeMap<Fault, u64>,
}

pub fn run(words: &[String]) -> Outcome<i32> {
    let known = [
        "target", "body", "expect", "save", "conns", "streams", "rate", "warmup", "seconds", "requests",
        "pid",
    ];
    let args = Args::parse(words, &known)?;
    let requests: Option<u64> = args.number("requests")?;
    let span = |name, default| {
        let seconds = args.number(name)?.unwrap_or(default);
        Duration::try_from_secs_f64(seconds).map_err(Box::<dyn std::error::Error>::from)
    };
    // An exact number of requests has no window, only a limit of ten minutes.
    let (warmup, length) = match requests {
        Some(_) => (Duration::ZERO, Duration::from_secs(600)),
        None => (span("warmup", 0.5)?, span("seconds", 2.0)?),
    };
    let from = Instant::now() + Duration::from_millis(100) + warmup;
    let plan = Plan {
        target: args.need("target")?.to_owned(),
        body: std::fs::read(args.need("body")?)?.into(),
        expect: args.get("expect").map(std::fs::read).transpose()?.unwrap_or_default(),
        conns: args.number("conns")?.unwrap_or(4),
        streams: args.number("streams")?.unwrap_or(16),
        rate: args.number("rate")?,
        from,
        until: from + length,
        left: requests.map(Cell::new),
    };
    let mut groups = vec![Group { name: "load".into(), pids: vec![std::process::id()] }];
    for text in args.all("pid") {
        groups.push(Group::parse(text).ok_or_else(|| format!("--pid: expected NAME=PID,PID, got `{text}`"))?);
    }

    let until = plan.until;
    let counted = requests.is_some();
    let Watched { result: mut tally, before, after, seconds } =
        watch(&groups, from, until, counted, move || generate(Rc::new(plan)))?;

    let done = tally.latency.len() as u64;
    let faults: u64 = tally.faults.values().sum();
    let kinds: serde_json::Map<_, _> =
        tally.faults.iter().map(|(k, n)| (k.to_string(), (*n).into())).collect();
    let mut report = procfs::between(&groups, &before, &after, done);
    let figures = json!({
        "seconds": seconds, "done": done, "rps": done as f64 / seconds, "sent": tally.sent, "ok": tally.ok,
        "not_sent": tally.not_sent, "errors": faults, "kinds": kinds,
        "latency_us": summary::micros(&mut tally.latency), "late_us": summary::micros(&mut tally.late),
    });
    if let (Some(report), serde_json::Value::Object(figures)) = (report.as_object_mut(), figures) {
        report.extend(figures);
    }
    println!("{report}");
    Ok(i32::from(faults > 0 || tally.not_sent > 0 || done == 0))
}

/// What was measured from the beginning of the window to its end.
pub struct Watched<T> {
    pub result: T,
    pub before: Snapshot,
    pub after: Snapshot,
    pub seconds: f64,
}

/// Runs `work` on a thread of its own, and observes the processes in the window. With `counted`,
/// the window ends with the work.
pub fn watch<T: Send + 'static, F: Future<Output = Result<T, String>>>(
    groups: &[Group],
    from: Instant,
    until: Instant,
    counted: bool,
    work: impl FnOnce() -> F + Send + 'static,
) -> Outcome<Watched<T>> {
    let worker = std::thread::spawn(move || on_this_thread(work()).map_err(|e| e.to_string()));
    std::thread::sleep(from.saturating_duration_since(Instant::now()));
    procfs::reset_peaks(&groups[1..]);
    let before = procfs::snapshot(groups);
    while Instant::now() < until && !(counted && worker.is_finished()) {
        let rest = until.saturating_duration_since(Instant::now());
        std::thread::sleep(if counted { rest.min(Duration::from_millis(5)) } else { rest });
    }
    let after = procfs::snapshot(groups);
    let seconds = from.elapsed().as_secs_f64();
    let result = worker.join().map_err(|_| "the load thread panicked")???;
    Ok(Watched { result, before, after, seconds })
}

async fn generate(plan: Rc<Plan>) -> Result<Tally, String> {
    let tally = Rc::new(RefCell::new(Tally::default()));
    let mut clients = Vec::new();
    for _ in 0..plan.conns {
        clients.push(call::connect(&plan.target, 4 << 20).await.map_err(|e| e.to_string())?);
    }
    match plan.rate {
        Some(rate) => open_loop(&plan, &tally, &clients, rate).await.map_err(|e| e.to_string())?,
        None => {
            let lanes: Vec<_> = clients
                .iter()
                .flat_map(|client| std::iter::repeat_n(client, plan.streams))
                .map(|client| {
                    tokio::task::spawn_local(closed_loop(plan.clone(), tally.clone(), client.clone()))
                })
                .collect();
            for lane in lanes {
                lane.await.map_err(|e| e.to_string())?;
            }
        }
    }
    Ok(tally.take())
}

/// Sends one request and returns whether the answer was correct. `due` is its scheduled time in the
/// open loop.
async fn one(
    plan: &Plan,
    tally: &RefCell<Tally>,
    client: &SendRequest<Bytes>,
    due: Option<Instant>,
) -> Result<bool, String> {
    let head = call::head(&plan.target).map_err(|e| e.to_string())?;
    let sent = Instant::now();
    let result = call::predict(client, &head, plan.body.clone(), &plan.expect).await;
    let now = Instant::now();
    let mut tally = tally.borrow_mut();
    tally.sent += 1;
    if let Err(fault) = result {
        *tally.faults.entry(fault).or_default() += 1;
        return Ok(false);
    }
    tally.ok += 1;
    // Closed loop: requests that ended in the window. Open loop: requests that were due in it.
    if (plan.from..plan.until).contains(&due.unwrap_or(now)) || plan.left.is_some() {
        tally.latency.push((now - due.unwrap_or(sent)).as_nanos() as u64);
        if let Some(due) = due {
            tally.late.push((sent - due).as_nanos() as u64);
        }
    }
    Ok(true)
}

async fn closed_loop(plan: Rc<Plan>, tally: Rc<RefCell<Tally>>, mut client: SendRequest<Bytes>) {
    let mut errors = 0;
    while errors < MAX_ERRORS && Instant::now() < plan.until {
        if let Some(left) = &plan.left {
            match left.get().checked_sub(1) {
                Some(rest) => left.set(rest),
                None => return,
            }
        }
        if matches!(one(&plan, &tally, &client, None).await, Ok(true)) {
            errors = 0;
            continue;
        }
        errors += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
        if client.clone().ready().await.is_err()
            && let Ok(fresh) = call::connect(&plan.target, 4 << 20).await
        {
            client = fresh;
        }
    }
}

async fn open_loop(
    plan: &Rc<Plan>,
    tally: &Rc<RefCell<Tally>>,
    clients: &[SendRequest<Bytes>],
    rate: f64,
) -> std::io::Result<()> {
    let timer = Timer::new()?;
    let mut arrivals = Arrivals::new(rate, 1);
    let mut due = Instant::now();
    let flying = Rc::new(Cell::new(0_usize));
    for client in clients.iter().cycle() {
        due += arrivals.gap();
        if due >= plan.until {
            break;
        }
        timer.until(due).await?;
        if flying.get() >= MAX_IN_FLIGHT {
            tally.borrow_mut().not_sent += 1;
            continue;
        }
        flying.set(flying.get() + 1);
        let (plan, tally, client, flying) = (plan.clone(), tally.clone(), client.clone(), flying.clone());
        tokio::task::spawn_local(async move {
            let _ = one(&plan, &tally, &client, Some(due)).await;
            flying.set(flying.get() - 1);
        });
    }
    let patience = Instant::now() + Duration::from_secs(10);
    while flying.get() > 0 && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tally.borrow_mut().not_sent += flying.get() as u64;
    Ok(())
}

/// Poisson arrivals: exponential gaps from a generator with a fixed seed.
pub struct Arrivals {
    rate: f64,
    state: u64,
}

impl Arrivals {
    pub fn new(rate: f64, seed: u64) -> Self {
        Self { rate, state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 }
    }

    /// Uniform in (0, 1].
    pub fn even(&mut self) -> f64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        ((self.state >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
    }

    pub fn gap(&mut self) -> Duration {
        Duration::from_secs_f64(-self.even().ln() / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_keep_the_rate() {
        let mut arrivals = Arrivals::new(1000.0, 7);
        let total: Duration = (0..20_000).map(|_| arrivals.gap()).sum();
        assert!((19.0..21.0).contains(&total.as_secs_f64()), "{total:?}");
    }
}
