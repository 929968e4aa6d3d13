//! A shard thread: serves the connections that the control thread hands to it. Tasks never leave
//! the thread.
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::cache::Cache;
use tokio::sync::{Notify, mpsc};

use super::Shared;
use super::liveness::PingReceiver;
use crate::census::Recently;
use crate::listener::bind::Accepted;
use crate::listener::{grpc, rest};
use crate::pipeline::offload::Offload;
use crate::pipeline::{Identities, Shard, batch};
use crate::tasks::{spawn_critical, spawn_isolated};
use crate::telemetry::metrics::{ConnectionLimit, Door, PanickedTask};
use crate::telemetry::traces::{TraceSender, Tracer};
use crate::transport::peer::Peer;
use crate::transport::socket::Socket;
use crate::upstream::pool::Pool;

/// The number of open client connections of one shard.
#[derive(Debug, Default)]
pub(super) struct Live {
    connections: AtomicUsize,
}

/// One connection, counted until dropped.
pub(super) struct Counted {
    live: Arc<Live>,
    ended: Arc<Notify>,
}

impl Live {
    pub(super) fn count(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection. The control thread calls this before it picks the next shard.
    pub(super) fn add(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one less: the shard did not take the connection, or it has ended.
    pub(super) fn remove(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counted {
    /// Of a connection that was added already.
    pub(super) fn of(live: &Arc<Live>, ended: &Arc<Notify>) -> Self {
        Self { live: Arc::clone(live), ended: Arc::clone(ended) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.live.remove();
        self.ended.notify_waiters();
    }
}

/// Runs until the sidecar stops.
pub(super) async fn run(
    shared: Arc<Shared>,
    live: Arc<Live>,
    mut accepted: mpsc::Receiver<(Door, Accepted)>,
    pings: PingReceiver,
    traces: Option<TraceSender>,
) {
    spawn_critical("liveness", pings.answer());
    let pool = Pool::start(Arc::clone(&shared.target), shared.config.load().upstream_connections, &shared.up);
    let limiter = shared.limiter.as_ref().map(|limiter| {
        let (handle, grants) = limiter.shard_handle();
        spawn_critical("grants", grants.deliver());
        handle
    });
    let (runs, reserved) = shared.handover.handle();
    let shard = Rc::new(Shard {
        config: std::cell::RefCell::new(Cache::new(Arc::clone(&shared.config))),
        pool,
        catalog: Arc::clone(&shared.catalog),
        refresher: shared.refresher.clone(),
        limiter,
        runs,
        own: shared.own.clone(),
        offload: Offload::default(),
        retry_budget: std::cell::RefCell::default(),
        drain: shared.drain.clone(),
        identities: Identities::default(),
        tracer: traces.map(|to| Rc::new(Tracer::new(to))),
        clients: Arc::clone(&shared.clients),
        mistakes: Arc::clone(&shared.mistakes),
        census: Arc::clone(&shared.census),
        recently: Recently::default(),
        preprocessing: Arc::clone(&shared.preprocessing),
        sample: std::cell::RefCell::default(),
        recent: Arc::clone(&shared.recent),
        unknown_models: Arc::clone(&shared.unknown_models),
        events: Arc::clone(&shared.events),
        requests: std::cell::Cell::new(0),
    });
    let of_runs = Rc::clone(&shard);
    spawn_critical("runs", async move {
        let make =
            |run| drop(spawn_isolated(PanickedTask::Run, Box::pin(batch::make(Rc::clone(&of_runs), run))));
        let confirm = |of| {
            drop(spawn_isolated(PanickedTask::Run, Box::pin(batch::confirm(Rc::clone(&of_runs), of))));
        };
        reserved.serve(make, confirm).await;
    });
    let of_drain = Rc::clone(&shard);
    spawn_critical("drain of runs", async move {
        loop {
            of_drain.drain.begun().await;
            of_drain.set_draining(true);
            of_drain.drain.taken_back().await;
            of_drain.set_draining(false);
        }
    });
    let rest_upstream = shared.config.load().rest_upstream.as_ref().and_then(rest::Upstream::new);
    let mut stopped = shared.stop.subscribe();
    loop {
        let connection = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => return,
            connection = accepted.recv() => connection,
        };
        let Some((door, connection)) = connection else {
            // The listener is closed. Open connections are served until the stop.
            stopped.wait_for(|stop| *stop).await.ok();
            return;
        };
        let counted = Counted::of(&live, &shared.ended);
        let (shard, shared) = (Rc::clone(&shard), Arc::clone(&shared));
        let rest_upstream = rest_upstream.clone();
        let connection = async move {
            let _counted = counted;
            let (socket, peer) = match connection.into_socket() {
                Ok(socket) => socket,
                Err(error) => return tracing::debug!(%error, "a client connection closed at once"),
            };
            match secure(&shared, door, socket, peer.clone()).await {
                Ok((socket, peer)) => match shared.admission.connect(&peer) {
                    Some(connected) => {
                        let share = Arc::clone(&connected.0);
                        match door {
                            Door::Grpc => grpc::serve(shard, shared.local.clone(), socket, share).await,
                            // Boxed: gRPC connections need not be as large.
                            Door::Rest => Box::pin(rest::serve(shard, socket, share, rest_upstream)).await,
                        }
                    }
                    None => shared.connections.refused(ConnectionLimit::Peer),
                },
                #[cfg(feature = "tls")]
                Err(error) if crate::transport::tls::is_plain_text(&error) => {
                    grpc::wrong_protocol(&peer, &"the client does not speak TLS, but this port does");
                }
                Err(error) => tracing::debug!(%peer, %error, "TLS handshake failed"),
            }
        };
        spawn_isolated(PanickedTask::Connection, Box::pin(connection));
    }
}

/// Performs the TLS handshake, if TLS is configured. The certificate names the peer.
#[cfg(feature = "tls")]
async fn secure(shared: &Shared, door: Door, socket: Socket, peer: Peer) -> std::io::Result<(Socket, Peer)> {
    let Some(acceptors) = shared.acceptor.load_full() else { return Ok((socket, peer)) };
    let Socket::Tcp(stream) = socket else {
        // A Unix socket is protected by file permissions.
        return Ok((socket, peer));
    };
    let within = shared.config.load().limits.handshake_timeout;
    let stream = tokio::time::timeout(within, acceptors.of(door).accept(stream)).await??;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let peer = match certificate {
        Some(certificate) => peer.with_certificate(certificate),
        None => peer,
    };
    Ok((Socket::TlsTcp(Box::new(stream.into())), peer))
}

#[cfg(not(feature = "tls"))]
#[expect(clippy::unused_async, reason = "async only for the handshake of builds with TLS")]
async fn secure(
    _shared: &Shared,
    _door: Door,
    socket: Socket,
    peer: Peer,
) -> std::io::Result<(Socket, Peer)> {
    Ok((socket, peer))
}
