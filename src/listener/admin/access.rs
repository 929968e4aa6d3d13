//! Who may change the sidecar over the admin listener: programs on this machine and those that know
//! the token, and no page of another site in a browser.
use std::fmt;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::PathBuf;

use axum::extract::{Request, State};
use axum::http::header::{ALLOW, AUTHORIZATION, FORWARDED, HOST, HeaderName, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq as _;

use super::AdminState;
use crate::config::Config;
use crate::listener::bind::Accepted;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The largest token file. Something else was configured if it is larger.
const MAX_TOKEN: u64 = 4096;

/// The other end of a connection to the admin listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    Ip(IpAddr),
    /// The permissions of the socket's file decided who connects.
    Unix,
}

/// What is demanded of a request that changes something.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    /// Read at each such request, so that a new token holds at once.
    token_file: Option<PathBuf>,
    /// Names that the `Host` of a request may have.
    hosts: Vec<String>,
}

/// Why a request may not change anything.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    text: String,
    /// What the client can do about it, for programs.
    header: Option<(HeaderName, &'static str)>,
}

/// Why the file of the token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("cannot read the token in {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the token in {} must be 1 to {MAX_TOKEN} visible ASCII characters on one line", path.display())]
    Invalid { path: PathBuf },
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl Caller {
    pub(super) fn of_connection(accepted: &Accepted) -> Self {
        match accepted {
            Accepted::Tcp(_, address) => Self::Ip(address.ip()),
            Accepted::Unix(_) => Self::Unix,
        }
    }

    /// Who sent a request; unknown if the server does not say.
    fn of(request: &Request) -> Option<Self> {
        request.extensions().get().copied()
    }

    fn is_local(self) -> bool {
        match self {
            Self::Ip(ip) => ip.to_canonical().is_loopback(),
            Self::Unix => true,
        }
    }
}

impl Access {
    pub(crate) fn new(config: &Config) -> Self {
        Self { token_file: config.admin_token_file.clone(), hosts: config.admin_hosts.clone() }
    }

