//! TLS towards clients and upstream: certificates from PEM files, HTTP/2 by ALPN.
mod expiry;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_native_certs::CertificateResult;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, pem};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::config::{ListenTls, UpstreamTls};
pub(crate) use expiry::{Expiry, expiries};

/// Protocols, as ALPN names them.
pub(crate) const HTTP_2: &[u8] = b"h2";
pub(crate) const HTTP_1: &[u8] = b"http/1.1";

/// What is wrong with the certificates, keys and names.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {} as PEM: {source}", path.display())]
    Pem { path: PathBuf, source: pem::Error },
    #[error("no certificate in {}", path.display())]
    NoCertificate { path: PathBuf },
    #[error("no private key in {} (an encrypted key cannot be used)", path.display())]
    NoKey { path: PathBuf },
    #[error("the key {} does not belong to the certificate {}", key.display(), cert.display())]
    Mismatch { cert: PathBuf, key: PathBuf },
    #[error("`{name}` is not a valid server name: {source}")]
    Name { name: String, source: InvalidDnsNameError },
    #[error("invalid certificate or key: {0}")]
    Rustls(#[from] rustls::Error),
    #[error("invalid client CA: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("`upstream_tls.cert` and `upstream_tls.key` must be set together")]
    HalfIdentity,
    #[error("no CA certificates found in the system's store ({cause}): set `upstream_tls.ca`")]
    NoSystemAuthorities { cause: String },
}

/// Accepts TLS connections of clients. With `client_ca` set, clients must present a certificate.
///
/// # Errors
/// A file cannot be read, holds no certificate, or holds one that cannot be used.
pub(crate) fn acceptor(files: &ListenTls, protocols: &[&[u8]]) -> Result<TlsAcceptor, TlsError> {
    let builder = match &files.client_ca {
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder(Arc::new(authorities(path)?)).build()?;
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
        None => ServerConfig::builder().with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(certificates(&files.cert)?, key(&files.key)?)
        .map_err(|error| identity_error(error, &files.cert, &files.key))?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Whether a handshake failed because the client sent something else than TLS.
pub(crate) fn is_plain_text(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)))
}

/// Connects to TF Serving over TLS. Its certificate must be valid for `host`, or for `domain` when
/// that is set, and be signed by `ca`, or by an authority that the system trusts.
///
/// # Errors
/// A file cannot be read, holds no certificate, or holds one that cannot be used; the name cannot
/// be in a certificate; the system has no authorities and `ca` is not set.
pub(crate) fn connector(
    files: &UpstreamTls,
    host: &str,
) -> Result<(TlsConnector, ServerName<'static>), TlsError> {
    let roots = match &files.ca {
        Some(path) => authorities(path)?,
        None => system_authorities(rustls_native_certs::load_native_certs())?,
    };
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match (&files.cert, &files.key) {
        (Some(cert), Some(path)) => builder
            .with_client_auth_cert(certificates(cert)?, key(path)?)
            .map_err(|error| identity_error(error, cert, path))?,
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(TlsError::HalfIdentity),
    };
    config.alpn_protocols = vec![HTTP_2.to_vec()];
    let name = files.domain.as_deref().unwrap_or(host).to_owned();
    let server = ServerName::try_from(name.clone()).map_err(|source| TlsError::Name { name, source })?;
    Ok((TlsConnector::from(Arc::new(config)), server))
}

/// The certificate authorities in a PEM file.
///
/// # Errors
/// The file cannot be read, or holds no authority that can be used.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// The authorities in the system's store. One that cannot be read or parsed is skipped, as other
/// TLS clients do.
fn system_authorities(found: CertificateResult) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (_, skipped) = roots.add_parsable_certificates(found.certs);
    let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
    if roots.is_empty() {
        let cause = if errors.is_empty() { "it is empty".to_owned() } else { errors.join("; ") };
        return Err(TlsError::NoSystemAuthorities { cause });
    }
    if skipped > 0 || !errors.is_empty() {
        tracing::debug!(skipped, errors = errors.join("; "), "skipped CA certificates of the system");
    }
    Ok(roots)
}

/// The certificates in a PEM file, at least one.
///
/// # Errors
/// The file cannot be read, or holds none.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fail = |source| TlsError::Pem { path: path.to_owned(), source };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(fail)?.collect();
    let found = found.map_err(fail)?;
    if found.is_empty() {
        return Err(TlsError::NoCertificate { path: path.to_owned() });
    }
    Ok(found)
}

/// The private key in a PEM file.
///
/// # Errors
/// The file cannot be read, or holds none.
pub(crate) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| match source {
        pem::Error::NoItemsFound => TlsError::NoKey { path: path.to_owned() },
        source => TlsError::Pem { path: path.to_owned(), source },
    })
}

