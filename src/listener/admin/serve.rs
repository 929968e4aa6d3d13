//! Serves the admin listener's connections, within limits: none of its clients can keep the others
//! out.
use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::AbortHandle;
use tower::ServiceExt as _;

use super::access::Caller;
use crate::listener::bind::Listener;
use crate::retry::backoff::Backoff;
use crate::tasks::spawn_isolated;
use crate::telemetry::metrics::PanickedTask;
use crate::transport::socket::Socket;

/// Connections at a time. A further one replaces the one that has waited longest for a request.
pub(crate) const MAX_CONNECTIONS: usize = 64;

/// Accepts and serves connections, forever. A request's headers must arrive within `header_timeout`
/// of the connection or of the previous answer.
pub(crate) async fn serve(listener: Listener, router: Router, header_timeout: impl Fn() -> Duration) {
    let mut connections = VecDeque::new();
    let mut backoff = Backoff::new(2);
    loop {
        let accepted = listener.accept().await.and_then(|accepted| {
            let caller = Caller::of_connection(&accepted);
            Ok((accepted.into_socket()?.0, caller))
        });
        match accepted {
            Ok((socket, caller)) => {
                backoff.reset();
                let busy = Rc::new(Cell::new(false));
                let connection =
                    connection(socket, caller, router.clone(), Rc::clone(&busy), header_timeout());
                let task = spawn_isolated(PanickedTask::Connection, Box::pin(connection));
                admit(&mut connections, Connection { busy, task: task.abort_handle() });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of the admin listener");
                tokio::time::sleep(backoff.wait()).await;
            }
        }
    }
}

#[derive(Debug)]
struct Connection {
    /// Whether it has a request that is not answered yet.
    busy: Rc<Cell<bool>>,
    task: AbortHandle,
}

/// Adds a connection, and ends another one if there are too many.
fn admit(connections: &mut VecDeque<Connection>, new: Connection) {
    connections.retain(|connection| !connection.task.is_finished());
    if connections.len() >= MAX_CONNECTIONS {
        let waiting = connections.iter().position(|connection| !connection.busy.get());
        if let Some(connection) = connections.remove(waiting.unwrap_or(0)) {
            connection.task.abort();
        }
    }
    connections.push_back(new);
}

async fn connection(
    socket: Socket,
    caller: Caller,
    router: Router,
    busy: Rc<Cell<bool>>,
    header_timeout: Duration,
) {
    let service = service_fn(|request: Request<Incoming>| {
        busy.set(true);
        let (router, busy) = (router.clone(), Rc::clone(&busy));
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(caller);
        async move {
            let response = router.oneshot(request).await;
            busy.set(false);
            response as Result<Response<Body>, Infallible>
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of the admin listener ended");
    }
}