    /// The token, if a file is configured.
    ///
    /// # Errors
    /// The file cannot be read, or holds no token.
    pub(crate) fn token(&self) -> Result<Option<String>, TokenError> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let mut text = String::new();
        let read =
            std::fs::File::open(path).and_then(|file| file.take(MAX_TOKEN + 2).read_to_string(&mut text));
        read.map_err(|source| TokenError::Read { path: path.clone(), source })?;
        let token = text.trim_end();
        if token.is_empty()
            || token.len() as u64 > MAX_TOKEN
            || !token.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(TokenError::Invalid { path: path.clone() });
        }
        Ok(Some(token.to_owned()))
    }

    fn check(&self, method: &Method, headers: &HeaderMap, peer: Option<Caller>) -> Result<(), Refusal> {
        if method != Method::POST {
            let text =
                "use POST (for a preStop hook of Kubernetes, which can only send GET, set `drain_listen`)";
            return Err(wrong_method("POST", text));
        }
        no_other_site(headers)?;
        if peer != Some(Caller::Unix) {
            self.check_host(headers)?;
        }
        self.check_caller(headers, peer)
    }

    /// Anyone can point a DNS name here (DNS rebinding), and a browser then takes a page of that
    /// name for ours. Nobody can do so with an IP address or `localhost`.
    fn check_host(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = text(headers, &HOST);
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let allowed = bare.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
        if allowed {
            return Ok(());
        }
        Err(forbidden("use the IP address or `localhost`, or list the name of this host in `admin_hosts`"))
    }

    fn check_caller(&self, headers: &HeaderMap, peer: Option<Caller>) -> Result<(), Refusal> {
        let token = self.token().map_err(|error| {
            tracing::warn!(%error, "a change over the admin listener is refused");
            forbidden("the sidecar cannot read its token (see its log)")
        })?;
        match (token, headers.get(AUTHORIZATION)) {
            (Some(token), Some(given)) => {
                if bearer(given.as_bytes()).is_some_and(|given| given.ct_eq(token.as_bytes()).into()) {
                    return Ok(());
                }
                Err(unauthorized("the token is wrong"))
            }
            // A proxy on this machine hides where the request came from.
            _ if peer.is_some_and(Caller::is_local) && !is_forwarded(headers) => Ok(()),
            (Some(_), None) => Err(unauthorized("send the token as `authorization: Bearer TOKEN`")),
            (None, _) => {
                Err(forbidden("changes are accepted from this machine only (others need `admin_token_file`)"))
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.text)).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// Guards the paths that change something.
pub(super) async fn guard(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    let peer = Caller::of(&request);
    let checked = state.access.load().check(request.method(), request.headers(), peer);
    pass(checked, request, next).await
}

/// Guards the only path of `drain_listen`: GET, and not from a browser, which fetches links without
/// being asked.
pub(super) async fn guard_get(request: Request, next: Next) -> Response {
    let headers = request.headers();
    // GET handlers get HEAD requests too.
    let checked = if request.method() != Method::GET {
        Err(wrong_method("GET", "use GET"))
    } else if headers.contains_key(SEC_FETCH_SITE) || headers.contains_key(ORIGIN) {
        Err(forbidden("requests from browsers are refused"))
    } else {
        Ok(())
    };
    pass(checked, request, next).await
}

async fn pass(checked: Result<(), Refusal>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let peer = Caller::of(&request).map(tracing::field::display);
    match checked {
        Ok(()) => {
            tracing::info!(path, peer, "a change over HTTP");
            next.run(request).await
        }
        Err(refusal) => {
            tracing::debug!(path, peer, reason = refusal.text, "refused a change over HTTP");
            refusal.into_response()
        }
    }
}

/// Refuses what a browser sends for a page of another site. Other programs send neither `Origin`
/// nor `Sec-Fetch-Site`.
fn no_other_site(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.get(SEC_FETCH_SITE).is_some_and(|site| site != "same-origin") {
        return Err(forbidden("requests from other sites are refused"));
    }
    if headers.contains_key(ORIGIN) {
        let of_this_host = text(headers, &ORIGIN).split_once("://").map(|(_, host)| host);
        if of_this_host != Some(text(headers, &HOST)) {
            return Err(forbidden("requests from other origins are refused"));
        }
    }
    Ok(())
}

fn forbidden(text: &str) -> Refusal {
    Refusal { status: StatusCode::FORBIDDEN, text: text.to_owned(), header: None }
}

fn unauthorized(text: &str) -> Refusal {
    let header = Some((WWW_AUTHENTICATE, "Bearer"));
    Refusal { status: StatusCode::UNAUTHORIZED, text: text.to_owned(), header }
}

fn wrong_method(allowed: &'static str, text: &str) -> Refusal {
    let header = Some((ALLOW, allowed));
    Refusal { status: StatusCode::METHOD_NOT_ALLOWED, text: text.to_owned(), header }
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED) || headers.contains_key(X_FORWARDED_FOR)
}

