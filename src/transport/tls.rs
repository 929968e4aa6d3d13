//! TLS for both legs: certificates read from PEM files, HTTP/2 chosen by ALPN.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, pem};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::config::{ListenTls, UpstreamTls};

const ALPN: &[u8] = b"h2";
/// Where distributions keep the authorities that a system trusts.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What is wrong with the TLS files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("expected PEM in {}: {source}", path.display())]
    Pem { path: PathBuf, source: pem::Error },
    #[error("expected at least one certificate in {}, found none", path.display())]
    NoCertificate { path: PathBuf },
    #[error("expected a name that a certificate can have, found `{name}`: {source}")]
    Name { name: String, source: InvalidDnsNameError },
    #[error("expected usable certificates: {0}")]
    Rustls(#[from] rustls::Error),
    #[error("expected usable client authorities: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("a client certificate needs both its files: expected `cert` and `key`")]
    HalfIdentity,
    #[error(
        "https needs the authorities to trust: expected `upstream_tls.ca`, found none there and none of the system"
    )]
    NoAuthorities,
}

/// Shakes hands with clients; asks for their certificate when an authority for clients is
/// configured.
pub fn acceptor(files: &ListenTls) -> Result<TlsAcceptor, TlsError> {
    let builder = match &files.client_ca {
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder(Arc::new(authorities(path)?)).build()?;
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
        None => ServerConfig::builder().with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(certificates(&files.cert)?, key(&files.key)?)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Shakes hands with TF Serving as `host`, or as the configured name.
pub fn connector(files: &UpstreamTls, host: &str) -> Result<(TlsConnector, ServerName<'static>), TlsError> {
    let system = || SYSTEM_AUTHORITIES.iter().map(Path::new).find(|path| path.exists());
    let ca = files.ca.as_deref().or_else(system).ok_or(TlsError::NoAuthorities)?;
    let builder = ClientConfig::builder().with_root_certificates(authorities(ca)?);
    let mut config = match (&files.cert, &files.key) {
        (Some(cert), Some(path)) => builder.with_client_auth_cert(certificates(cert)?, key(path)?)?,
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(TlsError::HalfIdentity),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    let name = files.domain.as_deref().unwrap_or(host).to_owned();
    let server = ServerName::try_from(name.clone()).map_err(|source| TlsError::Name { name, source })?;
    Ok((TlsConnector::from(Arc::new(config)), server))
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fail = |source| TlsError::Pem { path: path.to_owned(), source };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(fail)?.collect();
    let found = found.map_err(fail)?;
    if found.is_empty() {
        return Err(TlsError::NoCertificate { path: path.to_owned() });
    }
    Ok(found)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::Pem { path: path.to_owned(), source })
}
