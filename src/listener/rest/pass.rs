//! Passes requests on to TF Serving's own REST port, for what is not below `/v1/`.
use axum::body::Body;
use http::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::config::UpstreamAddr;
use crate::fault::Fault;

/// TF Serving's REST port.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    client: Client<HttpConnector, Body>,
    authority: Authority,
}

impl Upstream {
    /// `None` if the address is not `host:port`, which the configuration checks.
    pub(crate) fn new(address: &UpstreamAddr) -> Option<Self> {
        let UpstreamAddr::Tcp { host, port } = address else { return None };
        let authority = Authority::try_from(format!("{host}:{port}")).ok()?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Some(Self { client: Client::builder(TokioExecutor::new()).build(connector), authority })
    }

    /// Passes on a request and the beginning of its answer.
    ///
    /// # Errors
    /// The port cannot be reached, or it does not answer.
    pub(super) async fn pass(&self, request: Request<Incoming>) -> Result<Response<Body>, Fault> {
        let failed =
            |cause: String| Fault::UpstreamUnavailable { address: self.authority.to_string(), cause };
        let (mut head, body) = request.into_parts();
        let mut uri = head.uri.into_parts();
        (uri.scheme, uri.authority) = (Some(Scheme::HTTP), Some(self.authority.clone()));
        head.uri = Uri::from_parts(uri).map_err(|error| Fault::malformed(error.to_string()))?;
        head.version = Version::HTTP_11;
        drop_hop_by_hop(&mut head.headers);
        if let Ok(host) = HeaderValue::try_from(self.authority.as_str()) {
            head.headers.insert(HOST, host);
        }
        let request = Request::from_parts(head, Body::new(body));
        let mut response = self.client.request(request).await.map_err(|error| failed(error.to_string()))?;
        drop_hop_by_hop(response.headers_mut());
        *response.version_mut() = Version::default();
        Ok(response.map(Body::new))
    }
}

/// Removes what is between two neighbours only (RFC 9110, section 7.6.1).
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> =
        named.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        TRANSFER_ENCODING,
        UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ] {
        headers.remove(name);
    }
}
