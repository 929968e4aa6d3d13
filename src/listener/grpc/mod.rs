//! The gRPC listener: serves HTTP/2 connections and dispatches their calls by method.
mod call;
pub(crate) mod local;
mod message;
mod passthrough;
mod responder;
mod route;
mod write;

use std::cell::Cell;
use std::fmt::Display;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::spawn_local;
use tokio::time::Instant;

use crate::pipeline::Shard;
use crate::transport::coalesce::{Coalesced, coalesce};
use crate::transport::frames::{Filter, Violation};
use crate::transport::http2;
use crate::transport::socket::Socket;
use local::Local;

/// A client says hello at once; one that does not only holds a place.
pub(crate) const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// Serves one connection to its end. When draining begins, the client is told to go elsewhere
/// (GOAWAY) and its calls finish.
pub(crate) async fn serve(shard: Rc<Shard>, local: Local, socket: Socket, peer: Rc<str>) {
    let (io, flush) = coalesce(socket, Filter::client());
    flush.deferred().of(accept(shard, local, io, peer)).await;
}

async fn accept(shard: Rc<Shard>, local: Local, io: Coalesced, peer: Rc<str>) {
    let handshake = http2::server().handshake::<_, Bytes>(io);
    let mut connection = match tokio::time::timeout(HELLO_WITHIN, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) if Violation::is_behind(&error) => return wrong_protocol(&peer, &error),
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "no HTTP/2 connection"),
        Err(_) => return tracing::debug!(%peer, "no HTTP/2 connection in time"),
    };
    let mut draining = std::pin::pin!(shard.drain.begun());
    let mut told = false;
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => match local.service(request.uri().path()) {
                    None => {
                        // Boxed: spawning moves a future several times, and the state of a call is
                        // some kilobytes.
                        spawn_local(Box::pin(call::serve(Rc::clone(&shard), Rc::clone(&peer), request, respond)));
                    }
                    Some(service) => {
                        spawn_local(local::serve(shard.drain.clone(), service, request, respond));
                    }
                },
                Some(Err(error)) => return tracing::debug!(%peer, %error, "connection broken"),
                None => return,
            },
            () = &mut draining, if !told => {
                connection.graceful_shutdown();
                told = true;
            }
        }
    }
}

/// How often each thread warns of clients that speak another protocol.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Logs a client that speaks another protocol than this port: usually a wrong port or scheme in the
/// client's configuration.
pub(crate) fn wrong_protocol(peer: &str, error: &dyn Display) {
    thread_local! {
        static WARNED: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    if WARNED.get().is_some_and(|warned| warned.elapsed() < WARN_EVERY) {
        return tracing::debug!(%peer, %error, "not a gRPC client");
    }
    WARNED.set(Some(Instant::now()));
    tracing::warn!(%peer, %error, "not a gRPC client; more of these are only counted for a minute");
}
