//! A stand-in for TensorFlow Serving. It compares and counts requests and answers immediately; with
//! `--curve`, `--burn` or `--saved-model` it computes the answer from the rows, and that takes
//! time.
//!
//! Models `m` and `slow` (float `[-1,128]`) and `img` (float `[-1,224,224,3]`), each at version 1;
//! with `--models 100` also `m0` to `m99`, like `m`.
use crate::compute::Compute;
use crate::proto::{Message, model_name, model_spec};
use crate::timer::{Clock, Timer};
use crate::{Outcome, args::Args, meaning, on_this_thread, payloads, rows};
use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";
const METADATA: &str = "/tensorflow.serving.PredictionService/GetModelMetadata";
const STATUS: &str = "/tensorflow.serving.ModelService/GetModelStatus";
/// Where a collector takes traces.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Requests since the start or the last reset.
#[derive(Default)]
struct Counts {
    predict: Cell<u64>,
    /// Rows of the Predict requests, if the stub computes them.
    rows: Cell<u64>,
    /// Predict requests equal to an expected body, byte for byte.
    equal: Cell<u64>,
    /// Predict requests with the same meaning in other bytes.
    same: Cell<u64>,
    /// Predict requests that are neither.
    bad: Cell<u64>,
    /// Predict requests refused because too many were running.
    exhausted: Cell<u64>,
    broken: Cell<u64>,
    metadata: Cell<u64>,
    status: Cell<u64>,
    unknown: Cell<u64>,
}

struct Stub {
    expected: Vec<Vec<u8>>,
    answer: Bytes,
    frame: u32,
    max_threads: usize,
    service: Duration,
    slow: Duration,
    /// `m0`, `m1` and so on, beside the models that are always there.
    models: usize,
    running: Cell<usize>,
    compute: Compute,
    counts: Counts,
}

/// A gRPC status other than OK.
pub struct Refusal(pub &'static str, pub &'static str);

pub fn run(words: &[String]) -> Outcome<i32> {
    let known = ["listen", "control", "check", "frame", "max-threads", "service-us", "slow-us", "models"];
    let args = Args::parse(words, &[&known[..], &Compute::OPTIONS].concat())?;
    let micros =
        |name| Ok::<_, Box<dyn std::error::Error>>(Duration::from_micros(args.number(name)?.unwrap_or(0)));
    let stub = Stub {
        expected: args.all("check").map(std::fs::read).collect::<Result<_, _>>()?,
        answer: payloads::answer().into(),
        frame: args.number("frame")?.unwrap_or(1 << 20),
        max_threads: args.number("max-threads")?.unwrap_or(usize::MAX),
        service: micros("service-us")?,
        slow: micros("slow-us")?,
        models: args.number("models")?.unwrap_or(0),
        running: Cell::new(0),
        compute: Compute::new(&args)?,
        counts: Counts::default(),
    };
    let (listen, control) = (args.need("listen")?, args.need("control")?);
    on_this_thread(async {
        let stub = Rc::new(stub);
        let clock = Clock::start()?;
        let control = TcpListener::bind(control).await?;
        let listener = TcpListener::bind(listen).await?;
        let asked = stub.clone();
        tokio::task::spawn_local(async move {
            while let Ok((socket, _)) = control.accept().await {
                // A client that has disconnected needs no answer.
                let _ = asked.clone().tell(socket).await;
            }
        });
        loop {
            let (socket, _) = listener.accept().await?;
            let (stub, clock) = (stub.clone(), clock.clone());
            tokio::task::spawn_local(async move {
                let _ = stub.connection(socket, clock).await;
            });
        }
    })?
}

