//! Checks that take more than one setting.
use super::problem::Problem;
use super::{Config, ListenAddr, UpstreamAddr, UpstreamTls};

/// Settings that are each valid but contradict each other.
pub(super) fn check_together(config: &Config, problems: &mut Vec<Problem>) {
    if same_address(&config.listen, &config.admin_listen) {
        let text = format!("`listen` already uses the address `{}`", config.admin_listen);
        problems.push(Problem::new("admin_listen", text));
    }
    let mut before = vec![("listen", &config.listen), ("admin_listen", &config.admin_listen)];
    for (key, own) in [("rest_listen", &config.rest_listen), ("drain_listen", &config.drain_listen)] {
        let Some(own) = own else { continue };
        for (other, _) in before.iter().filter(|(_, address)| same_address(own, address)) {
            problems.push(Problem::new(key, format!("`{other}` already uses the address `{own}`")));
        }
        before.push((key, own));
    }
    if config.rest_listen.as_ref().is_some_and(|rest| {
        config.rest_upstream.as_ref().is_some_and(|upstream| is_own_address(rest, upstream))
    }) {
        let text = "this is the address that the sidecar itself listens on (`rest_listen`)";
        problems.push(Problem::new("rest_upstream", text));
    }
    if let Some(upstream @ (UpstreamAddr::Tls { .. } | UpstreamAddr::Unix(_))) = &config.rest_upstream {
        let text = format!("expected `host:port`, got `{upstream}`: TF Serving serves REST over plain TCP");
        problems.push(Problem::new("rest_upstream", text));
    }
    for origin in config.rest_cors.iter().filter(|origin| *origin != "*") {
        let is_origin =
            origin.split_once("://").is_some_and(|(_, host)| !host.is_empty() && !host.contains('/'));
        if !is_origin || !origin.is_ascii() {
            let text = format!("expected `*` or an origin such as `https://app.example.com`, got `{origin}`");
            problems.push(Problem::new("rest_cors", text));
        }
    }
    if is_own_address(&config.listen, &config.upstream) {
        let text = format!("`{}` is the address that the sidecar itself listens on", config.upstream);
        let hint = "change TF Serving's port (`--port`) or the sidecar's (`listen`)";
        problems.push(Problem::new("upstream", text).hint(hint));
    }
    let (tls, https) = (&config.upstream_tls, matches!(config.upstream, UpstreamAddr::Tls { .. }));
    if !https && *tls != UpstreamTls::default() {
        let text = format!("the upstream `{}` does not use TLS", config.upstream);
        let hint = "write the upstream as `https://host:port`, or remove `upstream_tls`";
        problems.push(Problem::new("upstream_tls", text).hint(hint));
    }
    // In the file the table has checked it; one of the two may also be a flag.
    let told = problems.iter().any(|problem| problem.key == "upstream_tls");
    if tls.cert.is_some() != tls.key.is_some() && !told {
        let text = "`upstream_tls.cert` and `upstream_tls.key` must be set together";
        problems.push(Problem::new("upstream_tls", text));
    }
    let collector_tls = matches!(config.otlp.endpoint, Some(UpstreamAddr::Tls { .. }));
    if cfg!(not(feature = "tls")) && collector_tls {
        problems.push(Problem::new("otlp_endpoint", "this program was built without TLS"));
    }
    for entry in config.otlp.resource.iter().flat_map(|entry| entry.split(',')) {
        if !entry.contains('=') {
            problems.push(Problem::new("otlp_resource", format!("expected `key=value`, got `{entry}`")));
        }
    }
    if cfg!(not(feature = "tls")) && (config.listen_tls.is_some() || https) {
        let key = if https { "upstream" } else { "listen_tls" };
        problems.push(Problem::new(key, "this program was built without TLS"));
    }
}

fn same_address(one: &ListenAddr, other: &ListenAddr) -> bool {
    match (one, other) {
        (ListenAddr::Tcp(one), ListenAddr::Tcp(other)) => {
            let overlap = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() != 0 && one.port() == other.port() && overlap
        }
        (one, other) => one == other,
    }
}

