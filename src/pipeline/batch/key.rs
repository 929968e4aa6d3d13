//! The metadata that members of a run must have in common: one caller's never carries the rows of
//! another.
use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

/// `1`: the request is not to share a run.
pub(super) const NO_BATCH: HeaderName = HeaderName::from_static("tfs-sidecar-no-batch");

/// Each differs from request to request, or says nothing about the caller.
const IGNORED: &[&str] = &[
    "content-type",
    "content-length",
    "te",
    "user-agent",
    "grpc-timeout",
    "grpc-encoding",
    "grpc-accept-encoding",
    "grpc-trace-bin",
    "grpc-tags-bin",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-request-id",
    "x-cloud-trace-context",
    "x-amzn-trace-id",
];
/// And so do those that begin so.
const IGNORED_PREFIXES: &[&str] = &["tfs-sidecar-", "x-b3-", "uber-trace-"];

/// Whether the client does not want to share a run.
pub(super) fn opts_out(headers: &HeaderMap) -> bool {
    headers.get(NO_BATCH).is_some_and(|value| matches!(value.as_bytes(), b"1" | b"true"))
}

/// Names and values, in the order in which they came.
pub(super) fn common(headers: &HeaderMap) -> SmallVec<[(&[u8], &[u8]); 4]> {
    let counts = |name: &HeaderName| {
        let name = name.as_str();
        !IGNORED.contains(&name) && !IGNORED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    let kept = headers.iter().filter(|(name, _)| counts(name));
    kept.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_tells_callers_apart_is_kept_and_what_tells_requests_apart_is_not() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let headers = headers(pairs);
            let names = common(&headers)
                .iter()
                .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
                .collect::<Vec<_>>();
            names.join(" ")
        };
        assert_eq!(
            of(&[
                ("te", "trailers"),
                ("grpc-timeout", "1S"),
                ("user-agent", "grpc-python"),
                ("traceparent", "00-1"),
                ("x-b3-spanid", "1"),
                ("x-request-id", "7"),
                ("tfs-sidecar-mode", "strict")
            ]),
            ""
        );
        assert_eq!(
            of(&[("authorization", "Bearer a"), ("x-tenant", "b"), ("te", "trailers")]),
            "authorization x-tenant"
        );
    }

    #[test]
    fn a_client_can_opt_out() {
        assert!(opts_out(&headers(&[("tfs-sidecar-no-batch", "1")])));
        assert!(!opts_out(&headers(&[("tfs-sidecar-no-batch", "0")])) && !opts_out(&headers(&[])));
    }
}
