//! docs/errors.md, from the reasons, the faults and the table of upstream explanations.
use std::fmt::Write as _;
use std::time::Duration;

use super::*;
use crate::explain::SECTIONS;

/// One of each; the match in `name` is what makes a new variant come here.
fn samples() -> Vec<Fault> {
    let text = "Servable not found for request: Latest(m)".to_owned();
    let problem = Problem::new(Reason::RankTooLow, "text", "rank 1 [100], expected rank 2 [-1,100]");
    vec![
        Fault::Refused {
            model: "m".into(),
            signature: "serving_default".into(),
            problems: vec![problem.hint("send shape [1,100]")],
            code: Code::InvalidArgument,
        },
        Fault::malformed("expected a field number above 0, found 0"),
        Fault::ModelUnknown { model: "m".into(), text },
        Fault::ModelUndeclared { model: "m".into() },
        Fault::TooLarge { found: 1 << 31, limit: (1 << 31) - 1 },
        Fault::QueueFull { what: "requests", setting: "limits.max_inflight_requests", limit: 1024 },
        Fault::QueueLong { waiting: 1024, limit: 1024, retry: Duration::from_millis(100) },
        Fault::TooLate { waiting: 64, wait: Duration::from_millis(250), retry: Duration::from_millis(250) },
        Fault::Deadline { during: "waiting for the upstream" },
        Fault::Draining,
        Fault::UpstreamUnavailable { address: "127.0.0.1:8500".into(), cause: "connection refused".into() },
        Fault::UpstreamReset {
            address: "127.0.0.1:8500".into(),
            cause: "stream error: INTERNAL_ERROR".into(),
            code: Code::Internal,
        },
        Fault::Upstream { code: Code::InvalidArgument, message: "what TensorFlow Serving says".into() },
        Fault::Encoding { found: "zstd".into() },
        Fault::ReloadForbidden,
        Fault::Internal { problem: "what should not happen".into() },
    ]
}

fn name(fault: &Fault) -> &'static str {
    match fault {
        Fault::Refused { .. } => "the request does not conform",
        Fault::Malformed { .. } => "the bytes are no such message",
        Fault::ModelUnknown { .. } => "TensorFlow Serving lacks the model",
        Fault::ModelUndeclared { .. } => "the sidecar may not serve it",
        Fault::TooLarge { .. } => "the message is too large",
        Fault::QueueFull { .. } => "too much is in flight",
        Fault::QueueLong { .. } => "too many wait for TensorFlow Serving",
        Fault::TooLate { .. } => "the turn would come after the deadline",
        Fault::Deadline { .. } => "the time was over",
        Fault::Draining => "the sidecar is being shut down",
        Fault::UpstreamUnavailable { .. } => "no connection to TensorFlow Serving",
        Fault::UpstreamReset { .. } => "TensorFlow Serving broke off",
        Fault::Upstream { .. } => "TensorFlow Serving refused a question",
        Fault::Encoding { .. } => "an unknown compression",
        Fault::ReloadForbidden => "reloads are not let through",
        Fault::Internal { .. } => "a defect of the sidecar",
    }
}

/// A cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn the_documentation_explains_every_error() {
    let mut text = String::from(
        "# Errors\n\nWritten by a test from `src/repair/reason.rs`, `src/fault.rs` and `src/explain`; rewrite it with `UPDATE=1 cargo test --lib`.\n\n\
         ## Reasons\n\nWhy the sidecar refuses a request: `ErrorInfo.reason` (domain `tfs-sidecar`) in `grpc-status-details-bin`, the word in capitals in the \
         message, and the label `reason` of `tfs_sidecar_rejections_total`. The code is Predict's; for Classify, Regress and MultiInference \
         `SIGNATURE_UNKNOWN` is INVALID_ARGUMENT, as TensorFlow Serving has it.\n\n| reason | code | meaning | what to do |\n|---|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let code = code_name(code_of(*reason, true));
        writeln!(text, "| `{reason}` | {code} | {} | {} |", cell(reason.about()), cell(reason.remedy()))
            .unwrap();
    }
    text.push_str("\n## Answers of the sidecar itself\n\nOne of each. Every message is one line of ASCII.\n\n| what | code | message |\n|---|---|---|\n");
    for fault in samples() {
        let message = cell(&fault.to_string());
        writeln!(
            text,
            "| {} | {} | `{}` |",
            name(&fault),
            code_name(fault.code()),
            message.replace('`', "'")
        )
        .unwrap();
    }
    text.push_str(
        "\n## Errors of TensorFlow Serving\n\nAn error that TensorFlow Serving answers keeps its code and its text. Where the text is known, what it means is put \
         behind it, with who must act: `<text> [tfs-sidecar: <meaning> (act: client)]`. The *client* is whoever sends the request, the *exporter* whoever \
         saved the model, the *platform* whoever runs TensorFlow Serving. `explain_upstream: off` in a policy switches it off; in mode `off` nothing is \
         touched. The first text that is found counts; `*` stands for anything.\n",
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
fn there_is_a_sample_of_every_reason_and_text_for_it() {
    for reason in Reason::ALL {
        assert!(reason.about().ends_with('.') && reason.remedy().ends_with('.'), "{reason}");
    }
    let mut names: Vec<_> = samples().iter().map(name).collect();
    names.dedup();
    assert_eq!(names.len(), samples().len());
}

/// As gRPC spells it.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
