//! Groups of clients that send rows of their own at the same time, and check their own answers.
use crate::call::{self, Fault};
use crate::load::{self, Arrivals};
use crate::procfs::{self, Group as Processes};
use crate::proto::FLOAT;
use crate::rows::{self, Rows, outputs};
use crate::timer::Timer;
use crate::{Outcome, args::Args, payloads, summary};
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The open loop sends no more while this many requests are unanswered: the target has stalled.
const MAX_IN_FLIGHT: usize = 20_000;
/// How long answers may take after the end.
const PATIENCE: Duration = Duration::from_secs(10);
const RESOURCE_EXHAUSTED: u32 = 8;

/// Clients that do the same.
#[derive(Debug, Clone, PartialEq)]
struct Group {
    name: String,
    model: String,
    rows: usize,
    dtype: u64,
    /// Of one row.
    dims: Vec<i64>,
    conns: usize,
    /// Clients on each connection, each in a closed loop.
    streams: usize,
    /// Requests a second in an open loop, in place of the closed loops.
    rate: Option<f64>,
    /// Seconds of the window in which the clients are active; from the warm-up on if not set.
    from: Option<f64>,
    until: Option<f64>,
}

struct Plan {
    target: String,
    reference: Option<String>,
    /// By how much a value may differ from the reference, relative to the largest one of the
    /// answer.
    tolerance: Option<f32>,
    input: String,
    from: Instant,
    until: Instant,
    /// The seconds of a bin of the course of a group.
    bin: Option<f64>,
    requests: Option<u64>,
}

/// What became of the requests of a group.
#[derive(Default)]
struct Tally {
    /// In nanoseconds, of requests in the window.
    latency: Vec<u64>,
    late: Vec<u64>,
    bins: Vec<Vec<u64>>,
    sent: u64,
    ok: u64,
    wrong: u64,
    refused: u64,
    errors: u64,
    missing: u64,
    not_sent: u64,
    kinds: BTreeMap<String, u64>,
}

/// What the clients of a group share.
struct Lane {
    plan: Rc<Plan>,
    group: Group,
    head: Request<()>,
    tally: RefCell<Tally>,
    flying: Cell<usize>,
    /// The number of `--requests` left.
    left: Option<Cell<u64>>,
}

/// One client: its rows, and its only request with the values it must get back if it cannot compute
/// them.
struct Client {
    number: u64,
    rows: RefCell<Rows>,
    reference: Option<(Vec<u8>, Vec<u8>)>,
}

pub fn run(words: &[String]) -> Outcome<i32> {
    let known =
        ["target", "group", "warmup", "seconds", "requests", "bin", "reference", "tolerance", "input", "pid"];
    let args = Args::parse(words, &known)?;
    let groups = args.all("group").map(Group::parse).collect::<Outcome<Vec<_>>>()?;
    if groups.is_empty() {
        return Err("--group is needed".into());
    }
    let requests: Option<u64> = args.number("requests")?;
    // An exact number of requests has no window, only a limit of ten minutes.
    let (warmup, length) = match requests {
        Some(_) => (0.0, 600.0),
        None => (args.number("warmup")?.unwrap_or(0.5), args.number("seconds")?.unwrap_or(2.0)),
    };
    let mut processes = vec![Processes { name: "load".into(), pids: vec![std::process::id()] }];
    for text in args.all("pid") {
        processes.push(Processes::parse(text).ok_or_else(|| format!("--pid: `{text}` is not NAME=PID,PID"))?);
    }
    let prepare = Duration::from_millis(100 + if args.get("reference").is_some() { 1000 } else { 0 });
    let from = Instant::now() + prepare + Duration::try_from_secs_f64(warmup)?;
    let plan = Plan {
        target: args.need("target")?.to_owned(),
        reference: args.get("reference").map(str::to_owned),
        tolerance: args.number("tolerance")?,
        input: args.get("input").unwrap_or(payloads::INPUT).to_owned(),
        from,
        until: from + Duration::try_from_secs_f64(length)?,
        bin: args.number("bin")?,
        requests,
    };
    let (until, counted) = (plan.until, requests.is_some());
    let watched = load::watch(&processes, from, until, counted, move || generate(plan, groups))?;
    let (tallies, seconds) = (watched.result, watched.seconds);
    let done: usize = tallies.iter().map(|(_, tally)| tally.latency.len()).sum();
    let good = tallies.iter().all(|(_, tally)| tally.is_good());
    let mut report = procfs::between(&processes, &watched.before, &watched.after, done as u64);
    let figures: serde_json::Map<_, _> = tallies
        .into_iter()
        .map(|(group, tally)| (group.name.clone(), tally.figures(&group, seconds)))
        .collect();
    report["seconds"] = seconds.into();
    report["groups"] = figures.into();
    println!("{report}");
    Ok(i32::from(!good))
}

