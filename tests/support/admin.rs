//! A client for the admin and REST listeners: a few lines of HTTP/1.1, and a reader of the
//! Prometheus text.
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::within;

/// The parts of an HTTP response that tests use.
#[derive(Debug)]
pub struct Page {
    pub status: u16,
    pub head: String,
    pub body: String,
}

pub async fn get(addr: &str, path: &str) -> Page {
    request(addr, "GET", path, "").await
}

pub async fn post(addr: &str, path: &str) -> Page {
    request(addr, "POST", path, "").await
}

/// With a body of JSON.
pub async fn post_body(addr: &str, path: &str, body: &str) -> Page {
    request(addr, "POST", path, body).await
}

async fn request(addr: &str, method: &str, path: &str, body: &str) -> Page {
    within(&format!("{method} {path}"), async {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        page(&answer)
    })
    .await
}

fn page(answer: &[u8]) -> Page {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").expect("an HTTP answer has a blank line");
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line has a number");
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(body) } else { body.to_owned() };
    Page { status, head: head.to_owned(), body }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk begins with its size");
        if size == 0 {
            break;
        }
        whole.push_str(rest.get(..size).expect("a chunk has its size"));
        body = rest.get(size + 2..).unwrap_or_default();
    }
    whole
}

/// One reading of `/metrics`.
#[derive(Debug)]
pub struct Metrics(String);

impl Metrics {
    pub async fn read(admin: &str) -> Self {
        let page = get(admin, "/metrics").await;
        assert_eq!(page.status, 200, "{}", page.body);
        Self(page.body)
    }

    /// The sum of all series of `name` that have all of `labels`; 0 if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples(name)
            .filter(|line| labels.iter().all(|(key, value)| line.contains(&format!("{key}=\"{value}\""))))
            .filter_map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()))
            .fold(0.0, |sum, value| sum + value)
    }

    /// The lines of the metric with exactly this name: `name{...} value` or `name value`.
    pub fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.lines().filter(move |line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        })
    }

    /// The number of series of all metrics.
    pub fn series(&self) -> usize {
        self.0.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count()
    }

    pub fn text(&self) -> &str {
        &self.0
    }
}
