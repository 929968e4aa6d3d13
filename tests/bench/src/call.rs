//! One Predict over h2 that checks the complete answer.
use bytes::Bytes;
use h2::client::{Connection, ResponseFuture, SendRequest};
use http::{HeaderMap, Method, Request, Version};
use std::fmt;
use tokio::net::TcpStream;

/// Why an answer is not counted as good.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A gRPC status other than OK.
    Status(u32),
    /// The connection or the stream failed.
    Transport(String),
    /// An answer that violates gRPC or is not the expected one.
    Wrong(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(f, "grpc-status {code}"),
            Self::Transport(text) => write!(f, "transport: {text}"),
            Self::Wrong(what) => write!(f, "wrong: {what}"),
        }
    }
}

impl From<h2::Error> for Fault {
    fn from(error: h2::Error) -> Self {
        Self::Transport(error.to_string())
    }
}

/// `window` is the stream window for the server's answers, in bytes.
pub async fn connect(target: &str, window: u32) -> Result<SendRequest<Bytes>, Fault> {
    let (client, connection) = handshake(target, window, false).await?;
    tokio::task::spawn_local(async move {
        // Its streams report the error.
        let _ = connection.await;
    });
    Ok(client)
}

/// A connection that the caller has to run. With `reset` it ends with a RST, so that its port is
/// free at once.
pub async fn handshake(
    target: &str,
    window: u32,
    reset: bool,
) -> Result<(SendRequest<Bytes>, Connection<TcpStream, Bytes>), Fault> {
    let socket = |e: std::io::Error| Fault::Transport(e.to_string());
    let stream = TcpStream::connect(target).await.map_err(socket)?;
    stream.set_nodelay(true).map_err(socket)?;
    if reset {
        stream.set_zero_linger().map_err(socket)?;
    }
    let both = h2::client::Builder::new()
        .initial_window_size(window)
        .initial_connection_window_size(32 << 20)
        .max_send_buffer_size(64 << 20)
        .handshake(stream)
        .await?;
    Ok(both)
}

/// The headers of every Predict to `target`.
pub fn head(target: &str) -> Result<Request<()>, http::Error> {
    Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(format!("http://{target}/tensorflow.serving.PredictionService/Predict"))
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .header("user-agent", "proxy-bench")
        .body(())
}

pub async fn predict(
    client: &SendRequest<Bytes>,
    head: &Request<()>,
    body: Bytes,
    expect: &[u8],
) -> Result<(), Fault> {
    check(&exchange(client, head, body).await?, expect)
}

/// Sends a request and returns the bytes of its answer.
pub async fn exchange(
    client: &SendRequest<Bytes>,
    head: &Request<()>,
    body: Bytes,
) -> Result<Vec<u8>, Fault> {
    let mut client = client.clone().ready().await?;
    let (response, mut stream) = client.send_request(head.clone(), false)?;
    stream.send_data(body, true)?;
    answer(response).await
}

/// An empty `expect` accepts any complete message.
pub fn check(answer: &[u8], expect: &[u8]) -> Result<(), Fault> {
    let Some((&[0, a, b, c, d], message)) = answer.split_first_chunk() else {
        return Err(Fault::Wrong("no uncompressed message"));
    };
    if u32::from_be_bytes([a, b, c, d]) as usize != message.len() {
        return Err(Fault::Wrong("not one whole message"));
    }
    if !expect.is_empty() && answer != expect {
        return Err(Fault::Wrong("answer differs"));
    }
    Ok(())
}

/// The bytes of an answer with HTTP 200, gRPC's content type and status 0.
pub async fn answer(response: ResponseFuture) -> Result<Vec<u8>, Fault> {
    let response = response.await?;
    if response.status() != 200 {
        return Err(Fault::Wrong("HTTP status"));
    }
    let kind = response.headers().get("content-type");
    if !kind.is_some_and(|v| v.as_bytes().starts_with(b"application/grpc")) {
        return Err(Fault::Wrong("content-type"));
    }
    let early = status(response.headers())?;
    let mut body = response.into_body();
    if early.is_some() && !body.is_end_stream() {
        return Err(Fault::Wrong("grpc-status in headers that do not end the stream"));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    let late = match body.trailers().await? {
        Some(trailers) => status(&trailers)?,
        None => None,
    };
    match late.or(early) {
        Some(0) => Ok(bytes),
        Some(code) => Err(Fault::Status(code)),
        None => Err(Fault::Wrong("no grpc-status")),
    }
}

fn status(headers: &HeaderMap) -> Result<Option<u32>, Fault> {
    let Some(value) = headers.get("grpc-status") else {
        return Ok(None);
    };
    let number = value.to_str().ok().and_then(|v| v.parse().ok());
    number.map(Some).ok_or(Fault::Wrong("grpc-status is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_one_whole_message() {
        let answer = crate::payloads::answer();
        assert_eq!(check(&answer, &answer), Ok(()));
        assert_eq!(check(&answer, &[]), Ok(()));
    }

    #[test]
    fn refuses_what_is_cut_longer_or_different() {
        let answer = crate::payloads::answer();
        let longer = [&answer[..], b"x"].concat();
        assert_eq!(check(&[], &[]), Err(Fault::Wrong("no uncompressed message")));
        assert_eq!(check(&answer[..20], &[]), Err(Fault::Wrong("not one whole message")));
        assert_eq!(check(&longer, &answer), Err(Fault::Wrong("not one whole message")));
        let mut other = answer.clone();
        other[12] ^= 1;
        assert_eq!(check(&other, &answer), Err(Fault::Wrong("answer differs")));
    }

    #[test]
    fn a_status_must_be_a_number() {
        let mut headers = HeaderMap::new();
        assert_eq!(status(&headers), Ok(None));
        headers.insert("grpc-status", "14".parse().unwrap());
        assert_eq!(status(&headers), Ok(Some(14)));
        headers.insert("grpc-status", "ok".parse().unwrap());
        assert!(status(&headers).is_err());
    }
}
