//! Sends mixed traffic at a fixed rate for a long time and accounts for every request.
use crate::call::{self, Fault};
use crate::load::Arrivals;
use crate::timer::Timer;
use crate::{Outcome, args::Args, on_this_thread};
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const CONNECTIONS: usize = 4;
/// This many unexpected ends are listed with their times; all are counted.
const MAX_LISTED: usize = 100_000;
const INVALID_ARGUMENT: u32 = 3;
const UNAVAILABLE: u32 = 14;

/// How a request is sent, which also determines how it may end.
#[derive(Clone, Copy, PartialEq)]
enum How {
    /// Ends OK.
    Ok,
    /// Ends with INVALID_ARGUMENT.
    Refuse,
    /// Half the body, then a reset.
    CancelEarly,
    /// The whole body, then a reset unless the answer is faster.
    CancelLate,
    /// Reads the answer slowly, through a window of 16 bytes.
    SlowRead,
    /// Sends the body in pieces.
    SlowWrite,
}

struct Kind {
    name: String,
    body: Bytes,
    weight: f64,
    how: How,
}

struct Soak {
    target: String,
    head: Request<()>,
    expect: Vec<u8>,
    kinds: Vec<Kind>,
    ends: RefCell<BTreeMap<(String, String), u64>>,
    listed: RefCell<Vec<Value>>,
    flying: Cell<u64>,
}

impl Kind {
    /// From `NAME,FILE,WEIGHT,HOW`.
    fn parse(text: &str) -> Outcome<Self> {
        let parts: Vec<&str> = text.split(',').collect();
        let [name, file, weight, how] = parts[..] else {
            return Err(format!("--mix: expected NAME,FILE,WEIGHT,HOW, got `{text}`").into());
        };
        let how = match how {
            "ok" => How::Ok,
            "refuse" => How::Refuse,
            "cancel-early" => How::CancelEarly,
            "cancel-late" => How::CancelLate,
            "slow-read" => How::SlowRead,
            "slow-write" => How::SlowWrite,
            _ => return Err(format!("--mix: unknown HOW `{how}`").into()),
        };
        Ok(Self { name: name.to_owned(), body: std::fs::read(file)?.into(), weight: weight.parse()?, how })
    }
}

pub fn run(words: &[String]) -> Outcome<i32> {
    let args = Args::parse(words, &["target", "expect", "rate", "seconds", "mix"])?;
    let target = args.need("target")?.to_owned();
    let soak = Soak {
        head: call::head(&target)?,
        target,
        expect: std::fs::read(args.need("expect")?)?,
        kinds: args.all("mix").map(Kind::parse).collect::<Outcome<_>>()?,
        ends: RefCell::default(),
        listed: RefCell::default(),
        flying: Cell::new(0),
    };
    let rate = args.number("rate")?.unwrap_or(200.0);
    let length = Duration::try_from_secs_f64(args.number("seconds")?.unwrap_or(60.0))?;
    let soak = Rc::new(soak);
    let sent = on_this_thread(soak.clone().generate(rate, length))?.map_err(|fault| fault.to_string())?;
    let ends: Vec<Value> = soak
        .ends
        .borrow()
        .iter()
        .map(|((name, end), count)| json!({"name": name, "end": end, "count": count}))
        .collect();
    println!(
        "{}",
        json!({"sent": sent, "unanswered": soak.flying.get(), "ends": ends, "listed": soak.listed.take()})
    );
    Ok(0)
}

impl Soak {
    async fn generate(self: Rc<Self>, rate: f64, length: Duration) -> Result<u64, Fault> {
        let system = |e: std::io::Error| Fault::Transport(e.to_string());
        let timer = Timer::new().map_err(system)?;
        let mut chance = Arrivals::new(rate, 3);
        let weights: f64 = self.kinds.iter().map(|k| k.weight).sum();
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(call::connect(&self.target, 4 << 20).await?);
        }
        let sipping = call::connect(&self.target, 16).await?;
        let mut due = Instant::now();
        let end = due + length;
        let mut sent = 0;
        while due < end {
            timer.until(due).await.map_err(system)?;
            due += chance.gap();
            let mut draw = chance.even() * weights;
            let index = self.kinds.iter().position(|kind| {
                draw -= kind.weight;
                draw <= 0.0
            });
            let index = index.unwrap_or(0);
            let client = match self.kinds[index].how {
                How::SlowRead => sipping.clone(),
                _ => clients[sent as usize % CONNECTIONS].clone(),
            };
            let pause = Duration::from_secs_f64(chance.even() * 0.06);
            sent += 1;
            self.flying.set(self.flying.get() + 1);
            let soak = self.clone();
            tokio::task::spawn_local(async move {
                let kind = &soak.kinds[index];
                let result = soak.one(kind, client, pause).await;
                soak.account(kind, result);
                soak.flying.set(soak.flying.get() - 1);
            });
        }
        let patience = Instant::now() + Duration::from_secs(30);
        while self.flying.get() > 0 && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(sent)
    }

    /// `Ok(false)`: cancelled by us.
    async fn one(&self, kind: &Kind, client: SendRequest<Bytes>, pause: Duration) -> Result<bool, Fault> {
        let mut client = client.ready().await?;
        let (response, mut stream) = client.send_request(self.head.clone(), false)?;
        let body = kind.body.clone();
        match kind.how {
            How::Ok | How::Refuse | How::SlowRead => stream.send_data(body, true)?,
            How::CancelEarly => {
                stream.send_data(body.slice(..body.len() / 2), false)?;
                tokio::time::sleep(pause).await;
                stream.send_reset(h2::Reason::CANCEL);
                return Ok(false);
            }
            How::CancelLate => {
                stream.send_data(body, true)?;
                return match tokio::time::timeout(pause, call::answer(response)).await {
                    Ok(answer) => call::check(&answer?, &self.expect).map(|()| true),
                    Err(_) => {
                        stream.send_reset(h2::Reason::CANCEL);
                        Ok(false)
                    }
                };
            }
            How::SlowWrite => {
                let piece = body.len().div_ceil(6);
                for start in (0..body.len()).step_by(piece) {
                    let end = body.len().min(start + piece);
                    // An answer before the whole body has been sent ends the stream: that answer
                    // counts, not the failed send.
                    if stream.send_data(body.slice(start..end), end == body.len()).is_err() {
                        break;
                    }
                    tokio::time::sleep(pause / 2).await;
                }
            }
        }
        if kind.how == How::SlowRead {
            // h2 grants no more window until the body is read, so the answer waits in the proxy.
            tokio::time::sleep(pause * 3).await;
        }
        call::check(&call::answer(response).await?, &self.expect).map(|()| true)
    }

    fn account(&self, kind: &Kind, result: Result<bool, Fault>) {
        let wanted_refusal = kind.how == How::Refuse;
        let (end, expected) = match result {
            Ok(true) => ("ok".to_owned(), !wanted_refusal),
            Ok(false) => ("cancelled".to_owned(), true),
            Err(Fault::Status(INVALID_ARGUMENT)) if wanted_refusal => ("refused".to_owned(), true),
            Err(Fault::Status(UNAVAILABLE)) => ("unavailable".to_owned(), false),
            Err(fault) => (fault.to_string(), false),
        };
        let mut listed = self.listed.borrow_mut();
        if !expected && listed.len() < MAX_LISTED {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
            listed.push(json!([now, kind.name, end]));
        }
        *self.ends.borrow_mut().entry((kind.name.clone(), end)).or_default() += 1;
    }
}
