//! The URLs of TF Serving's REST API, as `http_rest_api_handler.cc` and `http_server.cc` of
//! TensorFlow Serving match them.
use http::Method;
use percent_encoding::percent_decode;

use crate::spelling::close;
use crate::telemetry::metrics::Method as Rpc;
use crate::wire::{ModelSpec, VersionChoice};

/// What a URL asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// `:predict`, `:classify` or `:regress` of a model.
    Run(Rpc, ModelSpec),
    Status(ModelSpec),
    Metadata(ModelSpec),
    /// The description of this API.
    OpenApi,
    /// Not below `/v1/`.
    Other,
}

/// Why a URL below `/v1/` is none of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UrlError {
    /// Nothing matches. `hint`: the URL that may be meant.
    Malformed { hint: Option<String> },
    /// `GET /v1/models`.
    NoModel,
    /// A version beyond int64.
    Version { digits: String },
    /// A name that is not UTF-8 after percent-decoding.
    Name,
}

/// The beginning of all URLs of the API, in any case.
const PREFIX: &str = "/v1/";
const OPENAPI: &str = "/v1/openapi.json";

/// Reads a URL: `path` with its query, as it was sent, still percent-encoded.
///
/// # Errors
/// The path is below `/v1/`, but the method and path are none of the API.
pub(super) fn read(method: &Method, path: &str) -> Result<Target, UrlError> {
    if !starts_with(path, PREFIX) {
        return Ok(Target::Other);
    }
    let read = match *method {
        Method::POST => read_run(path),
        Method::GET | Method::HEAD if path == OPENAPI => Some(Ok(Target::OpenApi)),
        Method::GET | Method::HEAD => read_model(path),
        _ => None,
    };
    read.unwrap_or_else(|| Err(UrlError::Malformed { hint: hint(method, path) }))
}

/// `/v1/models/NAME[/versions/DIGITS|/labels/LABEL]:VERB`.
fn read_run(path: &str) -> Option<Result<Target, UrlError>> {
    let (path, verb) = path.rsplit_once(':')?;
    // Matched in any case, but dispatched by the exact word.
    let rpc = match verb {
        "predict" => Rpc::Predict,
        "classify" => Rpc::Classify,
        "regress" => Rpc::Regress,
        _ => return None,
    };
    let path = strip(path, "/v1/models/")?;
    let (name, version) = match path.split_once('/') {
        None => (path, ""),
        Some((name, _)) => path.split_at(name.len()),
    };
    let choice = choice(version)?;
    is_name(name).then(|| Ok(Target::Run(rpc, spec(name, choice)?)))
}