fn identity_error(error: rustls::Error, cert: &Path, key: &Path) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { cert: cert.to_owned(), key: key.to_owned() }
        }
        other => TlsError::Rustls(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
    }

    fn listen(client_ca: Option<PathBuf>) -> ListenTls {
        ListenTls { cert: fixture("server.pem"), key: fixture("server.key"), client_ca }
    }

    /// Both sides of one handshake, and the protocol that they agreed on.
    async fn handshake(
        listen: &ListenTls,
        upstream: &UpstreamTls,
        host: &str,
    ) -> io::Result<Option<Vec<u8>>> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let acceptor = acceptor(listen, &[HTTP_2]).unwrap();
        let (connector, name) = connector(upstream, host).unwrap();
        let (server, client) = tokio::join!(acceptor.accept(far), connector.connect(name, near));
        // With TLS 1.3 the client is done before the server has judged its certificate.
        let server = server?;
        assert_eq!(server.get_ref().1.alpn_protocol(), client?.get_ref().1.alpn_protocol());
        Ok(server.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
    }

    #[tokio::test]
    async fn a_server_signed_by_the_configured_ca_is_trusted_and_speaks_http2() {
        let upstream = UpstreamTls { ca: Some(fixture("ca.pem")), ..UpstreamTls::default() };
        let agreed = handshake(&listen(None), &upstream, "localhost").await.unwrap();
        assert_eq!(agreed.as_deref(), Some(HTTP_2));
    }

    #[tokio::test]
    async fn the_certificate_must_be_for_the_host_or_the_configured_domain() {
        let mut upstream = UpstreamTls { ca: Some(fixture("ca.pem")), ..UpstreamTls::default() };
        handshake(&listen(None), &upstream, "other.test").await.unwrap_err();
        upstream.domain = Some("localhost".to_owned());
        handshake(&listen(None), &upstream, "other.test").await.unwrap();
    }

    #[tokio::test]
    async fn a_client_without_a_certificate_is_refused_where_one_is_demanded() {
        let listen = listen(Some(fixture("ca.pem")));
        let mut upstream = UpstreamTls { ca: Some(fixture("ca.pem")), ..UpstreamTls::default() };
        handshake(&listen, &upstream, "localhost").await.unwrap_err();
        (upstream.cert, upstream.key) = (Some(fixture("client.pem")), Some(fixture("client.key")));
        handshake(&listen, &upstream, "localhost").await.unwrap();
    }

    #[tokio::test]
    async fn a_client_without_tls_is_told_from_one_that_is_not_accepted() {
        for (sent, expected) in
            [(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], true), (&[21, 3, 3, 0, 2, 2, 48], false)]
        {
            let (mut near, far) = tokio::io::duplex(1 << 10);
            tokio::io::AsyncWriteExt::write_all(&mut near, sent).await.unwrap();
            let error = acceptor(&listen(None), &[HTTP_2]).unwrap().accept(far).await.map(drop).unwrap_err();
            assert_eq!(is_plain_text(&error), expected, "{error}");
        }
    }

    #[test]
    fn readable_certificates_of_the_system_store_are_used() {
        let mut found = CertificateResult::default();
        let error = system_authorities(CertificateResult::default()).unwrap_err().to_string();
        assert_eq!(
            error,
            "no CA certificates found in the system's store (it is empty): set `upstream_tls.ca`"
        );
        found.certs.push(CertificateDer::from(vec![1, 2, 3]));
        assert!(matches!(system_authorities(found), Err(TlsError::NoSystemAuthorities { .. })));

        let mut found = CertificateResult::default();
        found.certs = certificates(&fixture("ca.pem")).unwrap();
        found.certs.push(CertificateDer::from(vec![1, 2, 3]));
        assert_eq!(system_authorities(found).unwrap().len(), 1);
    }

    #[test]
    fn errors_name_the_file_or_setting_that_is_wrong() {
        let text =
            |upstream: &UpstreamTls, host: &str| connector(upstream, host).map(drop).unwrap_err().to_string();
        let ca = |name: &str| UpstreamTls { ca: Some(fixture(name)), ..UpstreamTls::default() };
        assert!(text(&ca("absent.pem"), "h").starts_with("cannot read "));
        assert!(text(&ca("server.key"), "h").starts_with("no certificate in "));
        assert!(text(&ca("ca.pem"), "a b").starts_with("`a b` is not a valid server name: "));
        let half = UpstreamTls { cert: Some(fixture("client.pem")), ..ca("ca.pem") };
        assert_eq!(text(&half, "h"), "`upstream_tls.cert` and `upstream_tls.key` must be set together");
        let other = UpstreamTls { key: Some(fixture("server.key")), ..half };
        assert!(text(&other, "h").contains("server.key does not belong to the certificate "));
    }
}
