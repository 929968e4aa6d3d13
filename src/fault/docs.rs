//! Generates docs/errors.md from the reasons, the faults and the table of upstream explanations.
use std::fmt::Write as _;
use std::time::Duration;

use super::*;
use crate::explain::SECTIONS;
use crate::telemetry::labels::code_name;

/// One fault of each variant. Each arm returns a sample of the next variant, so that the compiler
/// asks for a sample of every new one.
fn samples() -> impl Iterator<Item = Fault> {
    let problem = Problem::new(Reason::RankTooLow, "text", "rank 1 [100], expected rank 2 [-1,100]");
    let first = Fault::Refused {
        model: "m".into(),
        signature: "serving_default".into(),
        problems: vec![problem.hint("send shape [1,100]")],
        code: Code::InvalidArgument,
        theirs: None,
    };
    std::iter::successors(Some(first), |fault| {
        Some(match fault {
            Fault::Refused { .. } => Fault::malformed("expected a field number above 0, found 0"),
            Fault::Malformed { .. } => Fault::NoModel { text: "Missing ModelSpec" },
            Fault::NoModel { .. } => Fault::ModelUnknown {
                model: "m".into(),
                text: "Servable not found for request: Latest(m)".into(),
            },
            Fault::ModelUnknown { .. } => Fault::ModelUndeclared { model: "m".into() },
            Fault::ModelUndeclared { .. } => {
                Fault::TooLarge { size: 1 << 31, limit: (1 << 31) - 1, setting: "limits.max_message_bytes" }
            }
            Fault::TooLarge { .. } => Fault::Outgrown {
                what: "the repaired message",
                size: 1 << 31,
                limit: (1 << 31) - 1,
                setting: "limits.max_message_bytes",
            },
            Fault::Outgrown { .. } => {
                Fault::QueueFull { what: "requests", setting: "limits.max_inflight_requests", limit: 1024 }
            }
            Fault::QueueFull { .. } => Fault::ShareFull {
                what: "requests",
                setting: "limits.max_inflight_requests",
                limit: 1024,
                held: 900,
            },
            Fault::ShareFull { .. } => Fault::ClientStalled {
                what: "the client read nothing of its answer for too long",
                setting: "limits.write_idle_timeout",
            },
            Fault::ClientStalled { .. } => {
                Fault::QueueLong { waiting: 1024, limit: 1024, retry: Duration::from_millis(100) }
            }
            Fault::QueueLong { .. } => {
                let wait = Duration::from_millis(250);
                Fault::TooLate { waiting: 64, wait, retry: wait }
            }
            Fault::TooLate { .. } => {
                Fault::RowsFull { rows: 1024, limit: 1024, retry: Duration::from_millis(100) }
            }
            Fault::RowsFull { .. } => {
                let wait = Duration::from_millis(250);
                Fault::RunTooLate { wait, retry: wait }
            }
            Fault::RunTooLate { .. } => Fault::Deadline { during: "waiting for the upstream" },
            Fault::Deadline { .. } => Fault::Draining,
            Fault::Draining => Fault::UpstreamUnavailable {
                address: "127.0.0.1:8500".into(),
                cause: "connection refused".into(),
            },
            Fault::UpstreamUnavailable { .. } => Fault::UpstreamLost {
                address: "127.0.0.1:8500".into(),
                cause: "connection reset by peer".into(),
            },
            Fault::UpstreamLost { .. } => Fault::UpstreamReset {
                address: "127.0.0.1:8500".into(),
                cause: "stream error: INTERNAL_ERROR".into(),
                code: Code::Internal,
            },
            Fault::UpstreamReset { .. } => Fault::Upstream {
                code: Code::InvalidArgument,
                message: "<text of TensorFlow Serving>".into(),
            },
            Fault::Upstream { .. } => Fault::MetadataTooLarge { size: 17_000, limit: 16_384 },
            Fault::MetadataTooLarge { .. } => Fault::Encoding { name: "zstd".into() },
            Fault::Encoding { .. } => Fault::BodyEncoding { name: "br".into() },
            Fault::BodyEncoding { .. } => Fault::ReloadForbidden,
            Fault::ReloadForbidden => Fault::Internal { problem: "<what went wrong>".into() },
            Fault::Internal { .. } => return None,
        })
    })
    // A chain that loops fails a test instead of never ending.
    .take(64)
}

