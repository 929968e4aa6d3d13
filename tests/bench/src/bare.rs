//! A minimal proxy on hyper: HTTP/2 on both sides, bodies forwarded without reading them. It shows
//! the cost of the library alone.
use crate::{Outcome, args::Args, on_this_thread};
use hyper::client::conn::http2 as client;
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::future::Future;
use tokio::net::{TcpListener, TcpStream};

// The sidecar's values: the libraries are compared, not their defaults.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;
const FRAME: u32 = 1 << 20;
const STREAMS: u32 = 4096;

/// Keeps hyper's tasks on this thread.
#[derive(Clone)]
struct Here;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Here {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

pub fn run(words: &[String]) -> Outcome<i32> {
    let args = Args::parse(words, &["listen", "upstream"])?;
    let (listen, upstream) = (args.need("listen")?, args.need("upstream")?);
    on_this_thread(async {
        let stream = TcpStream::connect(upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = client::Builder::new(Here)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .handshake(TokioIo::new(stream))
            .await?;
        // When it ends, every request fails, and the harness sees that.
        tokio::task::spawn_local(async { drop(connection.await) });
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let sender = sender.clone();
            let pass = service_fn(move |request| {
                let mut sender = sender.clone();
                async move { sender.send_request(request).await }
            });
            let connection = server::Builder::new(Here)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_frame_size(FRAME)
                .max_concurrent_streams(STREAMS)
                .serve_connection(TokioIo::new(stream), pass);
            tokio::task::spawn_local(async { drop(connection.await) });
        }
    })?
}
