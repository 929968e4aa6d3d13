//! A stand-in for TensorFlow Serving in this process: real HTTP/2, its checks and texts, every call
//! recorded, answers scripted.
//!
//! It runs on a thread of its own, so a test may block, and is stopped when it is dropped.
pub mod answer;
pub mod model;
pub mod script;
pub(super) mod serve;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use http::HeaderMap;
use prost::bytes::Bytes;
use socket2::{Domain, Socket, Type};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::answer::Models;
use self::model::Model;
pub use self::script::{Act, Gate};
use super::within;

/// A call as it arrived, and what became of it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Counts the connections that were accepted, from 0.
    pub connection: usize,
    pub path: String,
    pub headers: HeaderMap,
    /// The whole body as it came: length prefixes included, compressed if it was.
    pub body: Bytes,
    /// The first message, decompressed; empty while there is none.
    pub message: Bytes,
    /// Whether the first message's flag said compressed.
    pub compressed: bool,
    pub end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Open,
    /// Answered with this gRPC code.
    Answered(i32),
    /// The caller reset the stream (or the connection ended, which has no reason).
    Cancelled(Option<h2::Reason>),
    /// A script reset the stream or closed the connection.
    Dropped,
}

/// What a stand-in may be told before it starts.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Listens on this Unix socket instead of a TCP port.
    pub unix: Option<PathBuf>,
    /// More calls at a time than this are refused: `Server Threadpool Exhausted`.
    pub max_threads: Option<usize>,
    /// Sent with every answer.
    pub initial_metadata: Vec<(String, String)>,
    pub trailing_metadata: Vec<(String, String)>,
    /// Paths that send each message back as it comes, to test streams.
    pub echoes: Vec<String>,
    /// HTTP/2 settings; `None` = the crate's own.
    pub max_concurrent_streams: Option<u32>,
}

#[derive(Debug)]
pub struct FakeTfs {
    shared: Arc<Shared>,
    addr: String,
    place: Place,
    running: Option<Running>,
}

/// What the tests and the serving thread both see.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) models: Mutex<Models>,
    pub(crate) script: Mutex<Vec<script::Entry>>,
    pub(crate) calls: watch::Sender<Vec<Call>>,
    pub(crate) connections: watch::Sender<Connections>,
    pub(crate) goaway: watch::Sender<u64>,
    /// Calls being served.
    pub(crate) busy: AtomicUsize,
    /// More are refused.
    pub(crate) threads: AtomicUsize,
}

/// How many connections were accepted so far, and how many are open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connections {
    pub accepted: usize,
    pub open: usize,
}

#[derive(Debug)]
struct Running {
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
enum Place {
    /// The socket is bound and never listens: it keeps the port ours while the stand-in is stopped.
    Tcp(SocketAddr, #[expect(dead_code, reason = "held for its port")] Socket),
    Unix(PathBuf),
}

pub(crate) enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl FakeTfs {
    /// Serves `models` on a free port of 127.0.0.1.
    pub fn start(models: impl IntoIterator<Item = Model>) -> Self {
        Self::start_with(Options::default(), models)
    }

    pub fn start_with(options: Options, models: impl IntoIterator<Item = Model>) -> Self {
        let mut fake = Self::absent(options, models);
        fake.restart();
        fake
    }

    /// Has an address, but nobody listens until `restart`.
    pub fn absent(options: Options, models: impl IntoIterator<Item = Model>) -> Self {
        let (addr, place) = match &options.unix {
            Some(path) => (format!("unix://{}", path.display()), Place::Unix(path.clone())),
            None => {
                let holder = bound(SocketAddr::from(([127, 0, 0, 1], 0)));
                let addr = holder.local_addr().unwrap().as_socket().expect("bound to an IP address");
                (addr.to_string(), Place::Tcp(addr, holder))
            }
        };
        let models = models.into_iter().map(|model| (model.name.clone(), model)).collect();
        let threads = AtomicUsize::new(options.max_threads.unwrap_or(usize::MAX));
        let shared = Shared {
            threads,
            options,
            models: Mutex::new(models),
            script: Mutex::default(),
            calls: watch::Sender::default(),
            connections: watch::Sender::default(),
            goaway: watch::Sender::default(),
            busy: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared), addr, place, running: None }
    }

