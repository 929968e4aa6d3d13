//! When the configured certificates expire.
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::certificates;
use crate::config::Config;

/// How long before its end a certificate is warned about.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The end of the certificates in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// The key of the configuration that names the file.
    pub setting: &'static str,
    path: PathBuf,
    pub at: SystemTime,
}

/// When the files of a configuration expire. A file that cannot be read has no expiry: using it is
/// an error already.
pub(crate) fn expiries(config: &Config) -> Vec<Expiry> {
    let listen = config.listen_tls.as_ref();
    let upstream = &config.upstream_tls;
    let files = [
        ("listen_tls.cert", listen.map(|tls| &tls.cert)),
        ("listen_tls.client_ca", listen.and_then(|tls| tls.client_ca.as_ref())),
        ("upstream_tls.ca", upstream.ca.as_ref()),
        ("upstream_tls.cert", upstream.cert.as_ref()),
    ];
    let expiry = |(setting, path): (&'static str, Option<&PathBuf>)| {
        let path = path?;
        let at = end(setting, path)?;
        Some(Expiry { setting, path: path.clone(), at })
    };
    files.into_iter().filter_map(expiry).collect()
}

/// A chain ends with the first of its certificates, a bundle of authorities with the last.
fn end(setting: &str, path: &Path) -> Option<SystemTime> {
    let found = certificates(path).ok()?;
    let ends = found.iter().filter_map(not_after);
    if setting.ends_with("cert") { ends.min() } else { ends.max() }
}

fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let certificate = Certificate::from_der(certificate).ok()?;
    Some(certificate.tbs_certificate().validity().not_after.to_system_time())
}

impl Expiry {
    /// What to tell the operator, if the end is past or near.
    pub(crate) fn warning(&self, now: SystemTime) -> Option<String> {
        let Self { setting, path, at } = self;
        let (path, date) = (path.display(), humantime::format_rfc3339_seconds(*at));
        match at.duration_since(now) {
            Err(_) => Some(format!("the certificate in `{path}` (`{setting}`) expired at {date}")),
            Ok(left) if left <= SOON => {
                let days = left.as_secs() / (24 * 60 * 60);
                Some(format!("the certificate in `{path}` (`{setting}`) expires at {date}, in {days} days"))
            }
            Ok(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ListenTls, UpstreamTls};

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
    }

    #[test]
    fn every_configured_file_has_its_end() {
        let listen = ListenTls { cert: fixture("server.pem"), key: fixture("server.key"), client_ca: None };
        let upstream = UpstreamTls {
            ca: Some(fixture("ca.pem")),
            cert: Some(fixture("absent.pem")),
            ..UpstreamTls::default()
        };
        let config = Config { listen_tls: Some(listen), upstream_tls: upstream, ..Config::default() };
        let found = expiries(&config);
        let settings: Vec<&str> = found.iter().map(|expiry| expiry.setting).collect();
        assert_eq!(settings, ["listen_tls.cert", "upstream_tls.ca"]);
        // The certificates of the tests are valid for a century.
        let years =
            found[0].at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / (365 * 24 * 60 * 60);
        assert!((140..170).contains(&years), "{years}");
        assert_eq!(expiries(&Config::default()), []);
    }

    #[test]
    fn an_end_that_is_past_or_near_is_a_warning() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        let expiry = Expiry { setting: "listen_tls.cert", path: "server.pem".into(), at };
        let day = Duration::from_secs(24 * 60 * 60);
        assert_eq!(expiry.warning(at - 15 * day), None);
        assert_eq!(
            expiry.warning(at - 3 * day).as_deref(),
            Some(
                "the certificate in `server.pem` (`listen_tls.cert`) expires at 2033-05-18T03:33:20Z, in 3 days"
            )
        );
        assert_eq!(
            expiry.warning(at + day).as_deref(),
            Some("the certificate in `server.pem` (`listen_tls.cert`) expired at 2033-05-18T03:33:20Z")
        );
    }

    #[test]
    fn a_chain_ends_with_its_first_certificate_and_a_bundle_with_its_last() {
        let folder = std::env::temp_dir().join(format!("tfs-sidecar-{}-expiry", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let both = folder.join("both.pem");
        let text = |name: &str| std::fs::read_to_string(fixture(name)).unwrap();
        std::fs::write(&both, text("ca.pem") + &text("short.pem")).unwrap();
        let [long, short] =
            ["ca.pem", "short.pem"].map(|name| end("listen_tls.cert", &fixture(name)).unwrap());
        assert!(short < long);
        assert_eq!(end("listen_tls.cert", &both), Some(short));
        assert_eq!(end("listen_tls.client_ca", &both), Some(long));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
