//! A TCP relay that a test can freeze: connections stay open and are accepted, but no byte passes,
//! as with a stopped process behind them.
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[derive(Debug)]
pub struct Relay {
    addr: String,
    frozen: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Relay {
    /// Relays connections to `upstream`.
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let frozen = watch::Sender::new(false);
        let (upstream, state) = (upstream.to_owned(), frozen.clone());
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (upstream, state) = (upstream.clone(), state.subscribe());
                connections.spawn(async move {
                    let Ok(far) = TcpStream::connect(upstream).await else { return };
                    let (from_near, to_near) = near.into_split();
                    let (from_far, to_far) = far.into_split();
                    tokio::select! {
                        () = copy(from_near, to_far, state.clone()) => {}
                        () = copy(from_far, to_near, state) => {}
                    }
                });
            }
        });
        Self { addr, frozen, accepting }
    }

    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Stops every byte, or lets them pass again.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut frozen: watch::Receiver<bool>,
) {
    let mut piece = vec![0; 64 << 10];
    loop {
        if frozen.wait_for(|frozen| !frozen).await.is_err() {
            return;
        }
        let Ok(count) = from.read(&mut piece).await else { return };
        if frozen.wait_for(|frozen| !frozen).await.is_err() {
            return;
        }
        if count == 0 || to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
}
