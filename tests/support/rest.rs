//! A client of the REST listener that writes HTTP/1.1 byte by byte, and reads whole answers.
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::within;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// The values of a header.
    pub fn all(&self, name: &str) -> Vec<String> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }

    /// The only value of a header; empty if there is none.
    pub fn header(&self, name: &str) -> String {
        let mut values = self.all(name);
        assert!(values.len() < 2, "{name}: {values:?}");
        values.pop().unwrap_or_default()
    }

    /// `tfs-sidecar-repair`.
    pub fn repairs(&self) -> Vec<String> {
        self.all("tfs-sidecar-repair")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// TF Serving's text of an error.
    pub fn error(&self) -> String {
        self.json()["error"].as_str().expect("an error has a text").to_owned()
    }

    /// Panics unless the status is 200.
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{}", self.text());
        self
    }

    /// Panics unless the request was refused; the details of all problems.
    pub fn refused(&self) -> Vec<Value> {
        assert_eq!(self.status, 400, "{}", self.text());
        let json = self.json();
        let details = json["details"].as_array().unwrap_or_else(|| panic!("no details: {}", self.text()));
        details.iter().filter(|detail| !detail["reason"].is_null()).cloned().collect()
    }
}

/// A connection.
#[derive(Debug)]
pub struct Http<S = TcpStream> {
    pub socket: S,
    buffer: Vec<u8>,
}

impl Http {
    pub async fn connect(addr: &str) -> Self {
        Self::over(TcpStream::connect(addr).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http<S> {
    pub fn over(socket: S) -> Self {
        Self { socket, buffer: Vec::new() }
    }

    /// Writes bytes; a server that has closed the connection is no error.
    pub async fn send(&mut self, bytes: &[u8]) {
        let written = async {
            self.socket.write_all(bytes).await?;
            self.socket.flush().await
        };
        let _ = within("room in the socket", written).await;
    }

    /// Sends a request and reads its answer.
    pub async fn call(&mut self, request: &Ask) -> Answer {
        self.send(&request.bytes()).await;
        self.answer().await
    }

    /// The next answer. As in clients, one with status 100 is skipped.
    pub async fn answer(&mut self) -> Answer {
        loop {
            let answer = self.read(true).await.expect("an answer, but the connection is closed");
            if answer.status != 100 {
                return answer;
            }
        }
    }

    /// The next answer, without a body: to HEAD, or with an interim status.
    pub async fn head(&mut self) -> Answer {
        self.read(false).await.expect("an answer, but the connection is closed")
    }

    /// Reads an answer; `None` if the connection ends instead.
    pub async fn read(&mut self, with_body: bool) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if !self.more().await {
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let length = headers.get("content-length").map(|length| length.to_str().unwrap().parse().unwrap());
        let body = match length {
            _ if !with_body || status == 100 => Vec::new(),
            Some(length) => self.take(length).await,
            None if headers.contains_key("transfer-encoding") => self.chunks().await,
            None => {
                while self.more().await {}
                std::mem::take(&mut self.buffer)
            }
        };
        Some(Answer { status, headers, body })
    }

    /// Panics unless the server closes the connection without another answer.
    pub async fn closes(&mut self) {
        while self.more().await {}
        assert_eq!(String::from_utf8_lossy(&self.buffer), "");
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut whole = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                    break at;
                }
                assert!(self.more().await, "the answer ends within a chunk");
            };
            let line = self.take(end + 2).await;
            let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).unwrap();
            whole.extend(self.take(size).await);
            self.take(2).await;
            if size == 0 {
                return whole;
            }
        }
    }

    async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.more().await, "the connection ends within an answer");
        }
        self.buffer.drain(..length).collect()
    }

    /// Reads more; false at the end of the connection.
    async fn more(&mut self) -> bool {
        let mut piece = vec![0; 1 << 16];
        let read = within("bytes of an answer", self.socket.read(&mut piece)).await.unwrap_or(0);
        self.buffer.extend_from_slice(&piece[..read]);
        read > 0
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    line: String,
    headers: String,
    body: Vec<u8>,
}

impl Ask {
    pub fn post(path: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref().to_vec();
        let headers = format!("content-length: {}\r\n", body.len());
        Self { line: format!("POST {path}"), headers, body }
    }

    pub fn get(path: &str) -> Self {
        Self::of("GET", path)
    }

    /// A request without a body.
    pub fn of(method: &str, path: &str) -> Self {
        Self { line: format!("{method} {path}"), headers: String::new(), body: Vec::new() }
    }

    /// A Predict request for a model.
    pub fn predict(model: &str, body: impl AsRef<[u8]>) -> Self {
        Self::post(&format!("/v1/models/{model}:predict"), body)
    }

    /// The same in one chunk for each piece.
    pub fn chunked(path: &str, pieces: &[&[u8]]) -> Self {
        let mut body = Vec::new();
        for piece in pieces {
            body.extend(format!("{:x}\r\n", piece.len()).bytes());
            body.extend_from_slice(piece);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        Self { line: format!("POST {path}"), headers: "transfer-encoding: chunked\r\n".to_owned(), body }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.extend([name, ": ", value, "\r\n"]);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} HTTP/1.1\r\nhost: test\r\n{}\r\n", self.line, self.headers).into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Sends it on its own connection.
    pub async fn send(&self, addr: &str) -> Answer {
        Http::connect(addr).await.call(self).await
    }
}
