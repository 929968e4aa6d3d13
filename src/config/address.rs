//! Addresses: where TF Serving is, and where the sidecar listens.
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// Where TF Serving serves gRPC.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpstreamAddr {
    /// Plain HTTP/2: `host:port` or `http://host:port`. An IPv6 address has no
    /// brackets here.
    Tcp { host: String, port: u16 },
    /// `unix:///path`
    Unix(PathBuf),
    /// HTTP/2 over TLS: `https://host:port`; the default port is 443.
    Tls { host: String, port: u16 },
}

/// Where the sidecar listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// `0.0.0.0:8600`, `[::]:8600`, `:8600` (all IPv4 addresses), `localhost:8600`; port 0 picks a
    /// free port.
    Tcp(SocketAddr),
    /// `unix:///path`
    Unix(PathBuf),
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("expected `host:port`, `https://host:port` or `unix:///path`, got `{got}`")]
    Upstream { got: String },
    #[error("expected `ip:port` or `unix:///path`, got `{got}`")]
    Listen { got: String },
    #[error("expected a port from 1 to 65535, got `{got}`")]
    Port { got: String },
    #[error("expected an absolute path after `unix://`, got `{got}`")]
    Path { got: String },
}

// === impl UpstreamAddr ===

impl FromStr for UpstreamAddr {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(socket_path(path)?));
        }
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            // Some clients write `grpc://`; `dns:///` is gRPC's own syntax.
            _ => (false, text.strip_prefix("grpc://").or(text.strip_prefix("dns:///")).unwrap_or(text)),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let wrong = || AddressError::Upstream { got: text.to_owned() };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let host = match host.strip_prefix('[').map(|inner| inner.strip_suffix(']')) {
            Some(Some(inner)) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(wrong()),
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        let named = !host.is_empty()
            && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'));
        if !named {
            return Err(wrong());
        }
        let port = match port {
            Some(port) => match port.parse::<u16>() {
                Ok(port) if port != 0 => port,
                _ => return Err(AddressError::Port { got: port.to_owned() }),
            },
            None if tls => 443,
            None => return Err(wrong()),
        };
        let host = host.to_owned();
        Ok(if tls { Self::Tls { host, port } } else { Self::Tcp { host, port } })
    }
}

impl fmt::Display for UpstreamAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Self::Unix(path) => return write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } => ("", host, port),
            Self::Tls { host, port } => ("https://", host, port),
        };
        if host.contains(':') {
            write!(f, "{scheme}[{host}]:{port}")
        } else {
            write!(f, "{scheme}{host}:{port}")
        }
    }
}

// === impl ListenAddr ===

impl FromStr for ListenAddr {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(socket_path(path)?));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        let wrong = || AddressError::Listen { got: text.to_owned() };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let ip = match host {
            "" | "*" => Ipv4Addr::UNSPECIFIED,
            "localhost" => Ipv4Addr::LOCALHOST,
            other => other.parse().map_err(|_| wrong())?,
        };
        let port = port.parse().map_err(|_| AddressError::Port { got: port.to_owned() })?;
        Ok(Self::Tcp(SocketAddr::new(IpAddr::V4(ip), port)))
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// `unix:///run/x.sock`, or `unix:/run/x.sock` as in gRPC.
fn socket_path(text: &str) -> Result<PathBuf, AddressError> {
    let path = text.strip_prefix("//").unwrap_or(text);
    if path.len() > 1 && path.starts_with('/') {
        Ok(PathBuf::from(path))
    } else {
        Err(AddressError::Path { got: format!("unix:{text}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_addresses_are_parsed_and_printed() {
        for (text, shown) in [
            ("127.0.0.1:8500", "127.0.0.1:8500"),
            ("http://tfs.models.svc:8500/", "tfs.models.svc:8500"),
            ("dns:///tfs:8500", "tfs:8500"),
            ("[::1]:8500", "[::1]:8500"),
            ("https://tfs.example", "https://tfs.example:443"),
            ("https://[::1]:8443", "https://[::1]:8443"),
            ("unix:///run/tfs/grpc.sock", "unix:///run/tfs/grpc.sock"),
            ("unix:/run/tfs/grpc.sock", "unix:///run/tfs/grpc.sock"),
        ] {
            let address: UpstreamAddr = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
    }

    #[test]
    fn invalid_upstream_addresses_are_refused() {
        for text in [
            "",
            "8500",
            "tfs",
            "tfs:",
            "tfs:0",
            "tfs:65536",
            "::1:8500",
            "[x]:1",
            "a b:1",
            "http://a/b:1",
            "unix:x",
        ] {
            assert!(text.parse::<UpstreamAddr>().is_err(), "{text}");
        }
        assert_eq!("tfs:0".parse::<UpstreamAddr>(), Err(AddressError::Port { got: "0".to_owned() }));
    }

    #[test]
    fn listen_addresses_are_parsed_and_printed() {
        for (text, shown) in [
            ("0.0.0.0:8600", "0.0.0.0:8600"),
            (":8600", "0.0.0.0:8600"),
            ("localhost:0", "127.0.0.1:0"),
            ("[::]:8600", "[::]:8600"),
            ("unix:///run/s.sock", "unix:///run/s.sock"),
        ] {
            let address: ListenAddr = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
        for text in ["8600", "tfs:8600", "127.0.0.1:x", "unix://"] {
            assert!(text.parse::<ListenAddr>().is_err(), "{text}");
        }
    }
}
