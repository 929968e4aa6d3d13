//! The address of a fake server, which stays reserved while the server is stopped.
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fmt, io};

use socket2::{Domain, Socket, Type};

/// On a busy machine.
const EXECUTED_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) enum Address {
    /// The socket is bound but never listens: it reserves the port while the server is stopped.
    Tcp(SocketAddr, #[expect(dead_code, reason = "held for its port")] Socket),
    Unix(PathBuf),
}

pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Address {
    /// A port of 127.0.0.1; 0 for a free one.
    pub(crate) fn tcp(port: u16) -> Self {
        let holder = bound(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        let addr = holder.local_addr().unwrap().as_socket().expect("bound to an IP address");
        Self::Tcp(addr, holder)
    }

    pub(crate) fn listen(&self) -> Listener {
        match self {
            Self::Tcp(addr, _) => {
                let socket = bound_again(*addr);
                socket.listen(1024).unwrap();
                socket.set_nonblocking(true).unwrap();
                Listener::Tcp(socket.into())
            }
            Self::Unix(path) => {
                let listener = UnixListener::bind(path).unwrap();
                listener.set_nonblocking(true).unwrap();
                Listener::Unix(listener)
            }
        }
    }

    /// Removes what a listener leaves behind.
    pub(crate) fn clean_up(&self) {
        if let Self::Unix(path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// As `--upstream` takes it.
impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr, _) => addr.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
        }
    }
}

fn bound(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// Binds where a server listened a moment ago. A process that another test starts at this time has
/// a copy of the server's socket until it executes its program.
fn bound_again(addr: SocketAddr) -> Socket {
    let since = Instant::now();
    loop {
        match bound(addr) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && since.elapsed() < EXECUTED_WITHIN => {
                std::thread::yield_now();
            }
            bound => return bound.unwrap(),
        }
    }
}
