//! The gRPC listener: serves HTTP/2 connections and dispatches their calls by method.
mod call;
mod keepalive;

pub(crate) mod local;
mod message;
mod passthrough;
mod responder;
mod route;
mod stall;
mod write;

use std::cell::Cell;
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::limiter::admission::Share;
use crate::listener::lifetime::{Due, Lifetime};
use crate::pipeline::Shard;
use crate::tasks::spawn_isolated;
use crate::telemetry::metrics::PanickedTask;
use crate::transport::coalesce::{Backlog, Coalesced, coalesce};
use crate::transport::frames::{Filter, Violation};
use crate::transport::http2;
use crate::transport::peer::Peer;
use crate::transport::socket::Socket;
use keepalive::Keepalive;
use local::Local;

/// What the calls of one connection share.
#[derive(Debug)]
struct Client {
    share: Arc<Share>,
    backlog: Rc<Backlog>,
    /// When the client was told to go elsewhere because of a drain.
    told: Cell<Option<Instant>>,
}

/// Serves one connection to its end. When draining begins, the client is told to go elsewhere
/// (GOAWAY) and its calls finish.
pub(crate) async fn serve(shard: Rc<Shard>, local: Local, socket: Socket, share: Arc<Share>) {
    let (io, flush) = coalesce(socket, Filter::client());
    let flush = flush.deferred().write_idle_timeout(shard.config().limits.write_idle_timeout);
    let client = Rc::new(Client { share, backlog: flush.backlog(), told: Cell::new(None) });
    flush.of(accept(shard, local, io, client)).await;
}

async fn accept(shard: Rc<Shard>, local: Local, io: Coalesced, client: Rc<Client>) {
    let limits = shard.config().limits;
    let peer = client.share.peer();
    let handshake = http2::server().handshake::<_, Bytes>(io);
    let mut connection = match tokio::time::timeout(limits.handshake_timeout, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) if Violation::is_behind(&error) => return wrong_protocol(peer, &error),
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "no HTTP/2 connection"),
        Err(_) => return tracing::debug!(%peer, "no HTTP/2 connection in time"),
    };
    let mut draining = std::pin::pin!(shard.drain.begun());
    let mut lifetime = Lifetime::new(&limits);
    let mut keepalive = Keepalive::new(&limits, || connection.ping_pong());
    let mut calls = 0;
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    calls += 1;
                    let (shard, client) = (Rc::clone(&shard), Rc::clone(&client));
                    match local.service(request.uri()).filter(|_| call::is_grpc(&request)) {
                        // Boxed: spawning moves a future several times, and the state of a call is
                        // some kilobytes. It is written to where it stays: `Box::pin` would copy
                        // it.
                        None => {
                            let place = Box::new_uninit();
                            let call = Box::write(place, call::serve(shard, client, request, respond));
                            spawn_isolated(PanickedTask::Request, Box::into_pin(call));
                        }
                        Some(service) => {
                            let call = local::serve(shard, client, service, request, respond);
                            spawn_isolated(PanickedTask::Request, Box::pin(call));
                        }
                    }
                }
                Some(Err(error)) => return tracing::debug!(%peer, %error, "connection broken"),
                None => return,
            },
            () = &mut draining, if client.told.get().is_none() => {
                connection.graceful_shutdown();
                client.told.set(Some(Instant::now()));
            }
            () = keepalive.due(), if keepalive.is_on() => {
                if keepalive.is_gone(calls, client.backlog.is_blocked()) {
                    return tracing::debug!(%peer, "closed a connection whose client does not answer PINGs");
                }
            }
            () = lifetime.reached(), if lifetime.is_limited() => {
                match lifetime.check(Rc::strong_count(&client) - 1, calls) {
                    Due::Nothing => {}
                    Due::GoAway => connection.graceful_shutdown(),
                    Due::Close => return tracing::debug!(%peer, "closed an old connection"),
                }
            }
        }
    }
}

/// How often each thread warns of clients that speak another protocol.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Logs a client that speaks another protocol than this port: usually a wrong port or scheme in the
/// client's configuration.
pub(crate) fn wrong_protocol(peer: &Peer, error: &dyn Display) {
    thread_local! {
        static WARNED: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    if WARNED.get().is_some_and(|warned| warned.elapsed() < WARN_EVERY) {
        return tracing::debug!(%peer, %error, "not a gRPC client");
    }
    WARNED.set(Some(Instant::now()));
    tracing::warn!(%peer, %error, "not a gRPC client; more of these are only counted for a minute");
}
