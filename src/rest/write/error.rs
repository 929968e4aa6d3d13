//! Error bodies and HTTP status codes.
use super::strings;

/// One thing that is wrong with a request. Everything but the text can be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detail {
    /// A reason code, such as `SHAPE_MISMATCH`.
    pub reason: Option<String>,
    /// The name of the input.
    pub input: Option<String>,
    /// A JSON pointer to the place in the body.
    pub pointer: Option<String>,
    /// The byte of the body where that is.
    pub offset: Option<u64>,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub fix: Option<String>,
}

/// The body of an error. Without details it is TF Serving's (`http_rest_api_handler.cc`).
pub fn error(text: &str, details: &[Detail]) -> Vec<u8> {
    let mut body = b"{\n    \"error\": ".to_vec();
    strings::append(&mut body, text);
    for (at, detail) in details.iter().enumerate() {
        body.extend_from_slice(if at == 0 { b",\n    \"details\": [" } else { b"," });
        body.extend_from_slice(b"\n        {");
        let Detail { reason, input, pointer, offset, text, fix } = detail;
        let mut first = true;
        let mut key = |body: &mut Vec<u8>, name: &str| {
            body.extend_from_slice(if first { b"" } else { b"," });
            body.extend_from_slice(b"\n            \"");
            body.extend_from_slice(name.as_bytes());
            body.extend_from_slice(b"\": ");
            first = false;
        };
        for (name, value) in [("reason", reason), ("input", input), ("pointer", pointer)] {
            if let Some(value) = value {
                key(&mut body, name);
                strings::append(&mut body, value);
            }
        }
        if let Some(offset) = offset {
            key(&mut body, "offset");
            body.extend_from_slice(offset.to_string().as_bytes());
        }
        key(&mut body, "text");
        strings::append(&mut body, text);
        if let Some(fix) = fix {
            key(&mut body, "fix");
            strings::append(&mut body, fix);
        }
        body.extend_from_slice(b"\n        }");
    }
    if !details.is_empty() {
        body.extend_from_slice(b"\n    ]");
    }
    body.extend_from_slice(b"\n}");
    body
}

/// The HTTP status of a gRPC code (`http_rest_api_util.cc`). Unknown codes are 500.
pub fn http_status(code: i32) -> u16 {
    match code {
        // OK
        0 => 200,
        // CANCELLED
        1 => 499,
        // INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE
        3 | 9 | 11 => 400,
        // DEADLINE_EXCEEDED
        4 => 504,
        // NOT_FOUND
        5 => 404,
        // ALREADY_EXISTS, ABORTED
        6 | 10 => 409,
        // PERMISSION_DENIED
        7 => 403,
        // RESOURCE_EXHAUSTED
        8 => 429,
        // UNIMPLEMENTED
        12 => 501,
        // UNAVAILABLE
        14 => 503,
        // UNAUTHENTICATED
        16 => 401,
        // UNKNOWN, INTERNAL, DATA_LOSS
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_without_details_is_that_of_tf_serving() {
        let body = error("a \"b\"\n\u{1}/é", &[]);
        assert_eq!(String::from_utf8(body).unwrap(), "{\n    \"error\": \"a \\\"b\\\"\\n\\u0001/é\"\n}");
    }

    #[test]
    fn details_follow_the_text_and_are_json() {
        let place = Detail {
            reason: Some("CAST_OUT_OF_RANGE".into()),
            input: Some("x".into()),
            pointer: Some("/instances/3/age".into()),
            offset: Some(17),
            text: "300 is out of range".into(),
            fix: Some("send at most 255".into()),
        };
        let short = Detail { text: "ragged".into(), ..Detail::default() };
        let body = error("wrong", &[place, short]);
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert!(body.starts_with(b"{\n    \"error\": \"wrong\",\n    \"details\": ["));
        assert_eq!(
            json,
            serde_json::json!({"error": "wrong", "details": [
                {"reason": "CAST_OUT_OF_RANGE", "input": "x", "pointer": "/instances/3/age", "offset": 17,
                 "text": "300 is out of range", "fix": "send at most 255"},
                {"text": "ragged"}
            ]})
        );
    }

    #[test]
    fn every_grpc_code_has_its_status() {
        let statuses: Vec<u16> = (0..=17).map(http_status).collect();
        let expected =
            [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401, 500];
        assert_eq!(statuses, expected);
        assert_eq!(http_status(-1), 500);
    }
}
