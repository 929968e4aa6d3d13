//! `explain --rest-body`: how the REST listener reads a JSON body, and what becomes of it.
use std::fmt::Write as _;

use crate::config::Config;
use crate::pipeline::json::read_predict;
use crate::pipeline::text_findings::{problems, text_findings};
use crate::repair::{self, Action, Mode, Request, report};
use crate::rest::read::{Findings, Format, Read};
use crate::rest::theirs;
use crate::signature::Signatures;
use crate::wire::PredictView;

/// What is said of a body, and whether it would be refused.
#[derive(Debug)]
pub(super) struct Explained {
    pub(super) text: String,
    pub(super) refused: bool,
}

/// Explains the body of a Predict request.
pub(super) fn explain(config: &Config, model: &str, signatures: &Signatures, body: &[u8]) -> Explained {
    let policy = config.policy(model);
    let theirs = theirs::refusal(body, signatures);
    let mut text = match &theirs {
        Some(refusal) => {
            format!("TF Serving's own REST API refuses it: {}\n", report::one_line(&refusal.lossy()))
        }
        None => "TF Serving's own REST API sends it to the model\n".to_owned(),
    };
    let (read, name) = read_predict(body, signatures, config, policy, false);
    let read = match read {
        Ok(read) => read,
        Err(findings) => {
            let mode = policy.for_signature(&name).mode;
            return unreadable(text, &findings, signatures, (&name, mode), theirs.is_some());
        }
    };
    text += &format(&read);
    let found = text_findings(&read, policy.for_signature(&name));
    let message = read.message(&spec(model, &read.signature_name));
    let view = match PredictView::scan(&message) {
        Ok(view) => view,
        // The message is our own.
        Err(error) => return Explained { text: format!("{text}{error}\n"), refused: true },
    };
    let verdict = repair::judge(&Request {
        message: &message,
        view: &view,
        signatures,
        policy,
        limits: config.request_limits(),
        raised: None,
        text: Some(&found),
    });
    // JSON is never forwarded as it came.
    text += &report::explain(&verdict, &view)
        .replace("forwarded byte for byte", "sent to the model as it was read");
    text += &super::not_sent(&verdict, &view);
    text += &super::fed(&verdict, &view);
    if verdict.mode <= Mode::Observe && theirs.is_some() {
        text += "in this mode the answer is the refusal of TF Serving\n";
    }
    Explained { text, refused: verdict.action == Action::Refuse }
}

/// A body that cannot be read.
fn unreadable(
    mut text: String,
    findings: &Findings,
    signatures: &Signatures,
    (name, mode): (&str, Mode),
    is_refused: bool,
) -> Explained {
    let _ = writeln!(text, "signature '{}', mode {mode}", report::ascii(name));
    for info in signatures.get(name).iter().flat_map(|signature| &signature.inputs) {
        let _ = writeln!(text, "  takes  {}: {} {}", report::ascii(&info.alias), info.dtype, info.shape);
    }
    let problems = problems(findings, name, signatures);
    for problem in &problems {
        let _ = writeln!(text, "  problem {}", report::one_line(&problem.for_client().to_string()));
    }
    let refused = mode > Mode::Observe;
    match (refused, is_refused) {
        (true, _) => {
            let reason = problems.first().map_or("", |problem| problem.reason.as_str());
            let _ = writeln!(text, "refused: {reason}");
        }
        (false, true) => text += "passed: the answer is the refusal of TF Serving\n",
        (false, false) => text += "passed: read as TF Serving reads it, which is silently wrong\n",
    }
    Explained { text, refused }
}

fn format(read: &Read) -> String {
    match read.format {
        Format::Row { instances, .. } => format!("read as rows (`instances`): {instances}\n"),
        Format::Column => "read as columns (`inputs`)\n".to_owned(),
    }
}

