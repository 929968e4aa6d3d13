//! The REST listener: TF Serving's REST API over HTTP/1.1 and HTTP/2, on the path of every other
//! request.
mod answer;
mod body;
mod call;
mod counted;
mod error;
mod half_close;
mod openapi;
mod pass;
mod respond;
mod url;
mod zstd;

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;

use crate::limiter::admission::Share;
use crate::listener::lifetime::{Due, Lifetime};
use crate::pipeline::Shard;
use crate::tasks::spawn_isolated;
use crate::telemetry::metrics::PanickedTask;
use crate::transport::socket::Socket;
use counted::Running;
use half_close::HalfClose;
pub(crate) use pass::Upstream;

/// Bytes of the request line and the headers of one request, and read at a time of its body.
const MAX_BUFFER: usize = 64 << 10;
/// Requests of one HTTP/2 connection that run at a time.
const MAX_STREAMS: u32 = 256;

/// What the requests of one connection share.
struct Client {
    shard: Rc<Shard>,
    share: Arc<Share>,
    upstream: Option<Upstream>,
    /// Requests whose answer is not yet written.
    running: Cell<usize>,
    accepted: Cell<u64>,
    /// Over HTTP/1.1: whether the request that runs was read to its end.
    complete: Cell<bool>,
}

/// Starts the tasks of HTTP/2 streams on the thread of the shard.
#[derive(Debug, Clone, Copy)]
struct OnShard;

impl<F: Future + 'static> hyper::rt::Executor<F> for OnShard {
    fn execute(&self, future: F) {
        let future = Box::pin(async move { drop(future.await) });
        drop(spawn_isolated(PanickedTask::Request, future));
    }
}

/// Serves one connection to its end. When draining begins, its requests finish, and the client is
/// told to go elsewhere.
pub(crate) async fn serve(shard: Rc<Shard>, socket: Socket, share: Arc<Share>, upstream: Option<Upstream>) {
    let limits = shard.config().limits;
    let (running, accepted, complete) = (Cell::new(0), Cell::new(0), Cell::new(false));
    let client = Rc::new(Client { shard, share, upstream, running, accepted, complete });
    let service = service_fn(|request: Request<Incoming>| {
        // Before its first turn: the body may come, and the client's half end, ahead of it.
        let running = Running::new(&client, &request);
        let client = Rc::clone(&client);
        async move { call::serve(&client, request, running).await }
    });
    let mut builder = auto::Builder::new(OnShard);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.handshake_timeout)
        .max_buf_size(MAX_BUFFER);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS);
    // A client may close its half of the connection behind its request, as TF Serving allows.
    let socket = HalfClose::new(socket, Rc::clone(&client));
    let connection = builder.serve_connection(TokioIo::new(socket), service);
    let mut connection = pin!(connection);
    let mut draining = pin!(client.shard.drain.begun());
    let mut lifetime = Lifetime::new(&limits);
    let mut told = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(peer = %client.share.peer(), %error, "REST connection ended");
                }
                return;
            }
            () = &mut draining, if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            () = lifetime.reached(), if lifetime.is_limited() => {
                match lifetime.check(client.running.get(), client.accepted.get()) {
                    Due::Nothing => {}
                    Due::GoAway => {
                        told = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    Due::Close => return,
                }
            }
        }
    }
}
