//! One socket type for clients and upstream: TCP or Unix, plain or TLS.
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// The kernel detects dead peers. HTTP/2 pings would do so too, but gRPC servers answer frequent
/// ones with GOAWAY.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// What was sent to the upstream and is not acknowledged by its kernel for so long is lost, as
/// after a pulled cable. The kernel's own limit is a quarter of an hour.
const UNACKNOWLEDGED_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    #[cfg(feature = "tls")]
    TlsTcp(Box<tokio_rustls::TlsStream<TcpStream>>),
}

/// Sets `TCP_NODELAY`, since messages are written whole, and keepalive.
///
/// # Errors
/// The operating system refuses an option.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Bounds how long calls wait on a connection to the upstream whose other end is gone.
///
/// # Errors
/// The operating system refuses the option.
pub(crate) fn tune_upstream(stream: &TcpStream) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED_AFTER))?;
    Ok(())
}

impl Socket {
    /// The error that the kernel has for the connection, such as a reset.
    ///
    /// # Errors
    /// The kernel cannot tell.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Self::Tcp(socket) => socket.take_error(),
            Self::Unix(socket) => socket.take_error(),
            #[cfg(feature = "tls")]
            Self::TlsTcp(socket) => socket.get_ref().0.take_error(),
        }
    }
}

macro_rules! each {
    ($io:expr, $socket:ident => $call:expr) => {
        match $io.get_mut() {
            Self::Tcp($socket) => $call,
            Self::Unix($socket) => $call,
            #[cfg(feature = "tls")]
            Self::TlsTcp($socket) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => Pin::new(socket).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, socket => Pin::new(socket).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, socket => Pin::new(socket).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(socket) => socket.is_write_vectored(),
            Self::Unix(socket) => socket.is_write_vectored(),
            #[cfg(feature = "tls")]
            Self::TlsTcp(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => Pin::new(socket).poll_shutdown(cx))
    }
}