fn is_own_address(listen: &ListenAddr, upstream: &UpstreamAddr) -> bool {
    match (listen, upstream) {
        (ListenAddr::Unix(listen), UpstreamAddr::Unix(upstream)) => listen == upstream,
        (ListenAddr::Tcp(listen), UpstreamAddr::Tcp { host, port }) => {
            let local = host == "localhost"
                || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback() || ip == listen.ip());
            listen.port() == *port
                && local
                && (listen.ip().is_unspecified()
                    || listen.ip().is_loopback()
                    || listen.ip().to_string() == *host)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::load::{File, Setting, Settings, load};
    use crate::config::{Config, Problems};

    fn with(keys: &[(&'static str, &str)], text: &str) -> Result<Config, Problems> {
        let setting = |value: &str| Setting { value: value.to_owned(), source: "--flag".to_owned() };
        let keys = keys.iter().map(|(key, value)| (*key, setting(value))).collect();
        load(&Settings { keys, ..Settings::default() }, Some(File { name: "c.yaml", text }))
    }

    fn from(text: &str) -> Result<Config, Problems> {
        with(&[], text)
    }

    #[test]
    fn settings_that_contradict_each_other_are_problems() {
        let problem = |text: &str| from(text).unwrap_err().to_string();
        assert!(problem("listen: 0.0.0.0:8602").contains("`admin_listen`: `listen` already uses"));
        assert!(problem("upstream: localhost:8600").contains("the sidecar itself listens on"));
        let no_tls = problem("upstream_tls: {ca: /ca.pem}");
        assert!(no_tls.contains("hint: write the upstream as `https://host:port`"), "{no_tls}");
        let together = problem("listen_tls: {cert: /c.pem}");
        assert!(
            together.contains("c.yaml:1:13: `listen_tls`: `cert` and `key` must be set together"),
            "{together}"
        );
        let together = problem("upstream: https://tfs\nupstream_tls: {key: /k.pem}");
        assert!(together.contains("`upstream_tls`: `cert` and `key` must be set together"), "{together}");
        assert!(problem("listen_tls: {client_ca: /c.pem}").contains("`cert` and `key` are required"));
        assert!(problem("drain_listen: :8602").contains("`drain_listen`: `admin_listen` already uses"));
        assert!(problem("rest_listen: :8600").contains("`rest_listen`: `listen` already uses"));
        let both = problem("rest_listen: :8603\ndrain_listen: :8603");
        assert!(both.contains("`drain_listen`: `rest_listen` already uses"), "{both}");
        let own = problem("rest_listen: :8601\nrest_upstream: localhost:8601");
        assert!(own.contains("`rest_upstream`: this is the address"), "{own}");
        assert!(problem("rest_upstream: https://tfs").contains("serves REST over plain TCP"));
        assert!(problem("rest_cors: [\"https://a/b\"]").contains("got `https://a/b`"));
        assert!(problem("otlp_resource: [a=b, c]").contains("expected `key=value`, got `c`"));
        assert!(from("listen: 127.0.0.1:0\nadmin_listen: 127.0.0.1:0\n").is_ok());
        assert!(from("upstream: tfs:8600").is_ok());
    }

    #[cfg(feature = "tls")]
    #[test]
    fn an_https_upstream_needs_no_authorities_of_its_own() {
        assert_eq!(from("upstream: https://tfs").unwrap().upstream_tls.ca, None);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_flag_sets_a_key_of_upstream_tls() {
        let text = "upstream: https://tfs\nupstream_tls: {ca: /a.pem, key: /k.pem, cert: /c.pem}";
        let tls = with(&[("upstream_tls.ca", "/b.pem"), ("upstream_tls.domain", "tfs.test")], text);
        let tls = tls.unwrap().upstream_tls;
        assert_eq!((tls.ca, tls.cert), (Some("/b.pem".into()), Some("/c.pem".into())));
        assert_eq!(tls.domain.as_deref(), Some("tfs.test"));
        let half = with(&[("upstream_tls.cert", "/c.pem")], "upstream: https://tfs").unwrap_err();
        insta::assert_snapshot!(half, @r"
        the configuration has a problem
          `upstream_tls`: `upstream_tls.cert` and `upstream_tls.key` must be set together
        ");
    }
}