impl Group {
    /// From `NAME:KEY=VALUE,...`
    fn parse(text: &str) -> Outcome<Self> {
        let (name, rest) = text.split_once(':').ok_or("--group: expected NAME:KEY=VALUE,...")?;
        let mut group = Self {
            name: name.to_owned(),
            model: "m".to_owned(),
            rows: 1,
            dtype: FLOAT,
            dims: vec![128],
            conns: 1,
            streams: 1,
            rate: None,
            from: None,
            until: None,
        };
        for pair in rest.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| format!("--group: `{pair}` has no value"))?;
            match key {
                "model" => value.clone_into(&mut group.model),
                "rows" => group.rows = value.parse()?,
                "dtype" => group.dtype = rows::dtype(value).ok_or("--group: dtype is `float` or `uint8`")?,
                "dims" => group.dims = value.split('x').map(str::parse).collect::<Result<_, _>>()?,
                "conns" => group.conns = value.parse()?,
                "streams" => group.streams = value.parse()?,
                "rate" => group.rate = Some(value.parse()?),
                "from" => group.from = Some(value.parse()?),
                "until" => group.until = Some(value.parse()?),
                _ => return Err(format!("--group: unknown key `{key}`").into()),
            }
        }
        Ok(group)
    }
}

impl Tally {
    /// Whether every request was sent and got its own rows.
    fn is_good(&self) -> bool {
        self.ok == self.sent && self.missing == 0 && self.not_sent == 0 && !self.latency.is_empty()
    }

    fn figures(mut self, group: &Group, seconds: f64) -> Value {
        let active = group.until.unwrap_or(seconds).min(seconds) - group.from.unwrap_or(0.0);
        let rows = self.latency.len() * group.rows;
        let bins: Vec<_> = self
            .bins
            .iter_mut()
            .map(|bin| json!({"rows": bin.len() * group.rows, "latency_us": summary::micros(bin)}))
            .collect();
        json!({
            "done": self.latency.len(), "rows": rows, "rows_per_s": rows as f64 / active,
            "sent": self.sent, "ok": self.ok, "wrong": self.wrong, "refused": self.refused,
            "errors": self.errors, "missing": self.missing, "not_sent": self.not_sent, "kinds": self.kinds,
            "latency_us": summary::micros(&mut self.latency), "late_us": summary::micros(&mut self.late),
            "bins": bins,
        })
    }

    fn fail(&mut self, fault: &Fault) {
        match fault {
            Fault::Status(RESOURCE_EXHAUSTED) => self.refused += 1,
            Fault::Wrong(_) => self.wrong += 1,
            _ => self.errors += 1,
        }
        *self.kinds.entry(fault.to_string()).or_default() += 1;
    }
}

