//! The server's connections: accepts them, counts them, and ends them as a script says.
use std::sync::Arc;

use prost::bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::address::Listener;
use super::handler::Handler;

/// Large, so that an upload of 10 MB does not wait for many window updates.
const WINDOW: u32 = 4 << 20;

pub(crate) async fn run(listener: Listener, shared: Arc<Shared>, stop: CancellationToken) {
    let accept = async {
        match listener {
            Listener::Tcp(listener) => {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((socket, _)) = listener.accept().await {
                    let _ = socket.set_nodelay(true);
                    spawn(socket, &shared);
                }
            }
            Listener::Unix(listener) => {
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                while let Ok((socket, _)) = listener.accept().await {
                    spawn(socket, &shared);
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = stop.cancelled() => {}
    }
}

fn spawn(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, shared: &Arc<Shared>) {
    let number = shared.connections.borrow().accepted;
    shared.connections.send_modify(|all| {
        all.accepted += 1;
        all.open += 1;
    });
    let open = Open(shared.clone());
    tokio::spawn(async move {
        connection(io, number, &open.0).await;
        drop(open);
    });
}

/// Counts the connection as closed when its task ends, for whatever reason.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.send_modify(|all| all.open -= 1);
    }
}

async fn connection(io: impl AsyncRead + AsyncWrite + Unpin, number: usize, shared: &Arc<Shared>) {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(4 * WINDOW)
        .max_header_list_size(shared.options.max_header_list_size.unwrap_or(64 << 10));
    if let Some(streams) = shared.options.max_concurrent_streams {
        builder.max_concurrent_streams(streams);
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else { return };
    let mut goaway = shared.goaway.subscribe();
    // Scripts end this connection here; `true` means abruptly.
    let (end, mut ended) = tokio::sync::mpsc::channel::<bool>(8);
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let call = Handler { shared: shared.clone(), end: end.clone(), number };
                    tokio::spawn(call.serve(request, respond));
                }
                _ => return,
            },
            Some(abruptly) = ended.recv() => {
                if abruptly {
                    return;
                }
                connection.graceful_shutdown();
            }
            Ok(()) = goaway.changed() => connection.graceful_shutdown(),
        }
    }
}
