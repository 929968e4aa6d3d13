//! Builds the HTTP answer: status, headers, and the body, compressed if the client asks for it.
use std::io::Write as _;

use axum::body::Body;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, CONTENT_ENCODING,
    CONTENT_TYPE, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::fault::Fault;
use crate::pipeline::offload::Offload;

/// Smaller bodies are not compressed: they fit into a packet or two.
const MIN_COMPRESSED: usize = 1 << 10;
/// Larger bodies are compressed on another thread.
const MAX_INLINE: usize = 32 << 10;

/// An answer before it is written.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// What is said of the request: repairs, warnings, its id, the version.
    pub(super) headers: HeaderMap,
    /// JSON; empty for none.
    pub(super) body: Bytes,
}

/// What the client accepts of an answer, read before its request is.
#[derive(Debug, Clone, Default)]
pub(super) struct Accepts {
    coding: Option<Coding>,
    origin: Option<HeaderValue>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
}

impl Accepts {
    /// `origins`: those that may use the API from a browser.
    pub(super) fn read(headers: &HeaderMap, origins: &[String]) -> Self {
        let values = || headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let accepted =
            |wanted: &str| values().flat_map(|value| value.split(',')).any(|item| is_accepted(item, wanted));
        let coding = if accepted("gzip") {
            Some(Coding::Gzip)
        } else if accepted("deflate") {
            Some(Coding::Deflate)
        } else {
            None
        };
        Self { coding, origin: allowed_origin(headers, origins) }
    }

    /// The answer as it goes out.
    ///
    /// # Errors
    /// The process is ending.
    pub(super) async fn respond(&self, answer: Answer, offload: &Offload) -> Result<Response<Body>, Fault> {
        let Answer { status, mut headers, body } = answer;
        self.allow(&mut headers);
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if body.len() >= MIN_COMPRESSED {
            headers.append(VARY, HeaderValue::from_static("accept-encoding"));
        }
        let body = match self.coding {
            Some(coding) if body.len() >= MIN_COMPRESSED => {
                headers.insert(CONTENT_ENCODING, coding.name());
                if body.len() <= MAX_INLINE {
                    coding.compress(&body)
                } else {
                    offload.run(move || coding.compress(&body)).await?
                }
            }
            _ => body,
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// Lets the page of a browser read the answer.
    fn allow(&self, headers: &mut HeaderMap) {
        let Some(origin) = &self.origin else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
        if origin != "*" {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
    }

    /// The answer to a browser that asks whether its page may send a request. A page of an origin
    /// that may not gets TF Serving's answer without CORS.
    pub(super) fn preflight(&self, request: &HeaderMap) -> Answer {
        let mut headers = HeaderMap::new();
        if self.origin.is_some() {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
            let asked = request.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
            let allowed = asked.unwrap_or(HeaderValue::from_static("content-type"));
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
        // `http_server.cc` looks for the scheme anywhere in the value.
        let origin = request.get(ORIGIN).and_then(|origin| origin.to_str().ok()).unwrap_or_default();
        let is_origin = origin.contains("http://") || origin.contains("https://");
        let status = if is_origin { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        Answer { status, headers, body: Bytes::new() }
    }
}

/// Whether an item of `accept-encoding`, such as `gzip;q=0.5`, accepts a coding.
fn is_accepted(item: &str, wanted: &str) -> bool {
    let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
    let refused = parameters.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0));
    name.trim().eq_ignore_ascii_case(wanted) && !refused
}

fn allowed_origin(headers: &HeaderMap, origins: &[String]) -> Option<HeaderValue> {
    if origins.iter().any(|allowed| allowed == "*") {
        return Some(HeaderValue::from_static("*"));
    }
    let origin = headers.get(ORIGIN)?;
    origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

impl Coding {
    fn name(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        })
    }

    fn compress(self, body: &[u8]) -> Bytes {
        let buffer = Vec::with_capacity(body.len() / 2);
        // Writing to memory cannot fail.
        let written = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(buffer, Compression::fast());
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(buffer, Compression::fast());
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
        };
        written.unwrap_or_default().into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    async fn answered(request: &HeaderMap, origins: &[&str], body: &'static str) -> (HeaderMap, Bytes) {
        let origins: Vec<String> = origins.iter().map(ToString::to_string).collect();
        let answer = Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::from(body) };
        let accepts = Accepts::read(request, &origins);
        let response = accepts.respond(answer, &Offload::default()).await.unwrap();
        let (head, body) = response.into_parts();
        (head.headers, axum::body::to_bytes(body, usize::MAX).await.unwrap())
    }

    #[tokio::test]
    async fn only_what_is_large_is_compressed_and_only_if_it_is_accepted() {
        let large: &'static str = "[1.0, 2.0]\n".repeat(10_000).leak();
        for (accept, coding) in [
            ("gzip", "gzip"),
            ("br, GZIP;q=0.5", "gzip"),
            ("deflate, gzip;q=0", "deflate"),
            ("identity", ""),
            ("zstd", ""),
            ("gzipped", ""),
        ] {
            let (found, body) = answered(&headers(&[("accept-encoding", accept)]), &[], large).await;
            let named = found.get(CONTENT_ENCODING).map_or("", |value| value.to_str().unwrap());
            assert_eq!(named, coding, "{accept}");
            assert_eq!(found[VARY], "accept-encoding", "{accept}: caches must not mix them");
            let mut plain = String::new();
            match coding {
                "gzip" => {
                    flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut plain).map(drop).unwrap();
                }
                "deflate" => {
                    flate2::read::ZlibDecoder::new(&body[..]).read_to_string(&mut plain).map(drop).unwrap();
                }
                _ => large.clone_into(&mut plain),
            }
            assert!(plain == large && (coding.is_empty() || body.len() < large.len() / 10));
        }
        let (found, _) = answered(&headers(&[("accept-encoding", "gzip")]), &[], "[1.0]").await;
        assert!(!found.contains_key(CONTENT_ENCODING) && !found.contains_key(VARY));
    }