async fn generate(plan: Plan, groups: Vec<Group>) -> Result<Vec<(Group, Tally)>, String> {
    let plan = Rc::new(plan);
    let (mut lanes, mut tasks) = (Vec::new(), Vec::new());
    let mut number = 0;
    for group in groups {
        let head = call::head(&plan.target).map_err(|e| e.to_string())?;
        let left = plan.requests.map(Cell::new);
        let (tally, flying) = (RefCell::default(), Cell::new(0));
        let lane = Rc::new(Lane { plan: plan.clone(), group, head, tally, flying, left });
        let clients = if lane.group.rate.is_some() { 1 } else { lane.group.streams };
        for _ in 0..lane.group.conns {
            let connection = call::connect(&plan.target, 4 << 20).await.map_err(|e| e.to_string())?;
            for _ in 0..clients {
                number += 1;
                let client = Client::new(&lane, number).await?;
                tasks.push((lane.clone(), connection.clone(), client));
            }
        }
        lanes.push(lane);
    }
    let tasks: Vec<_> = tasks
        .into_iter()
        .map(|(lane, connection, client)| {
            tokio::task::spawn_local(async move {
                match lane.group.rate {
                    Some(rate) => lane.open_loop(connection, client, rate).await,
                    None => lane.closed_loop(connection, client).await,
                }
            })
        })
        .collect();
    let end = tokio::time::Instant::from_std(plan.until + PATIENCE);
    for task in tasks {
        // What is in flight then is counted as missing.
        let _ = tokio::time::timeout_at(end, task).await;
    }
    let taken = lanes.into_iter().map(|lane| {
        let mut tally = lane.tally.take();
        tally.missing = lane.flying.get() as u64;
        (lane.group.clone(), tally)
    });
    Ok(taken.collect())
}

impl Client {
    async fn new(lane: &Lane, number: u64) -> Result<Self, String> {
        let group = &lane.group;
        let (model, input) = (&group.model, &lane.plan.input);
        let mut rows = Rows::new(group.dtype, model, input, &group.dims, group.rows, number);
        let Some(address) = &lane.plan.reference else {
            return Ok(Self { number, rows: RefCell::new(rows), reference: None });
        };
        let text = |what| move |e| format!("{what}: {e}");
        let connection = call::connect(address, 4 << 20).await.map_err(text("reference"))?;
        let (head, request) = (call::head(address).map_err(|e| e.to_string())?, rows.request());
        let answer = call::exchange(&connection, &head, request.clone().into()).await;
        let answer = answer.map_err(text("reference"))?;
        let values = outputs(&answer).ok_or("the reference answered without one output")?.values;
        Ok(Self { number, rows: RefCell::new(rows), reference: Some((request, values)) })
    }

    fn request(&self) -> Vec<u8> {
        match &self.reference {
            Some((request, _)) => request.clone(),
            None => self.rows.borrow_mut().request(),
        }
    }

    fn check(&self, request: &[u8], answer: &[u8], tolerance: Option<f32>) -> Result<(), Fault> {
        call::check(answer, &[])?;
        let good = match &self.reference {
            Some((_, values)) => {
                outputs(answer).is_some_and(|tensor| rows::close(&tensor.values, values, tolerance))
            }
            None => self.rows.borrow().answered(request, answer),
        };
        if good { Ok(()) } else { Err(Fault::Wrong("other rows")) }
    }
}

impl Lane {
    fn window(&self) -> (Option<Instant>, Instant) {
        let at = |seconds| self.plan.from + Duration::from_secs_f64(seconds);
        (self.group.from.map(at), self.group.until.map_or(self.plan.until, at))
    }

    /// Sends one request and returns whether its answer was right. `due` is its time in the open
    /// loop.
    async fn one(
        &self,
        connection: &SendRequest<Bytes>,
        body: Vec<u8>,
        client: &Client,
        due: Option<Instant>,
    ) -> bool {
        self.tally.borrow_mut().sent += 1;
        self.flying.set(self.flying.get() + 1);
        let body = Bytes::from(body);
        let sent = Instant::now();
        let answer = call::exchange(connection, &self.head, body.clone()).await;
        let now = Instant::now();
        self.flying.set(self.flying.get() - 1);
        let result = answer.and_then(|answer| client.check(&body, &answer, self.plan.tolerance));
        let mut tally = self.tally.borrow_mut();
        if let Err(fault) = result {
            tally.fail(&fault);
            return false;
        }
        tally.ok += 1;
        // Closed loop: requests that ended in the window. Open loop: requests that were due in it.
        let counts = due.unwrap_or(now);
        if (self.plan.from..self.plan.until).contains(&counts) || self.left.is_some() {
            let latency = (now - due.unwrap_or(sent)).as_nanos() as u64;
            tally.latency.push(latency);
            if let Some(due) = due {
                tally.late.push((sent - due).as_nanos() as u64);
            }
            if let Some(bin) = self.plan.bin {
                let index = ((counts - self.plan.from).as_secs_f64() / bin) as usize;
                if tally.bins.len() <= index {
                    tally.bins.resize_with(index + 1, Vec::new);
                }
                tally.bins[index].push(latency);
            }
        }
        true
    }

