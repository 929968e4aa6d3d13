//! The files that a configuration names: whether they can be used. `check`, the start and a reload
//! ask the same.
use crate::config::{Config, Problem, profiles};
use crate::listener::admin::Access;

/// What is wrong with the certificates, keys, authorities, the token and the profiles.
pub(crate) fn problems(config: &Config) -> Vec<Problem> {
    let mut list = file_problems(config);
    if let Err(error) = Access::new(config).token() {
        list.push(Problem::new("admin_token_file", error.to_string()));
    }
    list.extend(profiles::read(&mut config.clone()));
    list
}

#[cfg(not(feature = "tls"))]
fn file_problems(_: &Config) -> Vec<Problem> {
    Vec::new()
}

/// Opens the certificates and keys, each on its own and then together.
#[cfg(feature = "tls")]
fn file_problems(config: &Config) -> Vec<Problem> {
    use crate::config::UpstreamAddr;
    use crate::transport::tls::{acceptor, authorities, certificates, connector, key};

    let mut list = Vec::new();
    if let Some(tls) = &config.listen_tls {
        let each = [
            ("cert", certificates(&tls.cert).err()),
            ("key", key(&tls.key).err()),
            ("client_ca", tls.client_ca.as_ref().and_then(|path| authorities(path).err())),
        ];
        add(&mut list, "listen_tls", each, || acceptor(tls, &[crate::transport::tls::HTTP_2]).err());
    }
    if let UpstreamAddr::Tls { host, .. } = &config.upstream {
        let tls = &config.upstream_tls;
        let each = [
            ("ca", tls.ca.as_ref().and_then(|path| authorities(path).err())),
            ("cert", tls.cert.as_ref().and_then(|path| certificates(path).err())),
            ("key", tls.key.as_ref().and_then(|path| key(path).err())),
        ];
        add(&mut list, "upstream_tls", each, || connector(tls, host).err());
    }
    list
}

/// The problems of the files of a section; if there are none, that of all of them together.
#[cfg(feature = "tls")]
fn add<E: std::fmt::Display>(
    list: &mut Vec<Problem>,
    section: &str,
    each: [(&str, Option<E>); 3],
    together: impl FnOnce() -> Option<E>,
) {
    let before = list.len();
    for (key, error) in each {
        list.extend(error.map(|error| Problem::new(format!("{section}.{key}"), error.to_string())));
    }
    if list.len() == before {
        list.extend(together().map(|error| Problem::new(section, error.to_string())));
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;
    use crate::config::load::{File, Settings, load};

    /// The problems of the files of a configuration, in which `DIR` is the folder of certificates.
    fn problems(text: &str) -> String {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls");
        let text = text.replace("DIR", folder);
        let config = load(&Settings::default(), Some(File { name: "c.yaml", text: &text }))
            .unwrap_or_else(|problems| panic!("{problems}"));
        let list = file_problems(&config);
        let lines: Vec<String> = list.iter().map(ToString::to_string).collect();
        lines.join("\n").replace(folder, "DIR")
    }

    #[test]
    fn certificates_and_keys_that_can_be_used_are_no_problem() {
        let text = "listen_tls: {cert: DIR/server.pem, key: DIR/server.key, client_ca: DIR/ca.pem}
upstream: https://tfs
upstream_tls: {ca: DIR/ca.pem, cert: DIR/client.pem, key: DIR/client.key}";
        assert_eq!(problems(text), "");
    }

    #[test]
    fn every_file_that_cannot_be_used_is_a_problem_of_its_key() {
        let text = "listen_tls: {cert: DIR/absent.pem, key: DIR/server.pem, client_ca: DIR/server.key}
upstream: https://tfs
upstream_tls: {ca: DIR, cert: DIR/README.md, key: DIR/README.md}";
        insta::assert_snapshot!(problems(text), @r"
        `listen_tls.cert`: cannot read DIR/absent.pem as PEM: I/O error: No such file or directory (os error 2)
        `listen_tls.key`: no private key in DIR/server.pem (an encrypted key cannot be used)
        `listen_tls.client_ca`: no certificate in DIR/server.key
        `upstream_tls.ca`: cannot read DIR as PEM: I/O error: Is a directory (os error 21)
        `upstream_tls.cert`: no certificate in DIR/README.md
        `upstream_tls.key`: no private key in DIR/README.md (an encrypted key cannot be used)
        ");
    }

    #[test]
    fn a_key_must_belong_to_its_certificate() {
        let text = "listen_tls: {cert: DIR/server.pem, key: DIR/client.key}
upstream: https://tfs
upstream_tls: {ca: DIR/ca.pem, cert: DIR/client.pem, key: DIR/server.key}";
        insta::assert_snapshot!(problems(text), @r"
        `listen_tls`: the key DIR/client.key does not belong to the certificate DIR/server.pem
        `upstream_tls`: the key DIR/server.key does not belong to the certificate DIR/client.pem
        ");
    }
}
