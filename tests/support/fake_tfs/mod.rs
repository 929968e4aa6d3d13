//! A fake TensorFlow Serving in this process: real HTTP/2, TensorFlow Serving's checks and texts,
//! scripted answers, and a record of every call.
//!
//! It runs on its own thread, so a test may block. Dropping it stops it.
mod address;
pub mod answer;
mod call;
mod handler;
mod load;
mod measured;
pub mod model;
pub mod script;
mod server;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::address::Address;
use self::answer::Models;
#[allow(unused_imports, reason = "the demo uses a part of this module")]
pub use self::call::{Call, End};
#[allow(unused_imports, reason = "the demo uses a part of this module")]
pub use self::load::Load;
use self::model::Model;
pub use self::script::{Act, Gate};
use super::within;

/// How a fake server differs from the default.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Listens on this Unix socket instead of a TCP port.
    pub unix: Option<PathBuf>,
    /// More concurrent calls than this are refused with `Server Threadpool Exhausted`.
    pub max_threads: Option<usize>,
    /// Refuses and delays calls as a real server does under load. Its calls are not recorded.
    pub load: Option<Load>,
    /// Sent with every answer.
    pub initial_metadata: Vec<(String, String)>,
    pub trailing_metadata: Vec<(String, String)>,
    /// Methods that send each message back as soon as it arrives, to test streams.
    pub echoes: Vec<String>,
    /// Listens on this port of 127.0.0.1 instead of a free one.
    pub port: Option<u16>,
    /// Keeps no record of calls, for runs of many minutes.
    pub forgets: bool,
    /// How long Predict calls of these models take.
    pub delays: BTreeMap<String, Duration>,
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`; `None` for the default of `h2`.
    pub max_concurrent_streams: Option<u32>,
    /// `SETTINGS_MAX_HEADER_LIST_SIZE`; `None` for 64 KiB.
    pub max_header_list_size: Option<u32>,
}

#[derive(Debug)]
pub struct FakeTfs {
    shared: Arc<Shared>,
    address: Address,
    addr: String,
    running: Option<Running>,
}

/// The state that the tests and the server's thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) models: Mutex<Models>,
    pub(crate) script: Mutex<Vec<script::Entry>>,
    pub(crate) calls: watch::Sender<Vec<Call>>,
    pub(crate) connections: watch::Sender<Connections>,
    pub(crate) goaway: watch::Sender<u64>,
    pub(crate) random: AtomicU64,
    /// Calls in progress.
    pub(crate) busy: AtomicUsize,
    /// The highest number of calls in progress; more are refused.
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

    /// Reserves an address, but does not listen until `restart`.
    pub fn absent(options: Options, models: impl IntoIterator<Item = Model>) -> Self {
        let port = options.port.unwrap_or(0);
        let address = options.unix.clone().map_or_else(|| Address::tcp(port), Address::Unix);
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
            random: AtomicU64::new(1),
            busy: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared), addr: address.to_string(), address, running: None }
    }

    /// As `--upstream` takes it.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Closes the port and all connections at once, as a crash does.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop.cancel();
            running.thread.join().expect("the server's thread must not panic");
        }
        self.address.clean_up();
    }

    /// Starts or restarts on the same address; calls and models are kept.
    pub fn restart(&mut self) {
        self.stop();
        let listener = self.address.listen();
        let stop = CancellationToken::new();
        let (shared, stopped) = (self.shared.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("fake-tfs".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                // Dropping the runtime drops the tasks of all connections, and so closes their
                // sockets.
                runtime.block_on(server::run(listener, shared, stopped));
            })
            .unwrap();
        self.running = Some(Running { stop, thread });
    }

    /// Changes the number of threads.
    pub fn threads(&self, number: usize) {
        self.shared.threads.store(number, Ordering::Relaxed);
    }

    /// Ends every open connection gracefully.
    pub fn goaway(&self) {
        self.shared.goaway.send_modify(|count| *count += 1);
    }

    /// Does `act` for the next `times` calls of `path`, after the entries that are already there.
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

    /// Changes the served models, for example to add a version or move a label.
    pub fn change(&self, change: impl FnOnce(&mut Models)) {
        change(&mut self.shared.models.lock().unwrap());
    }

    /// Adds a model, or replaces the one with the same name.
    pub fn serve(&self, model: Model) {
        self.change(|models| drop(models.insert(model.name.clone(), model)));
    }

    /// All calls so far, in the order in which their bodies ended, completely or not.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.borrow().clone()
    }

    pub fn calls_of(&self, path: &str) -> Vec<Call> {
        self.shared.calls.borrow().iter().filter(|call| call.path == path).cloned().collect()
    }

    pub fn count(&self, path: &str) -> usize {
        self.shared.calls.borrow().iter().filter(|call| call.path == path).count()
    }

    /// The only call of `path`; panics if there is not exactly one.
    pub fn only(&self, path: &str) -> Call {
        let calls = self.calls_of(path);
        assert_eq!(calls.len(), 1, "calls of {path}");
        calls.into_iter().next().unwrap()
    }

    /// Waits until the calls so far satisfy `condition`.
    pub async fn until(&self, what: &str, mut condition: impl FnMut(&[Call]) -> bool) -> Vec<Call> {
        let mut calls = self.shared.calls.subscribe();
        let found = within(what, calls.wait_for(|calls| condition(calls))).await;
        found.expect("the sender lives as long as the server").clone()
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
        *within(what, connections.wait_for(condition)).await.expect("the sender lives as long as the server")
    }
}

impl Drop for FakeTfs {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Waiting for a thread that may hang would hide the message of the failed test.
            if let Some(running) = self.running.take() {
                running.stop.cancel();
            }
        } else {
            self.stop();
        }
    }
}
