//! One thread's HTTP/2 connections to TF Serving: calls go to the first with room, and broken
//! connections are replaced in the background.
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use http::Request;
use tokio::sync::Notify;

use super::dial_error::DialError;
use super::target::{Connected, Connection, Sender, Target};
use super::up::Up;
use super::{hang, header_list};
use crate::fault::Fault;
use crate::retry::backoff::Backoff;
use crate::tasks;
use crate::telemetry::metrics::UpstreamConnection;
use crate::transport::frames::Peer;

/// A gRPC server works on one connection with one thread at a time, apart from the calls
/// themselves. With more calls than this, that thread is the limit rather than ours.
const CALLS_PER_CONNECTION: usize = 32;
/// Why calls on a connection end that is given up.
const HUNG: &str = "the server stopped answering, even PINGs";
/// Connections that end sooner than this count as failures: the next attempts wait.
const SHORT_LIFE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Pool {
    target: Arc<Target>,
    slots: Vec<Rc<Slot>>,
    changed: Rc<Notify>,
}

/// A call that was opened on a connection; `lease` counts it until it is dropped.
#[derive(Debug)]
pub(crate) struct Opened {
    pub response: ResponseFuture,
    pub body: SendStream<Bytes>,
    pub lease: Lease,
}

/// Counts one call on one connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease(Rc<Slot>);

#[derive(Debug)]
struct Slot {
    target: Arc<Target>,
    state: RefCell<State>,
    calls: Cell<usize>,
    /// Calls at a time before another connection is used.
    room: Cell<usize>,
    /// Notified when the connection takes no more calls (GOAWAY), while old ones may still finish.
    retire: Notify,
    retired: Cell<bool>,
    /// The server stopped answering on the last connection, which was given up.
    hung: Cell<bool>,
    /// Connections made so far.
    generation: Cell<u64>,
}

#[derive(Debug)]
enum State {
    Connecting,
    Up { sender: Sender, peer: Rc<Peer> },
    Down { cause: Rc<str> },
}