/// Code, HTTP status, blame and retry advice, as cells of a table.
fn cells(spec: &Spec<'_>) -> String {
    let blame = format!("{:?}", spec.blame).to_lowercase();
    let retry = spec
        .retry
        .map_or_else(|| "no".into(), |delay| format!("after {}", humantime::format_duration(delay)));
    format!("{} | {} | {blame} | {retry}", code_name(spec.code), spec.http.as_u16())
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn the_documentation_explains_every_error() {
    let mut text = String::from(
        "# Errors\n\nGenerated from `src/repair/reason.rs`, `src/fault` and `src/explain`; to rewrite it, run `UPDATE=1 cargo test --lib`.\n\n\
         Every error has a gRPC code. *HTTP* is the status of the same error over HTTP, which is the one that TensorFlow Serving's REST API has for the code, except for `TOO_LARGE` and unknown encodings. *Fault* is who can fix it: the \
         *client* that sends the request, the *operator* of the sidecar, the *upstream* (TensorFlow Serving or the network before it), or the *sidecar* \
         itself, which is a bug. *Retry* is the advice in `google.rpc.RetryInfo`; *no* means that the same request is not expected to succeed later, or may \
         have run already. `google.rpc.RequestInfo` and the trailer `x-request-id` have the [id of the request](operations.md#request-ids), to find it in the log of the sidecar.\n\n\
         ## Reasons\n\nWhy the sidecar refuses a request. The reason is `ErrorInfo.reason` (domain `tfs-sidecar`) in `grpc-status-details-bin`, the word in \
         capitals in the message, and the label `reason` of `tfs_sidecar_rejections_total`. The codes are those of Predict; Classify, Regress and \
         MultiInference answer `SIGNATURE_UNKNOWN` with INVALID_ARGUMENT, as TensorFlow Serving does.\n\n\
         By default, `BATCH_MISMATCH`, `INTEGER_FOR_FLOAT` and `NOT_TRANSFORMED` are reasons of warnings: the request is forwarded, and the response says so in \
         `tfs-sidecar-warning` ([repairs.md](repairs.md#warnings)). The policies `row_agreement` and `small_ints` turn them into refusals.\n\n\
         | reason | code | HTTP | fault | retry | meaning | what to do |\n|---|---|---|---|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let cells = cells(&Spec::of(*reason));
        let (meaning, remedy) = (cell(reason.about()), cell(reason.remedy()));
        writeln!(text, "| `{reason}` | {cells} | {meaning} | {remedy} |").unwrap();
    }
    text.push_str(
        "\n## Messages of the sidecar\n\nOne example of each. Every message is one line of ASCII.\n\n\
         | message | reason | code | HTTP | fault | retry |\n|---|---|---|---|---|---|\n",
    );
    for fault in samples() {
        let message = cell(&fault.to_string()).replace('`', "'");
        let spec = fault.spec();
        let reason = spec.reason.map_or_else(String::new, |reason| format!("`{reason}`"));
        writeln!(text, "| `{message}` | {reason} | {} |", cells(&spec)).unwrap();
    }
    text.push_str(
        "\n## Errors of TensorFlow Serving\n\nAn error from TensorFlow Serving keeps its code and its text. If the text is in the tables below, the sidecar appends \
         what it means and who has to act: `<text> [tfs-sidecar: <meaning> (act: client)]`. The *client* sends the request, the *exporter* saved the model, and \
         the *platform* runs TensorFlow Serving. `explain_upstream: off` in a policy turns this off, and in mode `off` nothing is appended. The first matching \
         row wins; `*` matches anything. If the inputs of a request have different numbers of rows, the explanation also lists them with their rows, the odd \
         one first, even if no text matches.\n",
    );
    for (title, rows) in SECTIONS {
        write!(text, "\n### {title}\n\n| text | act | meaning | seen in |\n|---|---|---|---|\n").unwrap();
        for row in *rows {
            let texts: Vec<String> = row.texts.iter().map(|text| format!("`{}`", cell(text))).collect();
            let (meaning, source) = (cell(row.meaning), cell(row.source));
            writeln!(text, "| {} | {} | {meaning} | {source} |", texts.join("<br>"), row.actor).unwrap();
        }
    }
    crate::generated::assert_file("docs/errors.md", &text);
}

#[test]
fn every_reason_is_explained_in_sentences() {
    for reason in Reason::ALL {
        assert!(reason.about().ends_with('.') && reason.remedy().ends_with('.'), "{reason}");
    }
}

#[test]
fn each_variant_has_one_sample() {
    let kinds: Vec<_> = samples().map(|fault| std::mem::discriminant(&fault)).collect();
    let distinct: std::collections::HashSet<_> = kinds.iter().collect();
    assert_eq!(distinct.len(), kinds.len());
}
