//! The addresses that the program listens on, and what is accepted there.
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::ListenAddr;
use crate::transport::peer::Peer;
use crate::transport::socket::{Socket, tune};

/// Connections that may wait for us to accept them.
const BACKLOG: i32 = 1024;

/// A bound address, not yet tied to a runtime.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(StdUnixListener, SocketFile),
}

/// A socket's file; removed with the listener.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// A connection on its way from the control thread to a shard.
#[derive(Debug)]
pub(crate) enum Accepted {
    Tcp(std::net::TcpStream, SocketAddr),
    Unix(StdUnixStream),
}

impl Bound {
    pub(crate) fn new(addr: &ListenAddr) -> io::Result<Self> {
        match addr {
            ListenAddr::Tcp(addr) => tcp(*addr).map(Self::Tcp),
            ListenAddr::Unix(path) => unix(path),
        }
    }

    /// The address with the port that was chosen.
    pub(crate) fn addr(&self) -> io::Result<ListenAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(ListenAddr::Tcp),
            Self::Unix(_, file) => Ok(ListenAddr::Unix(file.0.clone())),
        }
    }
}

/// A listener on the control thread.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "removes the file when dropped")] SocketFile),
}

impl Listener {
    pub(crate) fn new(bound: Bound) -> io::Result<Self> {
        Ok(match bound {
            Bound::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Bound::Unix(listener, file) => Self::Unix(UnixListener::from_std(listener)?, file),
        })
    }

    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Accepted::Tcp(stream.into_std()?, peer))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted::Unix(stream.into_std()?))
            }
        }
    }
}

impl Accepted {
    /// On the thread that will serve it.
    pub(crate) fn into_socket(self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(stream, peer) => {
                let stream = TcpStream::from_std(stream)?;
                tune(&stream)?;
                Ok((Socket::Tcp(stream), Peer::from_ip(peer.ip())))
            }
            Self::Unix(stream) => Ok((Socket::Unix(UnixStream::from_std(stream)?), Peer::from_unix())),
        }
    }
}

fn tcp(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = RawSocket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A file that a dead process left behind is replaced, the socket of a living one is not.
fn unix(path: &Path) -> io::Result<Bound> {
    if let Err(error) = StdUnixStream::connect(path)
        && error.kind() == io::ErrorKind::ConnectionRefused
    {
        std::fs::remove_file(path)?;
    }
    let listener = StdUnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(Bound::Unix(listener, SocketFile(path.to_owned())))
}