/// The token of `Bearer TOKEN`; the scheme has no case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Caller = Caller::Ip(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    fn remote() -> Caller {
        Caller::Ip("10.1.2.3".parse().unwrap())
    }

    /// The status of a POST with these headers; 200 if it is allowed.
    fn status(access: &Access, peer: Caller, headers: &[(&'static str, &str)]) -> u16 {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.insert(*name, value.parse().unwrap());
        }
        access.check(&Method::POST, &all, Some(peer)).map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    fn with_token(name: &str, token: &str) -> (Access, PathBuf) {
        let path = std::env::temp_dir().join(format!("tfs-sidecar-{}-{name}", std::process::id()));
        std::fs::write(&path, token).unwrap();
        (Access { token_file: Some(path.clone()), hosts: Vec::new() }, path)
    }

    #[test]
    fn without_a_token_only_this_machine_may_change_something() {
        let access = Access::default();
        let host = ("host", "10.0.0.1:8602");
        assert_eq!(status(&access, LOCAL, &[host]), 200);
        assert_eq!(status(&access, Caller::Ip("::1".parse().unwrap()), &[host]), 200);
        assert_eq!(status(&access, Caller::Ip("::ffff:127.0.0.1".parse().unwrap()), &[host]), 200);
        assert_eq!(status(&access, Caller::Unix, &[]), 200);
        assert_eq!(status(&access, remote(), &[host]), 403);
        assert_eq!(status(&access, remote(), &[host, ("authorization", "Bearer x")]), 403);
        assert_eq!(status(&access, LOCAL, &[host, ("x-forwarded-for", "10.1.2.3")]), 403);
        assert_eq!(status(&access, LOCAL, &[host, ("forwarded", "for=10.1.2.3")]), 403);
        let nobody = access.check(&Method::POST, &HeaderMap::new(), None);
        assert_eq!(nobody.unwrap_err().status, StatusCode::FORBIDDEN);
    }

    #[test]
    fn a_token_lets_others_in_and_a_new_one_holds_at_once() {
        let (access, path) = with_token("token", "s3cret\n");
        let host = ("host", "10.0.0.1:8602");
        let with = |token: &str| status(&access, remote(), &[host, ("authorization", token)]);
        assert_eq!((with("Bearer s3cret"), with("bearer s3cret")), (200, 200));
        for wrong in
            ["Bearer s3cres", "Bearer s3cre", "Bearer s3crets", "Bearer ", "Bearer", "s3cret", "Basic s3cret"]
        {
            assert_eq!(with(wrong), 401, "{wrong}");
        }
        assert_eq!(status(&access, remote(), &[host]), 401);
        // A wrong token is a mistake also from here.
        assert_eq!(status(&access, LOCAL, &[host, ("authorization", "Bearer wrong")]), 401);
        assert_eq!(status(&access, LOCAL, &[host]), 200);
        std::fs::write(&path, "another").unwrap();
        assert_eq!((with("Bearer s3cret"), with("Bearer another")), (401, 200));
        for invalid in ["", " \n", "two lines\nof it", &"x".repeat(5000)] {
            std::fs::write(&path, invalid).unwrap();
            assert!(access.token().is_err(), "{invalid}");
            assert_eq!(with("Bearer "), 403);
        }
        std::fs::remove_file(&path).unwrap();
        assert!(access.token().unwrap_err().to_string().starts_with("cannot read the token in "));
        assert_eq!(with("Bearer another"), 403, "without its file, no token is right");
    }

    #[test]
    fn a_name_that_anyone_can_point_here_is_refused() {
        let access = Access { hosts: vec!["sidecar.internal".to_owned()], ..Access::default() };
        for host in
            ["127.0.0.1", "127.0.0.1:8602", "[::1]:8602", "[::1]", "LOCALHOST:1", "Sidecar.Internal:8602"]
        {
            assert_eq!(status(&access, LOCAL, &[("host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8602",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            ":1",
            "[x]",
        ] {
            assert_eq!(status(&access, LOCAL, &[("host", host)]), 403, "{host}");
        }
        assert_eq!(status(&access, LOCAL, &[]), 403);
    }

    #[test]
    fn a_page_of_another_site_may_change_nothing() {
        let access = Access::default();
        let host = ("host", "127.0.0.1:8602");
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "http://127.0.0.1:80"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "none"),
        ] {
            assert_eq!(status(&access, LOCAL, &[host, (name, value)]), 403, "{name} {value}");
        }
        let own = [host, ("origin", "http://127.0.0.1:8602"), ("sec-fetch-site", "same-origin")];
        assert_eq!(status(&access, LOCAL, &own), 200);
        // DNS rebinding: to the browser, the attacker's name is the same origin.
        let rebound =
            [("host", "evil.example"), ("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")];
        assert_eq!(status(&access, LOCAL, &rebound), 403);
    }
}
