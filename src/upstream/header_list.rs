//! The size of a request's metadata, as HTTP/2 counts it.
use http::Request;

/// What each field counts besides its name and value (RFC 9113, section 6.5.2).
const PER_FIELD: usize = 32;

/// The size of the header list that `request` becomes.
pub(super) fn size(request: &Request<()>) -> usize {
    let uri = request.uri();
    let pseudo = [
        (":method", request.method().as_str()),
        (":scheme", uri.scheme_str().unwrap_or_default()),
        (":authority", uri.authority().map_or("", http::uri::Authority::as_str)),
        (":path", uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str)),
    ];
    let pseudo: usize = pseudo.iter().map(|(name, value)| name.len() + value.len() + PER_FIELD).sum();
    let fields = request.headers().iter();
    pseudo + fields.map(|(name, value)| name.as_str().len() + value.len() + PER_FIELD).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_counts_with_32_bytes_more() {
        let request = Request::post("http://h:1/a/b").header("k", "value").body(()).unwrap();
        let expected = [":method POST", ":scheme http", ":authority h:1", ":path /a/b", "k value"];
        let expected: usize = expected.iter().map(|field| field.len() - 1 + 32).sum();
        assert_eq!(size(&request), expected);
    }
}