/// `/v1/models[/NAME][/versions/DIGITS|/labels/LABEL][/metadata]`. Where a part can be the name
/// or the keyword, it is the name if the rest then matches.
fn read_model(path: &str) -> Option<Result<Target, UrlError>> {
    let rest = strip(path, "/v1/models")?;
    let named = rest.strip_prefix('/').and_then(|rest| {
        let (name, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let tail = tail(rest).filter(|_| is_name(name))?;
        Some((name, tail))
    });
    let Some((name, (choice, metadata))) = named else {
        return tail(rest).map(|_| Err(UrlError::NoModel));
    };
    let made = spec(name, choice).map(|mut spec| {
        if metadata {
            return Target::Metadata(spec);
        }
        if let VersionChoice::Label(_) = spec.version {
            // TF Serving answers with all versions, and does not check the label.
            spec.version = VersionChoice::Latest;
        }
        Target::Status(spec)
    });
    Some(made)
}

/// A version or label, as it is written.
enum Choice<'a> {
    Latest,
    Version(&'a str),
    Label(&'a str),
}

/// `[/versions/DIGITS|/labels/LABEL][/metadata]`; whether the last part is the exact word.
fn tail(rest: &str) -> Option<(Choice<'_>, bool)> {
    if let Some(choice) = choice(rest) {
        return Some((choice, false));
    }
    let (rest, word) = rest.rsplit_once('/')?;
    let choice = choice(rest).filter(|_| word.eq_ignore_ascii_case("metadata"))?;
    Some((choice, word == "metadata"))
}

fn choice(text: &str) -> Option<Choice<'_>> {
    if text.is_empty() {
        return Some(Choice::Latest);
    }
    if let Some(digits) = strip(text, "/versions/") {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        return is_number.then_some(Choice::Version(digits));
    }
    let label = strip(text, "/labels/")?;
    is_name(label).then_some(Choice::Label(label))
}

fn spec(name: &str, choice: Choice<'_>) -> Result<ModelSpec, UrlError> {
    let version = match choice {
        Choice::Latest => VersionChoice::Latest,
        Choice::Version(digits) => VersionChoice::Version(
            digits.parse().map_err(|_| UrlError::Version { digits: digits.to_owned() })?,
        ),
        Choice::Label(label) => VersionChoice::Label(decoded(label)?),
    };
    Ok(ModelSpec::of(decoded(name)?, version))
}

fn decoded(text: &str) -> Result<String, UrlError> {
    percent_decode(text.as_bytes()).decode_utf8().map(Into::into).map_err(|_| UrlError::Name)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(['/', ':'])
}

fn starts_with(text: &str, prefix: &str) -> bool {
    text.as_bytes().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

fn strip<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    if starts_with(text, prefix) { text.get(prefix.len()..) } else { None }
}

/// The URL that is probably meant, for common mistakes.
fn hint(method: &Method, sent: &str) -> Option<String> {
    let path = sent.split('?').next().unwrap_or_default().trim_end_matches('/');
    let lower = path.to_ascii_lowercase();
    let verb = ["predict", "classify", "regress"].into_iter().find_map(|verb| {
        let start = lower.strip_suffix(verb).and_then(|start| start.strip_suffix([':', '/']))?;
        Some(format!("{}:{verb}", &path[..start.len()]))
    });
    let verb = verb.or_else(|| {
        // Another verb of TF Serving's or of other servers.
        let (start, verb) = path.rsplit_once(':')?;
        let meant = close(verb, ["predict", "classify", "regress"]).unwrap_or("predict");
        verb.bytes().all(|byte| byte.is_ascii_alphabetic()).then(|| format!("{start}:{meant}"))
    });
    let is_model = matches!(read_model(path), Some(Ok(_)));
    let reads = verb.is_none() && is_model && matches!(*method, Method::GET | Method::HEAD);
    let run = verb.unwrap_or_else(|| format!("{path}:predict"));
    if !reads && matches!(read_run(&run), Some(Ok(_))) && (run != sent || *method != Method::POST) {
        return Some(format!("POST {run}"));
    }
    is_model.then(|| format!("GET {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every record about URLs and methods, by what a real TensorFlow Serving answered.
    #[test]
    fn urls_are_read_as_tensorflow_serving_reads_them() {
        let mut counts = [0; 4];
        for line in include_str!("../../../tests/fixtures/golden/tfs_rest_golden.jsonl").lines() {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            if !matches!(record["kind"].as_str().unwrap(), "url" | "method") {
                continue;
            }
            let (Some(method), Some(path)) = (record["method"].as_str(), record["path"].as_str()) else {
                continue;
            };
            let (Ok(method), Some(answer)) = (method.parse::<Method>(), record["responses"].get(0)) else {
                continue;
            };
            let body = answer["body"].as_str().unwrap_or_default();
            // Refused below the API: by the HTTP library.
            if body.starts_with("<HTML>") && answer["status"] != 404 || method == Method::OPTIONS {
                continue;
            }
            // The listener reads the absolute form.
            let path = path.strip_prefix("http://localhost").unwrap_or(path);
            let (id, read) = (&record["id"], read(&method, path));
            let rpc = record["grpc"]["method"].as_str().and_then(|path| path.rsplit('/').next());
            match (&read, rpc) {
                (Ok(Target::Run(found, _)), Some(rpc)) => assert_eq!(found.as_str(), rpc, "{id}"),
                // HTTP wants what GET has, without the body.
                (Ok(Target::Status(_)), None) if method == Method::HEAD => assert_eq!(answer["status"], 400),
                (Ok(Target::Status(_)), rpc) => assert_eq!(rpc, Some("GetModelStatus"), "{id}"),
                (Ok(Target::Metadata(_)), rpc) => assert_eq!(rpc, Some("GetModelMetadata"), "{id}"),
                (Ok(Target::Run(..)), None) => {
                    // Refused because of its body or its model.
                    assert!(!body.contains("Malformed request"), "{id}: {read:?} {body}");
                }
                (Ok(Target::Other), None) => assert_eq!(answer["status"], 404, "{id}"),
                (Err(UrlError::Malformed { .. }), None) => {
                    let head = method == Method::HEAD && answer["status"] == 400;
                    assert!(head || body.contains("Malformed request"), "{id}: {read:?} {body}");
                }
                (Err(UrlError::NoModel), None) => assert!(body.contains("Missing model name"), "{id}"),
                (Err(UrlError::Version { .. }), None) => assert_eq!(answer["status"], 400, "{id}"),
                (Err(UrlError::Name), _) => {}
                (read, rpc) => panic!("{id}: {read:?}, but TensorFlow Serving: {rpc:?} {body}"),
            }
            counts[match read {
                Ok(Target::Run(..)) => 0,
                Ok(Target::Other) => 1,
                Ok(_) => 2,
                Err(_) => 3,
            }] += 1;
        }
        assert_eq!(counts, [24, 20, 56, 77], "runs, other paths, models, errors");
    }

    #[test]
    fn a_wrong_url_is_answered_with_the_right_one() {
        let hint = |method: Method, path| match read(&method, path) {
            Err(UrlError::Malformed { hint }) => hint.unwrap_or_default(),
            other => panic!("{other:?}"),
        };
        for (method, path, right) in [
            (Method::POST, "/v1/models/m", "POST /v1/models/m:predict"),
            (Method::POST, "/v1/models/m:Predict", "POST /v1/models/m:predict"),
            (Method::POST, "/v1/models/m/predict", "POST /v1/models/m:predict"),
            (Method::POST, "/v1/models/m:predict/", "POST /v1/models/m:predict"),
            (Method::POST, "/v1/models/m:predict?x=1", "POST /v1/models/m:predict"),
            (Method::GET, "/v1/models/m:predict", "POST /v1/models/m:predict"),
            (Method::PUT, "/v1/models/m/versions/2:classify", "POST /v1/models/m/versions/2:classify"),
            (Method::GET, "/v1/models/m/", "GET /v1/models/m"),
            (Method::POST, "/v1/nothing", ""),
            (Method::POST, "/v1/models/m:run", "POST /v1/models/m:predict"),
            (Method::POST, "/v1/models/m:clasify", "POST /v1/models/m:classify"),
            (Method::GET, "/v1/models/m:", "POST /v1/models/m:predict"),
            (Method::POST, "/v1/nothing:run", ""),
        ] {
            assert_eq!(hint(method, path), right, "{path}");
        }
    }
}
