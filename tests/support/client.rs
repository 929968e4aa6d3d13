//! A raw gRPC client on the `h2` crate: sends exactly the bytes that a test wants sent, and shows
//! everything that came back.
use std::future::poll_fn;

use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request as HttpRequest};
use prost::Message as _;
use prost::bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tonic_types::pb::{BadRequest, ErrorInfo};

use super::fake_tfs::serve::{compress, frame};
use super::requests::PREDICT;
use super::within;

/// What to send.
#[derive(Clone, Debug)]
pub struct Request {
    path: String,
    metadata: Vec<(String, String)>,
    body: Bytes,
    chunk: usize,
    half_close: bool,
}

/// Everything that came back.
#[derive(Debug)]
pub struct Reply {
    pub http_status: u16,
    pub initial: HeaderMap,
    pub messages: Vec<Bytes>,
    /// The first message; empty when there is none.
    pub message: Bytes,
    /// The gRPC code; -1 when there was none.
    pub code: i32,
    /// `grpc-message`, decoded.
    pub text: String,
    /// The trailers; of a trailers-only answer the same as `initial`.
    pub trailers: HeaderMap,
}

/// One HTTP/2 connection; ended when dropped.
#[derive(Debug)]
pub struct Client {
    send: SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

/// A call whose two directions the test moves itself.
#[derive(Debug)]
pub struct Stream {
    send: SendStream<Bytes>,
    response: Option<ResponseFuture>,
    receive: Option<RecvStream>,
    initial: HeaderMap,
    http_status: u16,
    buffer: BytesMut,
}

// === impl Request ===

impl Request {
    /// One message, framed.
    pub fn new(path: &str, message: &[u8]) -> Self {
        Self::raw(path, frame(message, false))
    }

    pub fn predict(message: &[u8]) -> Self {
        Self::new(PREDICT, message)
    }

    /// Exactly these body bytes, whatever they are.
    pub fn raw(path: &str, body: impl Into<Bytes>) -> Self {
        Self {
            path: path.into(),
            metadata: Vec::new(),
            body: body.into(),
            chunk: usize::MAX,
            half_close: true,
        }
    }

    /// One message, compressed by gzip.
    pub fn gzip(path: &str, message: &[u8]) -> Self {
        Self::raw(path, frame(&compress(message), true)).metadata("grpc-encoding", "gzip")
    }

    pub fn metadata(mut self, key: &str, value: &str) -> Self {
        self.metadata.push((key.to_owned(), value.to_owned()));
        self
    }

    /// `grpc-timeout`, as gRPC writes it: `100m` is 100 milliseconds.
    pub fn timeout(self, timeout: &str) -> Self {
        self.metadata("grpc-timeout", timeout)
    }

    /// Sends the body in DATA frames of at most this many bytes.
    pub fn chunks(mut self, bytes: usize) -> Self {
        self.chunk = bytes;
        self
    }

    /// Sends the body but never says that it is over.
    pub fn unfinished(mut self) -> Self {
        self.half_close = false;
        self
    }
}

// === impl Client ===

impl Client {
    /// Connects to `127.0.0.1:port` or `unix:///path`.
    pub async fn connect(addr: &str) -> Self {
        Self::try_connect(addr).await.unwrap_or_else(|error| panic!("connecting to {addr}: {error}"))
    }

    pub async fn try_connect(addr: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        within("connecting", async {
            match addr.strip_prefix("unix://") {
                Some(path) => Self::handshake(tokio::net::UnixStream::connect(path).await?).await,
                None => {
                    let socket = tokio::net::TcpStream::connect(addr).await?;
                    socket.set_nodelay(true)?;
                    Self::handshake(socket).await
                }
            }
        })
        .await
    }

    async fn handshake<T>(io: T) -> Result<Self, Box<dyn std::error::Error + Send + Sync>>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .max_header_list_size(64 << 10);
        let (send, connection) = builder.handshake(io).await?;
        let driver = tokio::spawn(async move {
            // Its errors are seen by the calls.
            let _ = connection.await;
        });
        Ok(Self { send, driver })
    }

    /// Sends a request and reads the whole answer; an HTTP/2 error is a panic.
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

