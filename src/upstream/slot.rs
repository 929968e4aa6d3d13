//! One connection of a pool: its state, the calls that it carries, and the task that makes it and
//! makes it again.
use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::dial_error::DialError;
use super::hang;
use super::target::{Connected, Connection, Sender, Target};
use super::up::Up;
use crate::fault::Fault;
use crate::retry::backoff::Backoff;
use crate::tasks;
use crate::telemetry::metrics::UpstreamConnection;
use crate::transport::frames::Peer;

/// A gRPC server works on one connection with one thread at a time, apart from the calls
/// themselves. With more calls than this, that thread is the limit rather than ours.
pub(super) const CALLS_PER_CONNECTION: usize = 64;
/// Why calls on a connection end that is given up.
const HUNG: &str = "the server stopped answering, even PINGs";
/// Connections that end sooner than this count as failures: the next attempts wait.
const SHORT_LIFE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Slot {
    target: Arc<Target>,
    state: RefCell<State>,
    calls: Cell<usize>,
    /// Calls at a time before another connection is used.
    room: Cell<usize>,
    /// Notified when an idle slot is to connect.
    wanted: Notify,
    /// Notified when the connection takes no more calls (GOAWAY), while old ones may still finish.
    retire: Notify,
    retired: Cell<bool>,
    /// The server stopped answering on the last connection, which was given up.
    hung: Cell<bool>,
    /// Connections made so far.
    generation: Cell<u64>,
}

#[derive(Debug)]
pub(super) enum State {
    /// No call needed it so far, or since its last connection ended.
    Idle,
    Connecting,
    Up {
        sender: Sender,
        peer: Rc<Peer>,
    },
    Down {
        cause: Rc<str>,
    },
}

/// Counts one call on one connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease(Rc<Slot>);

impl Lease {
    pub(super) fn new(slot: &Rc<Slot>) -> Self {
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
    /// A slot that connects at once and again by itself if it is `always` connected, else when
    /// calls need it. Must be called where `spawn_local` works.
    pub(super) fn start(target: &Arc<Target>, always: bool, changed: &Rc<Notify>, up: &Arc<Up>) -> Rc<Self> {
        let slot = Rc::new(Self {
            target: Arc::clone(target),
            state: RefCell::new(if always { State::Connecting } else { State::Idle }),
            calls: Cell::new(0),
            room: Cell::new(CALLS_PER_CONNECTION),
            wanted: Notify::new(),
            retire: Notify::new(),
            retired: Cell::new(false),
            hung: Cell::new(false),
            generation: Cell::new(0),
        });
        let seed = std::process::id() as u64 ^ (Rc::as_ptr(&slot) as u64).rotate_left(17);
        let driver = Driver {
            slot: Rc::clone(&slot),
            always,
            target: Arc::clone(target),
            changed: Rc::clone(changed),
            up: Arc::clone(up),
        };
        tasks::spawn_critical("upstream", driver.run(Backoff::new(seed)));
        slot
    }

    pub(super) fn state(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    /// Calls that run on the connection.
    pub(super) fn calls(&self) -> usize {
        self.calls.get()
    }

    pub(super) fn has_room(&self) -> bool {
        self.calls.get() < self.room.get()
    }

    /// Connections made so far.
    pub(super) fn generation(&self) -> u64 {
        self.generation.get()
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up { .. })
    }

    pub(super) fn is_connecting(&self) -> bool {
        matches!(*self.state.borrow(), State::Connecting)
    }

    /// Starts to connect if the slot is idle, and says whether it was.
    pub(super) fn wake(&self) -> bool {
        let idle = matches!(*self.state.borrow(), State::Idle);
        if idle {
            self.set(State::Connecting);
            self.wanted.notify_one();
        }
        idle
    }

    fn set(&self, state: State) {
        *self.state.borrow_mut() = state;
    }

    /// Takes no new calls on this connection; the driver replaces it, if calls need that.
    pub(super) fn retire(&self) {
        self.set(State::Connecting);
        self.retired.set(true);
        self.retire.notify_one();
    }
}

/// Keeps one slot connected, forever or as long as calls need it.
struct Driver {
    slot: Rc<Slot>,
    /// Connects again by itself. Other slots wait for calls first.
    always: bool,
    target: Arc<Target>,
    changed: Rc<Notify>,
    up: Arc<Up>,
}

impl Driver {
    async fn run(self, mut backoff: Backoff) {
        let mut short_lives = 0;
        loop {
            if !self.always {
                self.slot.wanted.notified().await;
            }
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
                    self.set(if self.always { State::Connecting } else { State::Idle });
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
            if !self.always && !self.slot.is_connecting() {
                self.set(State::Idle);
            }
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
