//! One byte stream for both legs: TCP or Unix socket, plain or under TLS.
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A dead peer behind a silent network is noticed by the kernel; HTTP/2 pings would earn a GOAWAY from gRPC servers.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    #[cfg(feature = "tls")]
    TlsTcp(Box<tokio_rustls::TlsStream<TcpStream>>),
}

/// A [`Socket`] as `h2` is to see it.
#[derive(Debug)]
pub struct Io {
    socket: Socket,
    asked: AtomicBool,
}

impl From<Socket> for Io {
    fn from(socket: Socket) -> Self {
        Self { socket, asked: AtomicBool::new(false) }
    }
}

/// `TCP_NODELAY`: messages are written whole. Keepalive: see above.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

macro_rules! each {
    ($io:expr, $socket:ident => $call:expr) => {
        match &mut $io.get_mut().socket {
            Socket::Tcp($socket) => $call,
            Socket::Unix($socket) => $call,
            #[cfg(feature = "tls")]
            Socket::TlsTcp($socket) => $call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => Pin::new(socket).poll_read(cx, buf))
    }
}

impl AsyncWrite for Io {
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

    /// `h2` asks once when it is built, and takes "no" to mean: copy payloads below 1 KiB (not 256 bytes) behind the other frames of
    /// a write. Small requests then share a system call; a copy of 1 KiB costs 20 ns, a write 5 us. Large payloads are never copied,
    /// and from the second time on the answer is the true one, so that a head and its large payload go out in one write.
    fn is_write_vectored(&self) -> bool {
        let vectored = match &self.socket {
            Socket::Tcp(socket) => socket.is_write_vectored(),
            Socket::Unix(socket) => socket.is_write_vectored(),
            #[cfg(feature = "tls")]
            Socket::TlsTcp(socket) => socket.is_write_vectored(),
        };
        // A plain load first: on the hot path nothing is written.
        (self.asked.load(Ordering::Relaxed) || self.asked.swap(true, Ordering::Relaxed)) && vectored
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => Pin::new(socket).poll_shutdown(cx))
    }
}