    #[tokio::test]
    async fn only_pages_of_configured_origins_may_read_answers() {
        let from = |origin| headers(&[("origin", origin)]);
        let allowed = |found: &HeaderMap| {
            found.get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap().to_owned())
        };
        let (found, _) = answered(&from("https://a.example"), &["https://a.example"], "{}").await;
        assert_eq!(
            (allowed(&found), &found[VARY]),
            (Some("https://a.example".to_owned()), &HeaderValue::from_static("origin"))
        );
        let (found, _) = answered(&from("https://b.example"), &["https://a.example"], "{}").await;
        assert_eq!(allowed(&found), None);
        let (found, _) = answered(&from("https://b.example"), &["*"], "{}").await;
        assert_eq!(allowed(&found), Some("*".to_owned()));
        let (found, _) = answered(&from("https://b.example"), &[], "{}").await;
        assert_eq!(allowed(&found), None);
    }

    #[test]
    fn a_preflight_is_answered_as_by_tensorflow_serving_and_with_cors_if_configured() {
        let asks = headers(&[("origin", "https://a.example"), ("access-control-request-headers", "x-a")]);
        let allowed = Accepts::read(&asks, &["https://a.example".to_owned()]).preflight(&asks);
        assert_eq!(
            (allowed.status, &allowed.headers[ACCESS_CONTROL_ALLOW_HEADERS]),
            (StatusCode::OK, &HeaderValue::from_static("x-a"))
        );
        let refused = Accepts::read(&asks, &[]).preflight(&asks);
        assert!(refused.status == StatusCode::OK && refused.headers.is_empty());
        let null = headers(&[("origin", "null")]);
        assert_eq!(Accepts::read(&null, &[]).preflight(&null).status, StatusCode::BAD_REQUEST);
    }
}
