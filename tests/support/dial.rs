//! Connecting to a listener, with or without TLS.
use std::fmt;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// A connection of any kind.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug> Connection for T {}

pub type Socket = Box<dyn Connection>;

/// Where to connect, and how.
#[derive(Clone)]
pub struct Dial {
    addr: String,
    tls: Option<TlsConnector>,
}

impl Dial {
    pub fn plain(addr: &str) -> Self {
        Self { addr: addr.to_owned(), tls: None }
    }

    pub fn tls(addr: &str, connector: TlsConnector) -> Self {
        Self { addr: addr.to_owned(), tls: Some(connector) }
    }

    pub async fn connect(&self) -> io::Result<Socket> {
        let socket = TcpStream::connect(&self.addr).await?;
        socket.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(socket)) };
        // The name in the certificates of the fixtures.
        let name = ServerName::try_from("localhost").unwrap();
        Ok(Box::new(tls.connect(name, socket).await?))
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (TLS: {})", self.addr, self.tls.is_some())
    }
}
