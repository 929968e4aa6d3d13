//! Who a client is, as far as its connection shows: what limits by client count under.
use std::fmt;
use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

/// The client at the other end of a connection: the name in its TLS certificate if it presented
/// one, else its IP address. All clients in a pod share the loopback address, and those of a Unix
/// socket have none, so each of their connections is a peer of its own.
///
/// Cheap to clone, compare and hash; displayed as the name or address.
#[derive(Debug, Clone)]
pub(crate) struct Peer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    key: u64,
    name: Box<str>,
    /// Whether the name is the one in a certificate.
    certified: bool,
}

/// Keyed at random, so that no client can choose a name with the key of another one.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Peer {
    /// A client that connected from this address.
    pub(crate) fn from_ip(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        let name = ip.to_string();
        match ip {
            ip if ip.is_loopback() => Self::of_connection(&name),
            // One host may use every address of its /64.
            IpAddr::V6(ip) => Self::new(("address", ip.to_bits() >> 64), &name),
            IpAddr::V4(ip) => Self::new(("address", ip), &name),
        }
    }

    /// A client that connected to a Unix socket.
    pub(crate) fn from_unix() -> Self {
        Self::of_connection("unix")
    }

    /// The sidecar itself.
    pub(crate) fn internal() -> Self {
        Self::new("internal", "tfs-sidecar")
    }

    /// The client that presented this certificate, which must have been verified. Its name is the
    /// first URI (SPIFFE) or DNS name in it; without one, clients with the same subject are one
    /// peer and are displayed by address.
    #[cfg(feature = "tls")]
    pub(crate) fn with_certificate(
        self,
        certificate: &tokio_rustls::rustls::pki_types::CertificateDer<'_>,
    ) -> Self {
        let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return self };
        match certificate.valid_uri_names().next().or_else(|| certificate.valid_dns_names().next()) {
            Some(name) => Self::with_name(("name", name), name, true),
            None => Self::new(("subject", certificate.subject()), &self.0.name),
        }
    }

    /// The name in its certificate, else its address.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// The name in its certificate.
    pub(crate) fn certified_name(&self) -> Option<&str> {
        self.0.certified.then_some(&self.0.name)
    }

    /// What stands for the peer where its name is not needed.
    pub(crate) fn key(&self) -> u64 {
        self.0.key
    }

    fn of_connection(name: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self::new(("connection", NEXT.fetch_add(1, Ordering::Relaxed)), name)
    }

    /// Connections with the same identity are the same peer.
    fn new(identity: impl Hash, name: &str) -> Self {
        Self::with_name(identity, name, false)
    }

    fn with_name(identity: impl Hash, name: &str, certified: bool) -> Self {
        Self(Arc::new(Inner { key: HASHER.hash_one(identity), name: name.into(), certified }))
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Peer {}

impl Hash for Peer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.key);
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(ip: &str) -> Peer {
        Peer::from_ip(ip.parse().unwrap())
    }

    #[test]
    fn connections_from_one_host_are_one_peer() {
        assert_eq!(peer("10.0.0.7"), peer("10.0.0.7"));
        assert_eq!(peer("10.0.0.7"), peer("::ffff:10.0.0.7"));
        assert_ne!(peer("10.0.0.7"), peer("10.0.0.8"));
        assert_eq!(peer("fd00::1"), peer("fd00::2"));
        assert_ne!(peer("fd00::1"), peer("fd00:0:0:1::1"));
        assert_eq!(peer("10.0.0.7").to_string(), "10.0.0.7");
    }

    #[test]
    fn local_connections_are_peers_of_their_own() {
        assert_ne!(peer("127.0.0.1"), peer("127.0.0.1"));
        assert_ne!(peer("::1"), peer("::1"));
        assert_ne!(Peer::from_unix(), Peer::from_unix());
        let one = peer("127.0.0.1");
        assert_eq!(one, one.clone());
    }

    #[cfg(feature = "tls")]
    #[test]
    fn the_name_in_a_certificate_replaces_the_address() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls/server.pem");
        let certificate = &crate::transport::tls::certificates(&file).unwrap()[0];
        let (one, two) = (peer("10.0.0.7"), peer("127.0.0.1"));
        let (one, two) = (one.with_certificate(certificate), two.with_certificate(certificate));
        assert_eq!(one, two);
        assert_eq!(one.to_string(), two.to_string());
        assert_eq!(one.certified_name(), Some(one.to_string().as_str()));
        assert_eq!(peer("10.0.0.7").certified_name(), None);
    }
}