/// The encoded `ModelSpec`.
fn spec(model: &str, signature_name: &str) -> Vec<u8> {
    use prost::Message as _;
    crate::proto::tensorflow::serving::ModelSpec {
        name: model.to_owned(),
        signature_name: signature_name.to_owned(),
        ..Default::default()
    }
    .encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::{File, Settings, load};
    use crate::repair::notation;

    fn explained(body: &str, settings: &str) -> String {
        let config = load(&Settings::default(), Some(File { name: "c.yaml", text: settings })).unwrap();
        let signatures = notation::signature("k:int32[-1] x:float[-1,8]").unwrap();
        let explained = explain(&config, "m", &signatures, body.as_bytes());
        format!("{}exit code {}", explained.text, u8::from(explained.refused))
    }

    #[test]
    fn a_body_that_conforms() {
        insta::assert_snapshot!(explained(r#"{"instances": [{"k": 1, "x": [1, 2, 3, 4, 5, 6, 7, 8]}]}"#, ""), @r#"
        TF Serving's own REST API sends it to the model
        read as rows (`instances`): 1
        signature 'serving_default', mode repair
          takes  k: int32 [-1]
          takes  x: float [-1,8]
          sent   k: int32 [1]
          sent   x: float [1,8]
        conforms: sent to the model as it was read
        exit code 0
        "#);
    }

    #[test]
    fn repairs_of_the_text_and_of_shapes_are_both_said() {
        insta::assert_snapshot!(explained(r#"{"instances": {"k": 1.0, "x": [[1, 2, 3, 4, 5, 6, 7, 8]]}}"#, ""), @r#"
        TF Serving's own REST API refuses it: JSON Value: {\n    "instances": {\n        "k": 1.0,\n        "x": [[1, 2, 3, 4, 5, 6, 7, 8]]\n    }\n} Expecting 'instances' to be an list/array
        read as rows (`instances`): 1
        signature 'serving_default', mode repair
          takes  k: int32 [-1]
          takes  x: float [-1,8]
          sent   k: int32 [1]
          sent   x: float [1,1,8]
          repair request: list_of_one {...}->[{...}], for read as a list of one instance (/instances, byte 14) (MALFORMED)
          repair k: integral_floats 1.0->1, for input 'k': read as int32 (/instances/k, byte 20) (MALFORMED)
          repair x: drop_unit_dims [1,1,8]->[1,8], for input 'x': rank 3 [1,1,8], expected rank 2 [-1,8] (RANK_TOO_HIGH)
        repaired: forwarded with 3 change(s)
        exit code 0
        "#);
    }

    #[test]
    fn problems_have_their_places_beside_the_text_of_tf_serving() {
        let body = r#"{"instances": [{"k": 1.5, "x": [1, null]}]}"#;
        insta::assert_snapshot!(explained(body, ""), @r#"
        TF Serving's own REST API refuses it: Failed to process element: 0 key: k of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: 1.5 Type: Number is not of expected type: int32
        signature 'serving_default', mode repair
          takes  k: int32 [-1]
          takes  x: float [-1,8]
          problem input 'k': expected an integer for int32, got a fraction (/instances/0/k, byte 21) (CAST_INEXACT)
          problem input 'x': expected a value, got null (/instances/0/x/1, byte 35) (DTYPE_MISMATCH)
        refused: CAST_INEXACT
        exit code 1
        "#);
    }

    #[test]
    fn what_tf_serving_reads_silently_wrong_is_said_to_be_so_in_mode_observe() {
        let body = r#"{"instances": [{"k": 1, "x": [1, 2, 3, 4, 5, 6, 7, 1e39]}]}"#;
        insta::assert_snapshot!(explained(body, "defaults: {mode: observe}"), @r#"
        TF Serving's own REST API sends it to the model
        signature 'serving_default', mode observe
          takes  k: int32 [-1]
          takes  x: float [-1,8]
          problem input 'x': out of range of float (/instances/0/x/7, byte 51) (CAST_OUT_OF_RANGE)
        passed: read as TF Serving reads it, which is silently wrong
        exit code 0
        "#);
    }
}
