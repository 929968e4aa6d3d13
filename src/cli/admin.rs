//! A client for the admin address of a running sidecar: one HTTP/1.0 request over TCP or a Unix
//! socket.
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Failure;
use super::args::AdminArgs;
use super::settings::{file, variable};
use crate::config::load::Settings;
use crate::config::{ListenAddr, Source, UpstreamAddr};

/// The response to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Response {
    pub status: u16,
    pub body: String,
}

/// Responses of the admin address are smaller: the largest is the list of all mistakes of all
/// clients. Some other server there must not fill the memory.
const MAX_RESPONSE: u64 = 16 << 20;

impl AdminArgs {
    /// The given address, or else the one that a sidecar in this environment listens on.
    pub(super) fn address(&self) -> Result<UpstreamAddr, Failure> {
        if let Some(given) = self.admin.as_deref().filter(|given| !given.is_empty()) {
            return match given.parse::<UpstreamAddr>() {
                Ok(UpstreamAddr::Tls { .. }) => {
                    Err(Failure::usage(anyhow!("expected an address without TLS, got `{given}`")))
                }
                Ok(address) => Ok(address),
                // As in `admin_listen`: `:8602`.
                Err(error) => given.parse::<ListenAddr>().map(reachable).map_err(|_| Failure::usage(error)),
            };
        }
        let listen = variable("TFS_SIDECAR_ADMIN_LISTEN").map(|setting| ("admin_listen", setting));
        let settings = Settings { keys: listen.into_iter().collect(), ..Settings::default() };
        let path = variable("TFS_SIDECAR_CONFIG").map(|setting| setting.value);
        let source = Source { settings, path: file(path.as_deref().map(std::path::Path::new)) };
        Ok(reachable(source.load().map_err(Failure::usage)?.admin_listen))
    }
}

/// The address to connect to from the same machine.
pub(super) fn reachable(listen: ListenAddr) -> UpstreamAddr {
    match listen {
        ListenAddr::Unix(path) => UpstreamAddr::Unix(path),
        ListenAddr::Tcp(address) => {
            let host = match (address.ip().is_unspecified(), address.is_ipv4()) {
                (true, true) => "127.0.0.1".to_owned(),
                (true, false) => "::1".to_owned(),
                (false, _) => address.ip().to_string(),
            };
            UpstreamAddr::Tcp { host, port: address.port() }
        }
    }
}

/// Gets a page.
pub(super) fn get(address: &UpstreamAddr, path: &str, timeout: Duration) -> Result<Response, Failure> {
    send(address, &format!("GET {path}"), None, timeout)
}

/// Sends a POST without a body, with a token if the sidecar demands one.
pub(super) fn post(
    address: &UpstreamAddr,
    path: &str,
    token: Option<&str>,
    timeout: Duration,
) -> Result<Response, Failure> {
    send(address, &format!("POST {path}"), token, timeout)
}

fn send(
    address: &UpstreamAddr,
    what: &str,
    token: Option<&str>,
    timeout: Duration,
) -> Result<Response, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let authorization = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
    let request = |host: &str| {
        format!(
            "{what} HTTP/1.0\r\nhost: {host}\r\nuser-agent: tfs-sidecar/{}\r\n{authorization}\r\n",
            env!("CARGO_PKG_VERSION")
        )
    };
    let exchange = async {
        match address {
            UpstreamAddr::Unix(path) => {
                roundtrip(tokio::net::UnixStream::connect(path).await?, &request("localhost")).await
            }
            UpstreamAddr::Tcp { host, port } | UpstreamAddr::Tls { host, port } => {
                let stream = tokio::net::TcpStream::connect((host.as_str(), *port)).await?;
                // Not the name: the sidecar refuses names, which browsers can be lured with.
                let host = stream.peer_addr()?.to_string();
                roundtrip(stream, &request(&host)).await
            }
        }
    };
    let response = runtime.block_on(async { tokio::time::timeout(timeout, exchange).await });
    let context = || format!("cannot reach the sidecar at `{address}`");
    let unreachable = |error: anyhow::Error| {
        Failure::from(error.context(context())).hint("set its admin address (`admin_listen`) with --admin")
    };
    match response {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(unreachable(error)),
        Err(_) => Err(unreachable(anyhow!("no response within {}", humantime::format_duration(timeout)))),
    }
}

async fn roundtrip(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> anyhow::Result<Response> {
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut bytes).await?;
    parse(&String::from_utf8_lossy(&bytes)).context("the response is not HTTP")
}

/// `HTTP/1.1 200 OK`, headers, an empty line, the body.
fn parse(text: &str) -> Option<Response> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut words = head.lines().next()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    Some(Response { status: words.next()?.parse().ok()?, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A server for one request; the thread returns the request.
    fn serve(response: &'static str) -> (UpstreamAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend_from_slice(&byte);
            }
            stream.write_all(response.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        (address, server)
    }

    #[test]
    fn a_response_has_a_status_and_a_body() {
        let (address, server) = serve("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno");
        let response = get(&address, "/readyz", Duration::from_secs(30)).unwrap();
        assert_eq!(response, Response { status: 503, body: "no".to_owned() });
        assert!(server.join().unwrap().starts_with("GET /readyz HTTP/1.0\r\nhost: 127.0.0.1:"));
    }

    #[test]
    fn a_response_other_than_http_is_a_failure() {
        let (address, server) = serve("220 mail.example\r\n\r\n");
        let failure = get(&address, "/readyz", Duration::from_secs(30)).unwrap_err();
        assert!(format!("{:#}", failure.error).ends_with("the response is not HTTP"));
        server.join().unwrap();
    }

    #[test]
    fn a_missing_response_is_a_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let failure = get(&address, "/readyz", Duration::from_millis(10)).unwrap_err();
        assert!(format!("{:#}", failure.error).ends_with("no response within 10ms"));
    }

    #[test]
    fn a_listen_address_becomes_one_to_connect_to() {
        for (listen, reached) in [
            ("0.0.0.0:8602", "127.0.0.1:8602"),
            ("[::]:1", "[::1]:1"),
            ("unix:///a", "unix:///a"),
            ("10.0.0.1:2", "10.0.0.1:2"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), reached);
        }
        let given = |admin: &str| AdminArgs { admin: Some(admin.to_owned()) }.address();
        assert_eq!(given("sidecar:8602").unwrap().to_string(), "sidecar:8602");
        assert_eq!(given(":8602").unwrap().to_string(), "127.0.0.1:8602");
        assert!(given("https://sidecar:8602").is_err());
    }
}
