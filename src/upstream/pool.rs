//! One thread's HTTP/2 connections to TF Serving: calls go to the first with room, another one is
//! made when none has room, and broken ones are replaced in the background.
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use http::Request;
use tokio::sync::Notify;

use super::header_list;
use super::slot::{Lease, Slot, State};
use super::target::Target;
use super::up::Up;
use crate::fault::Fault;

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

impl Pool {
    /// Starts to connect the first of `size` slots; the others wait until calls need them. Must be
    /// called where `spawn_local` works.
    pub(crate) fn start(target: Arc<Target>, size: usize, up: &Arc<Up>) -> Rc<Self> {
        let changed = Rc::new(Notify::new());
        let slot = |index| Slot::start(&target, index == 0, &changed, up);
        let slots = (0..size.max(1)).map(slot).collect();
        Rc::new(Self { target, slots, changed })
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Connections made so far in the first slot. It changes with a reconnect, after which the
    /// server may be another one.
    pub(crate) fn generation(&self) -> u64 {
        self.slots.first().map_or(0, |slot| slot.generation())
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
            let up = match &*slot.state() {
                State::Up { sender, peer } => Some((sender.clone(), peer.max_header_list.get())),
                State::Idle | State::Connecting | State::Down { .. } => None,
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
        let cause = self.slots.iter().find_map(|slot| match &*slot.state() {
            State::Down { cause } => Some(Rc::clone(cause)),
            State::Idle | State::Connecting | State::Up { .. } => None,
        });
        Attempt::Down(cause.unwrap_or_else(|| "no connection".into()))
    }

    /// The first connection with room, so that few calls share one connection, where they are read
    /// and written together. If none has room, the least loaded one, and another one is made for
    /// the calls to come.
    fn pick(&self) -> Option<&Rc<Slot>> {
        let up = || self.slots.iter().filter(|slot| slot.is_up());
        if let Some(slot) = up().find(|slot| slot.has_room()) {
            return Some(slot);
        }
        let least = up().min_by_key(|slot| slot.calls())?;
        // One at a time: calls end while it is made.
        if !self.is_connecting() {
            let _woken = self.slots.iter().any(|slot| slot.wake());
        }
        Some(least)
    }

    fn is_connecting(&self) -> bool {
        self.slots.iter().any(|slot| slot.is_connecting())
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio::sync::mpsc;

    use super::super::slot::CALLS_PER_CONNECTION;
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

    /// A server that answers nothing; a call on the channel ends its oldest connection.
    fn serve(listener: tokio::net::TcpListener) -> mpsc::Sender<()> {
        let (end, mut ended) = mpsc::channel(1);
        tokio::task::spawn_local(async move {
            let mut connections = VecDeque::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (socket, _) = accepted.unwrap();
                        let connection = tokio::task::spawn_local(async move {
                            let mut connection = h2::server::handshake(socket).await.unwrap();
                            while connection.accept().await.is_some() {}
                        });
                        connections.push_back(connection);
                    }
                    Some(()) = ended.recv() => connections.pop_front().unwrap().abort(),
                }
            }
        });
        end
    }

    async fn connections(up: &Up, count: usize) {
        while up.count() != count {
            up.changed.notified().await;
        }
    }

    async fn pool(size: usize) -> (Rc<Pool>, Arc<Up>, mpsc::Sender<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let up = Arc::new(Up::default());
        let pool = Pool::start(target(listener.local_addr().unwrap().port()), size, &up);
        let end = serve(listener);
        connections(&up, 1).await;
        (pool, up, end)
    }

    fn open(pool: &Pool, count: usize) -> Vec<Lease> {
        (0..count).map(|_| Lease::new(pool.pick().unwrap())).collect()
    }

    fn calls(pool: &Pool) -> Vec<usize> {
        pool.slots.iter().map(|slot| slot.calls()).collect()
    }

    #[test]
    fn calls_share_a_connection_until_it_has_no_room() {
        run(async {
            let (pool, up, _end) = pool(3).await;
            let mut leases = open(&pool, CALLS_PER_CONNECTION);
            assert_eq!(calls(&pool), [CALLS_PER_CONNECTION, 0, 0]);
            assert!(!pool.is_connecting(), "the first connection was enough so far");
            // Calls do not wait for the second connection.
            leases.extend(open(&pool, 2));
            assert_eq!(calls(&pool), [CALLS_PER_CONNECTION + 2, 0, 0]);
            connections(&up, 2).await;
            leases.extend(open(&pool, CALLS_PER_CONNECTION));
            assert_eq!(calls(&pool), [CALLS_PER_CONNECTION + 2, CALLS_PER_CONNECTION, 0]);
            assert!(!pool.is_connecting());
            leases.extend(open(&pool, 1));
            assert_eq!(calls(&pool), [CALLS_PER_CONNECTION + 2, CALLS_PER_CONNECTION + 1, 0]);
            connections(&up, 3).await;
            leases.extend(open(&pool, CALLS_PER_CONNECTION + 8));
            assert_eq!(
                calls(&pool),
                [CALLS_PER_CONNECTION + 4, CALLS_PER_CONNECTION + 4, CALLS_PER_CONNECTION + 3]
            );
            drop(leases);
            assert_eq!(calls(&pool), [0, 0, 0]);
        });
    }

    #[test]
    fn a_further_connection_that_ended_is_made_again_when_calls_need_it() {
        run(async {
            let (pool, up, end) = pool(2).await;
            let leases = open(&pool, CALLS_PER_CONNECTION + 1);
            connections(&up, 2).await;
            // The first one is made again at once, although no call needs it.
            let before = pool.generation();
            end.send(()).await.unwrap();
            while pool.generation() == before {
                up.changed.notified().await;
            }
            connections(&up, 2).await;
            end.send(()).await.unwrap();
            connections(&up, 1).await;
            assert!(!pool.is_connecting(), "no call needs a second one");
            let more = open(&pool, 1);
            connections(&up, 2).await;
            drop((leases, more));
        });
    }
}
