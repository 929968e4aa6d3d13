//! The addresses that the program listens on, and what is accepted there.
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, Socket as RawSocket, Type};
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

/// A socket's file; removed with the listener, unless something else is there by then.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and number of the file.
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.id) {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// A connection on its way from the control thread to a shard.
#[derive(Debug)]
pub(crate) enum Accepted {
    Tcp(std::net::TcpStream, SocketAddr),
    Unix(StdUnixStream),
}

impl Bound {
    /// `mode`: the permissions of a Unix socket.
    pub(crate) fn new(addr: &ListenAddr, mode: u32) -> io::Result<Self> {
        match addr {
            ListenAddr::Tcp(addr) => tcp(*addr).map(Self::Tcp),
            ListenAddr::Unix(path) => unix(path, mode),
        }
    }

    /// The address with the port that was chosen.
    pub(crate) fn addr(&self) -> io::Result<ListenAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(ListenAddr::Tcp),
            Self::Unix(_, file) => Ok(ListenAddr::Unix(file.path.clone())),
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

/// Listens on a Unix socket. The socket of a dead process is replaced; that of a living one and any
/// other file, symbolic links included, are not.
///
/// The socket gets its permissions under another name, before it accepts connections: at no time do
/// others have more access than `mode` gives them.
fn unix(path: &Path, mode: u32) -> io::Result<Bound> {
    check_free(path)?;
    let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let unnamed = bind_unnamed(&socket, path)?;
    let ready = fs::set_permissions(&unnamed, Permissions::from_mode(mode))
        .and_then(|()| socket.listen(BACKLOG))
        .and_then(|()| fs::symlink_metadata(&unnamed))
        .and_then(|file| fs::rename(&unnamed, path).map(|()| (file.dev(), file.ino())));
    match ready {
        Ok(id) => Ok(Bound::Unix(socket.into(), SocketFile { path: path.to_owned(), id })),
        Err(error) => {
            fs::remove_file(&unnamed).ok();
            Err(error)
        }
    }
}

/// Checks that nothing is at the path, or only the socket of a dead process.
fn check_free(path: &Path) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !file.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "a file that is not a socket is there"));
    }
    match StdUnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Err(io::Error::new(ErrorKind::AddrInUse, "another process listens there")),
    }
}

/// Binds to a free and short name in the folder of `path`.
fn bind_unnamed(socket: &RawSocket, path: &Path) -> io::Result<PathBuf> {
    let mut attempt = std::process::id();
    loop {
        let name = path.with_file_name(format!(".{attempt:x}"));
        match socket.bind(&SockAddr::unix(&name)?) {
            Err(error)
                if error.kind() == ErrorKind::AddrInUse && attempt.abs_diff(std::process::id()) < 100 =>
            {
                attempt = attempt.wrapping_add(1);
            }
            bound => return bound.map(|()| name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty folder for the sockets of one test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tfs-sidecar-{}-{test}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let names = fs::read_dir(&self.0).unwrap();
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_socket_has_the_permissions_that_are_set_and_is_removed_with_its_listener() {
        let folder = Folder::new("mode");
        let path = folder.0.join("s.sock");
        for wanted in [0o600, 0o660, 0o666] {
            let bound = unix(&path, wanted).unwrap();
            assert_eq!(mode(&path), wanted);
            StdUnixStream::connect(&path).unwrap();
            assert_eq!(folder.names(), ["s.sock"]);
            drop(bound);
            assert!(folder.names().is_empty());
        }
    }

    #[test]
    fn the_socket_of_a_dead_process_is_replaced_and_that_of_a_living_one_is_not() {
        let folder = Folder::new("replace");
        let path = folder.0.join("s.sock");
        drop(StdUnixListener::bind(&path).unwrap());
        assert_eq!(folder.names(), ["s.sock"], "the standard library leaves its file");
        let living = unix(&path, 0o600).unwrap();
        assert_eq!(unix(&path, 0o600).unwrap_err().kind(), ErrorKind::AddrInUse);
        StdUnixStream::connect(&path).unwrap();
        // A file that took the place of ours is not ours to remove.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "kept").unwrap();
        drop(living);
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
    }

    #[test]
    fn a_file_that_is_not_a_socket_is_never_replaced() {
        let folder = Folder::new("file");
        let (file, link) = (folder.0.join("data"), folder.0.join("link"));
        fs::write(&file, "kept").unwrap();
        let stale = folder.0.join("stale.sock");
        drop(StdUnixListener::bind(&stale).unwrap());
        std::os::unix::fs::symlink(&stale, &link).unwrap();
        for path in [&file, &link, &folder.0] {
            let error = unix(path, 0o600).unwrap_err();
            assert_eq!(error.to_string(), "a file that is not a socket is there", "{}", path.display());
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && stale.exists());
        assert!(unix(&folder.0.join("absent/s.sock"), 0o600).is_err());
    }

    #[test]
    fn another_process_with_the_same_number_does_not_prevent_the_bind() {
        let folder = Folder::new("number");
        let taken = folder.0.join(format!(".{:x}", std::process::id()));
        fs::write(&taken, "kept").unwrap();
        let _bound = unix(&folder.0.join("s.sock"), 0o600).unwrap();
        assert_eq!(fs::read_to_string(&taken).unwrap(), "kept");
    }
}