    /// As `--upstream` takes it.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Closes the port and every connection at once, as a crash does.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop.cancel();
            running.thread.join().expect("the stand-in's thread must not panic");
        }
        if let Place::Unix(path) = &self.place {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Listens (again) on the same address; calls and models are kept.
    pub fn restart(&mut self) {
        self.stop();
        let door = match &self.place {
            Place::Tcp(addr, _) => {
                let socket = bound(*addr);
                socket.listen(1024).unwrap();
                socket.set_nonblocking(true).unwrap();
                Door::Tcp(socket.into())
            }
            Place::Unix(path) => {
                let listener = UnixListener::bind(path).unwrap();
                listener.set_nonblocking(true).unwrap();
                Door::Unix(listener)
            }
        };
        let stop = CancellationToken::new();
        let (shared, stopped) = (self.shared.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("fake-tfs".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                // Dropping the runtime drops every connection's task, and with it its socket.
                runtime.block_on(serve::run(door, shared, stopped));
            })
            .unwrap();
        self.running = Some(Running { stop, thread });
    }

    /// Has another number of threads from now on.
    pub fn threads(&self, most: usize) {
        self.shared.threads.store(most, Ordering::Relaxed);
    }

    /// Asks every open connection to end gracefully.
    pub fn goaway(&self) {
        self.shared.goaway.send_modify(|count| *count += 1);
    }

    /// Lets `act` happen to the next `times` calls of `path`; earlier entries come first.
    pub fn script(&self, path: &str, times: usize, act: Act) {
        let entry = script::Entry { path: Some(path.to_owned()), times, act };
        self.shared.script.lock().unwrap().push(entry);
    }

    /// Holds back the next `times` answers of `path` until the gate opens.
    pub fn hold(&self, path: &str, times: usize) -> Gate {
        let gate = Gate::new();
        self.script(path, times, Act::Hold(gate.clone()));
        gate
    }

    pub fn refuse(&self, path: &str, times: usize, code: i32, text: &str) {
        self.script(path, times, Act::Status { code, text: text.to_owned() });
    }

    /// Changes the models that are served: a new version, a moved label.
    pub fn change(&self, change: impl FnOnce(&mut Models)) {
        change(&mut self.shared.models.lock().unwrap());
    }

    /// Adds a model or replaces the one of its name.
    pub fn serve(&self, model: Model) {
        self.change(|models| drop(models.insert(model.name.clone(), model)));
    }

    /// Every call so far, in the order in which their bodies were complete or broke off.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.borrow().clone()
    }

    pub fn calls_of(&self, path: &str) -> Vec<Call> {
        self.shared.calls.borrow().iter().filter(|call| call.path == path).cloned().collect()
    }

    pub fn count(&self, path: &str) -> usize {
        self.shared.calls.borrow().iter().filter(|call| call.path == path).count()
    }

    /// The one call of `path`; panics when there were none or several.
    pub fn only(&self, path: &str) -> Call {
        let calls = self.calls_of(path);
        assert_eq!(calls.len(), 1, "calls of {path}");
        calls.into_iter().next().unwrap()
    }

    /// Waits until the calls so far satisfy `condition`.
    pub async fn until(&self, what: &str, mut condition: impl FnMut(&[Call]) -> bool) -> Vec<Call> {
        let mut calls = self.shared.calls.subscribe();
        let found = within(what, calls.wait_for(|calls| condition(calls))).await;
        found.expect("the sender lives as long as the stand-in").clone()
    }

    /// Waits for the `n`th call of `path`.
    pub async fn called(&self, path: &str, n: usize) -> Vec<Call> {
        let of = |calls: &[Call]| calls.iter().filter(|call| call.path == path).count();
        let what = format!("call {n} of {path}");
        self.until(&what, |calls| of(calls) >= n).await.into_iter().filter(|call| call.path == path).collect()
    }

    pub fn connections(&self) -> Connections {
        *self.shared.connections.borrow()
    }

    /// Waits until the connections satisfy `condition`.
    pub async fn until_connections(
        &self,
        what: &str,
        condition: impl FnMut(&Connections) -> bool,
    ) -> Connections {
        let mut connections = self.shared.connections.subscribe();
        *within(what, connections.wait_for(condition))
            .await
            .expect("the sender lives as long as the stand-in")
    }
}

impl Drop for FakeTfs {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test's own message is the one to read: do not wait for a thread that may hang.
            if let Some(running) = self.running.take() {
                running.stop.cancel();
            }
        } else {
            self.stop();
        }
    }
}

fn bound(addr: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&addr.into()).unwrap();
    socket
}