    /// Starts a call: its headers are sent, the rest is the test's.
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
            head.headers_mut().append(key, HeaderValue::from_str(value).unwrap());
        }
        let (response, send) = self.send.clone().ready().await?.send_request(head, false)?;
        Ok(Stream {
            send,
            response: Some(response),
            receive: None,
            initial: HeaderMap::new(),
            http_status: 0,
            buffer: BytesMut::new(),
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

// === impl Stream ===

impl Stream {
    /// Sends one message.
    pub async fn message(&mut self, message: &[u8]) {
        self.send_all(frame(message, false), usize::MAX).await.expect("the peer takes the message");
    }

    /// Half-closes.
    pub fn close(&mut self) {
        self.send.send_data(Bytes::new(), true).expect("the stream is open");
    }

    /// RST_STREAM with CANCEL: what a gRPC client's cancellation is.
    pub fn cancel(mut self) {
        self.send.send_reset(Reason::CANCEL);
    }

    /// The initial metadata, as soon as it is there.
    pub async fn head(&mut self) -> Result<&HeaderMap, h2::Error> {
        if let Some(response) = self.response.take() {
            let (head, body) = within("the response's head", response).await?.into_parts();
            self.http_status = head.status.as_u16();
            self.initial = head.headers;
            self.receive = Some(body);
        }
        Ok(&self.initial)
    }

    /// The next message; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, h2::Error> {
        self.head().await?;
        let body = self.receive.as_mut().expect("the head is read");
        loop {
            if let Some(message) = unframe(&mut self.buffer) {
                return Ok(Some(message));
            }
            let Some(chunk) = within("the next chunk", body.data()).await else { return Ok(None) };
            let chunk = chunk?;
            let _ = body.flow_control().release_capacity(chunk.len());
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// Reads all that is left.
    pub async fn finish(mut self) -> Result<Reply, h2::Error> {
        let mut messages = Vec::new();
        while let Some(message) = self.next().await? {
            messages.push(message);
        }
        assert!(self.buffer.is_empty(), "the answer ends within a message");
        let body = self.receive.as_mut().expect("the head is read");
        let trailers = within("trailers", body.trailers()).await?.unwrap_or_else(|| self.initial.clone());
        let code = value(&trailers, "grpc-status").and_then(|code| code.parse().ok()).unwrap_or(-1);
        let text = value(&trailers, "grpc-message").map(|text| percent_decode(&text)).unwrap_or_default();
        let message = messages.first().cloned().unwrap_or_default();
        Ok(Reply {
            http_status: self.http_status,
            initial: self.initial,
            messages,
            message,
            code,
            text,
            trailers,
        })
    }

    async fn upload(&mut self, request: &Request) -> Result<(), h2::Error> {
        match self.send_all(request.body.clone(), request.chunk).await {
            Ok(()) if request.half_close => self.send.send_data(Bytes::new(), true).or(Ok(())),
            // The server may answer before it has read everything: what it says is in the response.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn send_all(&mut self, mut body: Bytes, chunk: usize) -> Result<(), h2::Error> {
        while !body.is_empty() {
            self.send.reserve_capacity(body.len().min(chunk));
            let Some(capacity) = poll_fn(|cx| self.send.poll_capacity(cx)).await else { return Ok(()) };
            let piece = body.split_to(capacity?.min(body.len()).min(chunk));
            self.send.send_data(piece, false)?;
        }
        Ok(())
    }
}

// === impl Reply ===

impl Reply {
    /// The values of a key of the initial metadata.
    pub fn initial(&self, key: &str) -> Vec<String> {
        values(&self.initial, key)
    }

    pub fn trailer(&self, key: &str) -> Vec<String> {
        values(&self.trailers, key)
    }

    /// `tfs-sidecar-repair` of the initial metadata.
    pub fn repairs(&self) -> Vec<String> {
        self.initial("tfs-sidecar-repair")
    }

    /// `grpc-status-details-bin`, decoded from base64.
    pub fn details(&self) -> Option<Bytes> {
        use base64::Engine as _;
        let text = value(&self.trailers, "grpc-status-details-bin")?;
        let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
        Some(engine.decode(text.trim_end_matches('=')).expect("details are base64").into())
    }

    /// The two details of a refusal by the sidecar; panics when one is missing.
    pub fn problems(&self) -> (BadRequest, ErrorInfo) {
        let details = self.details().expect("a refusal has details");
        let status = tonic_types::Status::decode(details).expect("details are a google.rpc.Status");
        assert_eq!(
            (status.code, &status.message),
            (self.code, &self.text),
            "the details repeat code and message"
        );
        (detail(&status, "google.rpc.BadRequest"), detail(&status, "google.rpc.ErrorInfo"))
    }

    /// `ErrorInfo.reason`.
    pub fn reason(&self) -> String {
        let status = tonic_types::Status::decode(self.details().expect("a refusal has details"));
        let info: ErrorInfo =
            detail(&status.expect("details are a google.rpc.Status"), "google.rpc.ErrorInfo");
        assert_eq!(info.domain, "tfs-sidecar");
        info.reason
    }

    /// Panics unless the call was answered OK.
    pub fn ok(self) -> Self {
        assert_eq!((self.code, self.text.as_str()), (0, ""));
        self
    }
}

fn detail<M: prost::Message + Default>(status: &tonic_types::Status, name: &str) -> M {
    let any = status.details.iter().find(|any| any.type_url.ends_with(name));
    let any = any.unwrap_or_else(|| panic!("the details have no {name}"));
    M::decode(&any.value[..]).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn value(headers: &HeaderMap, key: &str) -> Option<String> {
    values(headers, key).into_iter().next()
}

fn values(headers: &HeaderMap, key: &str) -> Vec<String> {
    headers.get_all(key).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

/// Takes one whole message out of the buffer, decompressed.
fn unframe(buffer: &mut BytesMut) -> Option<Bytes> {
    use std::io::Read as _;
    let prefix = buffer.first_chunk::<5>()?;
    let compressed = prefix[0] == 1;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if buffer.len() < 5 + length {
        return None;
    }
    buffer.advance(5);
    let message = buffer.split_to(length).freeze();
    if !compressed {
        return Some(message);
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&message[..]).read_to_end(&mut plain).expect("a compressed message is gzip");
    Some(plain.into())
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (first, hex.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