impl Pool {
    /// Starts to connect. Must be called where `spawn_local` works.
    pub(crate) fn start(target: Arc<Target>, size: usize, up: &Arc<Up>) -> Rc<Self> {
        let changed = Rc::new(Notify::new());
        let slots: Vec<Rc<Slot>> = (0..size.max(1)).map(|_| Rc::new(Slot::new(&target))).collect();
        for (index, slot) in slots.iter().enumerate() {
            let seed = std::process::id() as u64 ^ (Rc::as_ptr(slot) as u64).rotate_left(17) ^ index as u64;
            let driver = Driver {
                slot: Rc::clone(slot),
                target: Arc::clone(&target),
                changed: Rc::clone(&changed),
                up: Arc::clone(up),
            };
            tasks::spawn_critical("upstream", driver.run(Backoff::new(seed)));
        }
        Rc::new(Self { target, slots, changed })
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Connections made so far in the first slot. It changes with a reconnect, after which the
    /// server may be another one.
    pub(crate) fn generation(&self) -> u64 {
        self.slots.first().map_or(0, |slot| slot.generation.get())
    }

    /// Opens a call on the first connection that has room. Waits only while a connection attempt is
    /// under way. A connection that takes no more calls is skipped.
    ///
    /// # Errors
    /// No connection could be made, the request cannot be expressed in HTTP/2, or its metadata is
    /// larger than the server accepts.
    pub(crate) async fn open(&self, request: &Request<()>, end: bool) -> Result<Opened, Fault> {
        let mut refusals = 0;
        loop {
            match self.try_open(request, end, &mut refusals) {
                Attempt::Open(opened) => return Ok(opened),
                Attempt::Down(cause) => return Err(self.unavailable(&cause)),
                Attempt::TooLarge { size, limit } => {
                    return Err(Fault::MetadataTooLarge { size, limit });
                }
                Attempt::Invalid(error) => return Err(Fault::Internal { problem: error.to_string() }),
                Attempt::Wait => {
                    let mut changed = std::pin::pin!(self.changed.notified());
                    // Enabled before the states are read again, so that no change is missed.
                    changed.as_mut().enable();
                    if !self.is_connecting() {
                        continue;
                    }
                    changed.await;
                }
            }
        }
    }

    fn try_open(&self, request: &Request<()>, end: bool, refusals: &mut usize) -> Attempt {
        // Each failure retires a connection, so this ends.
        while let Some(slot) = self.pick() {
            let up = match &*slot.state.borrow() {
                State::Up { sender, peer } => Some((sender.clone(), peer.max_header_list.get())),
                State::Connecting | State::Down { .. } => None,
            };
            let Some((mut sender, limit)) = up else { break };
            if limit != u32::MAX {
                // gRPC's server would refuse it too, but ends other calls of the connection with
                // it.
                let size = header_list::size(request);
                if size > limit as usize {
                    return Attempt::TooLarge { size, limit };
                }
            }
            match sender.send_request(request.clone(), end) {
                Ok((response, body)) => {
                    return Attempt::Open(Opened { response, body, lease: Lease::new(slot) });
                }
                Err(error) => {
                    slot.retire();
                    // The connection may have used up its stream IDs, so another one is tried. If
                    // that refuses the request too, it cannot be expressed in HTTP/2.
                    if !error.is_io() && !error.is_go_away() {
                        *refusals += 1;
                        if *refusals > 1 {
                            return Attempt::Invalid(error);
                        }
                    }
                }
            }
        }
        if self.is_connecting() {
            return Attempt::Wait;
        }
        let cause = self.slots.iter().find_map(|slot| match &*slot.state.borrow() {
            State::Down { cause } => Some(Rc::clone(cause)),
            State::Connecting | State::Up { .. } => None,
        });
        Attempt::Down(cause.unwrap_or_else(|| "no connection".into()))
    }

    /// The first connection with room, so that few calls share one connection, where they are read
    /// and written together; the least loaded one if none has room.
    fn pick(&self) -> Option<&Rc<Slot>> {
        let up = || self.slots.iter().filter(|slot| slot.is_up());
        let with_room = up().find(|slot| slot.calls.get() < slot.room.get());
        with_room.or_else(|| up().min_by_key(|slot| slot.calls.get()))
    }

    fn is_connecting(&self) -> bool {
        self.slots.iter().any(|slot| matches!(*slot.state.borrow(), State::Connecting))
    }

    fn unavailable(&self, cause: &str) -> Fault {
        Fault::UpstreamUnavailable { address: self.target.address.clone(), cause: cause.to_string() }
    }
}

enum Attempt {
    Open(Opened),
    Wait,
    Down(Rc<str>),
    TooLarge { size: usize, limit: u32 },
    Invalid(h2::Error),
}

impl Lease {
    fn new(slot: &Rc<Slot>) -> Self {
        slot.calls.set(slot.calls.get() + 1);
        Self(Rc::clone(slot))
    }

    /// What an HTTP/2 error on the call means for the request that waits for it.
    pub(crate) fn fault(&self, error: &h2::Error) -> Fault {
        let target = &self.0.target;
        // A remote GOAWAY ends only calls that the server did not process.
        if error.is_reset() || (error.is_remote() && error.is_go_away()) {
            return target.fault(error);
        }
        let hung = self.0.hung.get() && error.is_io();
        let cause = if hung { HUNG.to_owned() } else { error.to_string() };
        Fault::UpstreamLost { address: target.address.clone(), cause }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.calls.set(self.0.calls.get().saturating_sub(1));
    }
}

impl Slot {
    fn new(target: &Arc<Target>) -> Self {
        Self {
            target: Arc::clone(target),
            state: RefCell::new(State::Connecting),
            calls: Cell::new(0),
            room: Cell::new(CALLS_PER_CONNECTION),
            retire: Notify::new(),
            retired: Cell::new(false),
            hung: Cell::new(false),
            generation: Cell::new(0),
        }
    }

    fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up { .. })
    }

    fn set(&self, state: State) {
        *self.state.borrow_mut() = state;
    }

    /// Takes no new calls on this connection; the driver replaces it at once.
    fn retire(&self) {
        self.set(State::Connecting);
        self.retired.set(true);
        self.retire.notify_one();
    }
}

/// Keeps one slot connected, forever.
struct Driver {
    slot: Rc<Slot>,
    target: Arc<Target>,
    changed: Rc<Notify>,
    up: Arc<Up>,
}

