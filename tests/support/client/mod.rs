//! A raw gRPC client on the `h2` crate: sends exactly the bytes that a test wants to send, and
//! shows everything that came back.
mod reply;
mod request;
mod stream;
mod stuck;

use h2::client::SendRequest;
use http::{HeaderName, HeaderValue, Request as HttpRequest};
use prost::bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

pub use self::reply::Reply;
pub use self::request::Request;
pub use self::stream::Stream;
pub use self::stuck::Stuck;
use self::stuck::StuckSocket;
use super::within;

/// One HTTP/2 connection, which is closed on drop.
#[derive(Debug)]
pub struct Client {
    send: SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

impl Client {
    /// Connects to `127.0.0.1:port` or `unix:///path`.
    pub async fn connect(addr: &str) -> Self {
        Self::try_connect(addr).await.unwrap_or_else(|error| panic!("connecting to {addr}: {error}"))
    }

    /// With this flow-control window for each answer.
    pub async fn with_window(addr: &str, window: u32) -> Self {
        Self::dial(addr, window).await.unwrap_or_else(|error| panic!("connecting to {addr}: {error}"))
    }

    /// With windows so large that everything is sent, but nothing is read from the socket after
    /// [`Stuck::stop_reading`].
    pub async fn stuck(addr: &str) -> (Self, Stuck) {
        let socket = tokio::net::TcpStream::connect(addr).await.unwrap();
        let stuck = Stuck::default();
        let io = StuckSocket { socket, stuck: stuck.clone() };
        (Self::handshake(io, i32::MAX as u32).await.unwrap(), stuck)
    }

    /// Over a connection that was made elsewhere.
    pub async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self::handshake(io, 4 << 20).await.unwrap()
    }

    pub async fn try_connect(addr: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Self::dial(addr, 4 << 20).await
    }

    async fn dial(addr: &str, window: u32) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        within("connecting", async {
            match addr.strip_prefix("unix://") {
                Some(path) => Self::handshake(tokio::net::UnixStream::connect(path).await?, window).await,
                None => {
                    let socket = tokio::net::TcpStream::connect(addr).await?;
                    socket.set_nodelay(true)?;
                    Self::handshake(socket, window).await
                }
            }
        })
        .await
    }

    async fn handshake<T>(io: T, window: u32) -> Result<Self, Box<dyn std::error::Error + Send + Sync>>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(window)
            .initial_connection_window_size(window.max(16 << 20))
            .max_header_list_size(64 << 10);
        let (send, connection) = builder.handshake(io).await?;
        let driver = tokio::spawn(async move {
            // The calls report its errors.
            let _ = connection.await;
        });
        Ok(Self { send, driver })
    }

    /// Sends a request and reads the whole answer; panics on an HTTP/2 error.
    pub async fn call(&self, request: Request) -> Reply {
        self.try_call(request).await.expect("the call ended with an HTTP/2 error")
    }

    pub async fn predict(&self, message: &[u8]) -> Reply {
        self.call(Request::predict(message)).await
    }

    pub async fn try_call(&self, request: Request) -> Result<Reply, h2::Error> {
        let path = request.path.clone();
        within(&format!("an answer to {path}"), async {
            let mut stream = self.open(&request).await?;
            stream.upload(&request).await?;
            stream.finish().await
        })
        .await
    }

    /// Starts a call: sends the headers and, if there is one, the body.
    pub async fn stream(&self, request: Request) -> Stream {
        let mut stream = within("a stream", self.open(&request)).await.expect("the connection is open");
        if !request.body.is_empty() {
            within("an upload", stream.upload(&request)).await.expect("the peer takes the body");
        }
        stream
    }

    /// Whether the server has ended the connection.
    pub fn is_closed(&self) -> bool {
        self.driver.is_finished()
    }

    /// Waits until the server ends the connection.
    pub async fn closed(mut self) {
        within("the end of the connection", &mut self.driver).await.expect("the driver must not panic");
    }

    async fn open(&self, request: &Request) -> Result<Stream, h2::Error> {
        let mut head = HttpRequest::builder()
            .method("POST")
            .uri(format!("http://sidecar{}", request.path))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        for (key, value) in &request.metadata {
            let key = HeaderName::from_bytes(key.as_bytes()).unwrap();
            head.headers_mut().append(key, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let (response, send) = self.send.clone().ready().await?.send_request(head, false)?;
        Ok(Stream::new(send, response))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