impl Counts {
    fn named(&self) -> [(&'static str, &Cell<u64>); 10] {
        [
            ("predict", &self.predict),
            ("rows", &self.rows),
            ("equal", &self.equal),
            ("same", &self.same),
            ("bad", &self.bad),
            ("exhausted", &self.exhausted),
            ("broken", &self.broken),
            ("metadata", &self.metadata),
            ("status", &self.status),
            ("unknown", &self.unknown),
        ]
    }
}

fn add(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

impl Stub {
    /// Reads one letter: `s` returns the counts, `r` returns and resets them.
    async fn tell(&self, mut socket: TcpStream) -> std::io::Result<()> {
        let letter = socket.read_u8().await?;
        let counts: serde_json::Map<_, _> = self
            .counts
            .named()
            .iter()
            .map(|(name, count)| ((*name).to_owned(), count.get().into()))
            .collect();
        if letter == b'r' {
            self.counts.named().iter().for_each(|(_, count)| count.set(0));
        }
        socket.write_all(serde_json::Value::from(counts).to_string().as_bytes()).await
    }

    async fn connection(
        self: Rc<Self>,
        socket: TcpStream,
        clock: Rc<Clock>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        socket.set_nodelay(true)?;
        let mut connection = h2::server::Builder::new()
            .initial_window_size(4 << 20)
            .initial_connection_window_size(32 << 20)
            .max_frame_size(self.frame)
            .max_concurrent_streams(4096)
            .handshake::<_, Bytes>(socket)
            .await?;
        while let Some(stream) = connection.accept().await {
            let (request, respond) = stream?;
            let (stub, clock) = (self.clone(), clock.clone());
            tokio::task::spawn_local(async move {
                // An error means that the client disconnected, which is counted where the body is
                // read.
                let _ = stub.stream(request, respond, &clock).await;
            });
        }
        Ok(())
    }

    async fn stream(
        &self,
        request: Request<h2::RecvStream>,
        mut respond: SendResponse<Bytes>,
        clock: &Clock,
    ) -> Result<(), h2::Error> {
        let (head, body) = request.into_parts();
        let answer = match head.uri.path() {
            PREDICT if !self.compute.is_empty() => self.compute(body, clock).await,
            PREDICT => self.predict(body).await,
            EXPORT => sink(body).await,
            path => self.describe(path, body).await,
        };
        let mut response = Response::new(());
        let headers = response.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        match answer {
            Ok(message) => {
                let mut stream = respond.send_response(response, false)?;
                stream.send_data(message, false)?;
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                stream.send_trailers(trailers)
            }
            Err(Refusal(code, text)) => {
                headers.insert("grpc-status", HeaderValue::from_static(code));
                headers.insert("grpc-message", HeaderValue::from_static(text));
                respond.send_response(response, true).map(drop)
            }
        }
    }

    /// Computes an answer from the rows of a request.
    async fn compute(&self, mut body: h2::RecvStream, clock: &Clock) -> Result<Bytes, Refusal> {
        add(&self.counts.predict);
        let broken = |_| {
            add(&self.counts.broken);
            Refusal("13", "the request body is incomplete")
        };
        let slot = self.compute.thread().inspect_err(|_| add(&self.counts.exhausted))?;
        let mut request = Vec::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.map_err(broken)?;
            body.flow_control().release_capacity(chunk.len()).map_err(broken)?;
            request.extend_from_slice(&chunk);
        }
        let answer = self.compute.answer(&request, |model| self.dims(model), slot, clock).await;
        let (rows, answer) = answer.inspect_err(|_| add(&self.counts.bad))?;
        self.counts.rows.set(self.counts.rows.get() + rows);
        Ok(answer.into())
    }

    /// The input of a model.
    fn dims(&self, model: &str) -> Option<Vec<i64>> {
        let known = self.compute.dims(model).or_else(|| input_dims(model, self.models));
        known.map(<[i64]>::to_vec)
    }

    async fn predict(&self, body: h2::RecvStream) -> Result<Bytes, Refusal> {
        add(&self.counts.predict);
        let running = Running::enter(&self.running);
        if running.count > self.max_threads {
            add(&self.counts.exhausted);
            return Err(Refusal("8", "Server Threadpool Exhausted"));
        }
        let arrived = self.receive(body).await?;
        let slow = match arrived {
            Arrived::Uncompared => false,
            Arrived::Equal(index) => {
                add(&self.counts.equal);
                model_name(&self.expected[index][5..]) == Some("slow")
            }
            Arrived::Other(body) => {
                let equal = self.expected.iter().find(|e| **e == body);
                let same = || self.expected.iter().find(|e| meaning::same(e, &body));
                let Some(expected) = equal.or_else(same) else {
                    add(&self.counts.bad);
                    return Err(Refusal("3", "the stub expected another body"));
                };
                add(if equal.is_some() { &self.counts.equal } else { &self.counts.same });
                model_name(&expected[5..]) == Some("slow")
            }
        };
        let wait = if slow { self.slow } else { self.service };
        if !wait.is_zero() {
            let due = Instant::now() + wait;
            let timer = Timer::new().map_err(|_| Refusal("13", "the stub has no timer"))?;
            timer.until(due).await.map_err(|_| Refusal("13", "the stub's timer failed"))?;
        }
        Ok(self.answer.clone())
    }

    /// Compares bytes while they are in the cache, and buffers only bodies that are not expected.
    async fn receive(&self, mut body: h2::RecvStream) -> Result<Arrived, Refusal> {
        let broken = || {
            add(&self.counts.broken);
            Refusal("13", "the request body is incomplete")
        };
        let mut head = Vec::with_capacity(5);
        let (mut length, mut candidate) = (0, None);
        let mut gathered = None;
        while let Some(chunk) = body.data().await {
            let chunk = chunk.map_err(|_| broken())?;
            body.flow_control().release_capacity(chunk.len()).map_err(|_| broken())?;
            if head.len() < 5 {
                head.extend_from_slice(&chunk[..chunk.len().min(5 - head.len())]);
            }
            let from = length;
            length += chunk.len();
            if self.expected.is_empty() {
                continue;
            }
            if let Some(all) = &mut gathered {
                Vec::extend_from_slice(all, &chunk);
                continue;
            }
            let matched = candidate;
            candidate = match matched {
                None => self.expected.iter().position(|e| e.starts_with(&chunk)),
                Some(index) => (self.expected[index].get(from..length) == Some(&chunk[..])).then_some(index),
            };
            if candidate.is_none() {
                gathered = Some(self.prefix(matched, from, &chunk));
            }
        }
        let whole = head.len() == 5
            && head[0] == 0
            && u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize + 5 == length;
        match (whole, gathered, candidate) {
            (false, ..) => Err(broken()),
            (true, Some(all), _) => Ok(Arrived::Other(all)),
            (true, None, Some(index)) if self.expected[index].len() == length => Ok(Arrived::Equal(index)),
            (true, None, Some(index)) => Ok(Arrived::Other(self.expected[index][..length].to_vec())),
            (true, None, None) => Ok(Arrived::Uncompared),
        }
    }

    /// Everything before `chunk` equals an expected body, so nothing else has been discarded.
    fn prefix(&self, matched: Option<usize>, from: usize, chunk: &[u8]) -> Vec<u8> {
        let before = matched.map_or(&[][..], |index| &self.expected[index][..from]);
        [before, chunk].concat()
    }

    async fn describe(&self, path: &str, mut body: h2::RecvStream) -> Result<Bytes, Refusal> {
        self.compute.idle(self.compute.thread()?).await;
        let mut request = Vec::new();
        while let Some(Ok(chunk)) = body.data().await {
            // Releasing fails only on a stream that has ended, with small bodies.
            let _ = body.flow_control().release_capacity(chunk.len());
            request.extend_from_slice(&chunk);
        }
        let model = request.get(5..).and_then(model_name).unwrap_or("");
        let (count, answer) = match path {
            METADATA => (&self.counts.metadata, self.dims(model).map(|dims| metadata(model, &dims))),
            STATUS => (&self.counts.status, self.dims(model).map(|_| status())),
            _ => {
                add(&self.counts.unknown);
                return Err(Refusal("12", "unknown method"));
            }
        };
        add(count);
        match answer {
            Some(message) => Ok(message.framed().into()),
            None => Err(Refusal("5", "Servable not found for request")),
        }
    }
}

/// Reads traces, and takes them.
async fn sink(mut body: h2::RecvStream) -> Result<Bytes, Refusal> {
    while let Some(Ok(chunk)) = body.data().await {
        let _ = body.flow_control().release_capacity(chunk.len());
    }
    Ok(Bytes::from_static(&[0; 5]))
}

enum Arrived {
    /// No `--check` was given.
    Uncompared,
    /// The index of the expected body.
    Equal(usize),
    Other(Vec<u8>),
}

/// One Predict between its headers and its answer.
struct Running<'a> {
    all: &'a Cell<usize>,
    count: usize,
}