    async fn closed_loop(&self, mut connection: SendRequest<Bytes>, client: Client) {
        let (from, until) = self.window();
        if let Some(from) = from {
            tokio::time::sleep_until(from.into()).await;
        }
        while Instant::now() < until {
            if let Some(left) = &self.left {
                match left.get().checked_sub(1) {
                    Some(rest) => left.set(rest),
                    None => return,
                }
            }
            let body = client.request();
            if self.one(&connection, body, &client, None).await {
                continue;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            if connection.clone().ready().await.is_err()
                && let Ok(fresh) = call::connect(&self.plan.target, 4 << 20).await
            {
                connection = fresh;
            }
        }
    }

    async fn open_loop(self: &Rc<Self>, connection: SendRequest<Bytes>, client: Client, rate: f64) {
        let Ok(timer) = Timer::new() else { return };
        let (from, until) = self.window();
        let mut arrivals = Arrivals::new(rate / self.group.conns as f64, client.number);
        let mut due = from.unwrap_or_else(Instant::now);
        let client = Rc::new(client);
        let mut tasks = Vec::new();
        loop {
            due += arrivals.gap();
            if due >= until || timer.until(due).await.is_err() {
                break;
            }
            if self.flying.get() >= MAX_IN_FLIGHT {
                self.tally.borrow_mut().not_sent += 1;
                continue;
            }
            let body = client.request();
            let (lane, connection, client) = (self.clone(), connection.clone(), client.clone());
            tasks.push(tokio::task::spawn_local(async move {
                lane.one(&connection, body, &client, Some(due)).await;
            }));
            if tasks.len() > 1024 {
                tasks.retain(|task| !task.is_finished());
            }
        }
        for task in tasks {
            let _ = task.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_read_from_its_keys() {
        let group =
            Group::parse("polite:model=slow,rows=3,dtype=uint8,dims=4x2,conns=2,streams=8,rate=10,until=1");
        let group = group.unwrap();
        assert_eq!((group.name.as_str(), group.model.as_str(), group.rows), ("polite", "slow", 3));
        assert_eq!(Some(group.dtype), rows::dtype("uint8"));
        assert_eq!((group.dims, group.conns, group.streams), (vec![4, 2], 2, 8));
        assert_eq!((group.rate, group.from, group.until), (Some(10.0), None, Some(1.0)));
        for wrong in ["polite", "a:rows", "a:rows=x", "a:size=1", "a:dtype=x"] {
            assert!(Group::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_kind_of_failure_makes_a_sample_invalid() {
        let good = || Tally { sent: 2, ok: 2, latency: vec![1, 2], ..Tally::default() };
        assert!(good().is_good());
        assert!(!Tally { missing: 1, ..good() }.is_good());
        assert!(!Tally { not_sent: 1, ..good() }.is_good());
        assert!(!Tally { latency: Vec::new(), ..good() }.is_good());
        for (fault, counts) in [
            (Fault::Status(8), [1, 0, 0]),
            (Fault::Wrong("other rows"), [0, 1, 0]),
            (Fault::Status(14), [0, 0, 1]),
            (Fault::Transport("reset".into()), [0, 0, 1]),
        ] {
            let mut tally = Tally { sent: 3, ..good() };
            tally.fail(&fault);
            assert_eq!([tally.refused, tally.wrong, tally.errors], counts);
            assert!(!tally.is_good());
        }
    }
}