impl Driver {
    async fn run(self, mut backoff: Backoff) {
        let mut short_lives = 0;
        loop {
            self.set(State::Connecting);
            match self.target.connect().await {
                Ok(Connected { sender, connection, peer, pings }) => {
                    let since = tokio::time::Instant::now();
                    self.slot.generation.set(self.slot.generation.get() + 1);
                    self.slot.retired.set(false);
                    self.slot.hung.set(false);
                    self.up.connected(&self.target.address);
                    let counted = UpstreamConnection::new();
                    let most = sender.current_max_send_streams();
                    self.slot.room.set(most.min(CALLS_PER_CONNECTION));
                    let suspicions = self.up.suspicions();
                    self.set(State::Up { sender, peer: Rc::clone(&peer) });
                    let hung = Box::pin(async move { hang::hung(pings, &peer, suspicions).await });
                    let cause = self.drive(connection, hung).await;
                    drop(counted);
                    self.up.disconnected();
                    tracing::info!(upstream = %self.target.address, %cause, "connection to the upstream ended");
                    // Calls wait meanwhile, since the server was reachable. Only repeated short
                    // lives delay the next attempt.
                    self.set(State::Connecting);
                    if since.elapsed() >= SHORT_LIFE {
                        backoff.reset();
                        short_lives = 0;
                    }
                    short_lives += 1;
                    if short_lives == 1 {
                        continue;
                    }
                }
                Err(error) => self.failed(&error),
            }
            tokio::time::sleep(backoff.wait()).await;
        }
    }

    /// Drives the connection until it ends or takes no more calls; in the latter case its calls
    /// finish in the background. Returns the reason.
    async fn drive(
        &self,
        mut connection: Connection,
        mut hung: impl Future<Output = ()> + Unpin + 'static,
    ) -> String {
        loop {
            tokio::select! {
                biased;
                ended = &mut connection => return match ended {
                    Ok(()) => "closed by the server".into(),
                    Err(error) => error.to_string(),
                },
                () = &mut hung => {
                    self.slot.hung.set(true);
                    self.up.hung(&self.target.address);
                    return HUNG.into();
                }
                () = self.slot.retire.notified() => {
                    // The notification may be left over from an earlier connection.
                    if self.slot.retired.get() {
                        tasks::spawn_critical("upstream", async move {
                            tokio::select! {
                                _ = connection => {}
                                () = hung => {}
                            }
                        });
                        return "the server accepts no more calls on it".into();
                    }
                }
            }
        }
    }

    fn failed(&self, error: &DialError) {
        tracing::debug!(upstream = %self.target.address, %error, "cannot connect to the upstream");
        self.up.not_connected(&self.target.address, error);
        self.set(State::Down { cause: error.to_string().into() });
    }

    fn set(&self, state: State) {
        self.slot.set(state);
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, UpstreamAddr};

    fn target(port: u16) -> Arc<Target> {
        let upstream = UpstreamAddr::Tcp { host: "127.0.0.1".into(), port };
        Arc::new(Target::new(&Config { upstream, ..Config::default() }).unwrap())
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test)
    }

    #[test]
    fn the_fault_of_an_unreachable_upstream_names_its_address() {
        run(async {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let pool = Pool::start(target(port), 2, &Arc::default());
            let request = Request::post(pool.target().uri("/x/y".parse().unwrap())).body(()).unwrap();
            let fault = pool.open(&request, true).await.unwrap_err();
            assert!(
                matches!(&fault, Fault::UpstreamUnavailable { address, .. } if *address == format!("127.0.0.1:{port}")),
                "{fault}"
            );
        });
    }

    #[test]
    fn calls_share_a_connection_until_it_has_no_room() {
        run(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let up = Arc::new(Up::default());
            let pool = Pool::start(target(listener.local_addr().unwrap().port()), 2, &up);
            for _ in 0..2 {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::task::spawn_local(async move {
                    let mut connection = h2::server::handshake(socket).await.unwrap();
                    while connection.accept().await.is_some() {}
                });
            }
            while up.count() < 2 {
                up.changed.notified().await;
            }
            let mut leases = Vec::new();
            let mut open = |count: usize| {
                leases.extend((0..count).map(|_| Lease::new(pool.pick().unwrap())));
                pool.slots.iter().map(|slot| slot.calls.get()).collect::<Vec<_>>()
            };
            assert_eq!(open(CALLS_PER_CONNECTION), [CALLS_PER_CONNECTION, 0]);
            assert_eq!(open(1), [CALLS_PER_CONNECTION, 1]);
            assert_eq!(open(CALLS_PER_CONNECTION + 9), [CALLS_PER_CONNECTION + 5; 2]);
            drop(leases);
            assert_eq!(pool.slots[0].calls.get(), 0);
        });
    }
}