impl<'a> Running<'a> {
    fn enter(all: &'a Cell<usize>) -> Self {
        all.set(all.get() + 1);
        Self { all, count: all.get() }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.all.set(self.all.get() - 1);
    }
}

fn input_dims(model: &str, numbered: usize) -> Option<&'static [i64]> {
    const ROWS: &[i64] = &[-1, 128];
    match model {
        "m" | "slow" => Some(ROWS),
        "img" => Some(&[-1, 224, 224, 3]),
        _ => {
            let number: usize = model.strip_prefix('m')?.parse().ok()?;
            (number < numbered).then_some(ROWS)
        }
    }
}

fn metadata(model: &str, dims: &[i64]) -> Message {
    let signature = rows::signature(payloads::INPUT, dims, payloads::OUTPUT);
    let map = Message::new().entry(1, "serving_default", &signature);
    let any =
        Message::new().bytes(1, b"type.googleapis.com/tensorflow.serving.SignatureDefMap").bytes(2, &map.0);
    let spec = model_spec(model, Some(1));
    Message::new().bytes(1, &spec.0).entry(2, "signature_def", &any)
}

fn status() -> Message {
    const AVAILABLE: u64 = 30;
    let version = Message::new().varint(1, 1).varint(2, AVAILABLE).bytes(3, b"");
    Message::new().bytes(1, &version.0)
}
