//! What `explain` says about batching: whether and why a request can share a run of the model.
use std::fmt::Write as _;

use crate::batch::{Bypass, Part, declared_rows, sharable};
use crate::repair::report::ascii;
use crate::repair::{Action, Outcome, Policy, Repair, Verdict, apply};
use crate::signature::{Signature, TensorInfo};
use crate::wire::{PredictView, Rope};

/// One line: what the request brings to a run, or why it cannot share one. Nothing for a request
/// that is refused.
pub(super) fn line(verdict: &Verdict, policy: &Policy, message: &Rope, view: &PredictView) -> String {
    if verdict.action == Action::Refuse {
        return String::new();
    }
    let pad = Repair::find("pad_static_batch").is_some_and(|rule| policy.rules.contains(rule));
    let found = match &verdict.signature {
        None => Err("the request is not checked".to_owned()),
        Some(signature) => part(verdict, signature, pad, message, view)
            .map(|part| describe(signature, &part))
            .map_err(|bypass| reason(bypass, signature, pad, &view.output_filter)),
    };
    let off = "off for this signature; if it were on, the request could";
    let said = match (policy.batching.enabled, found) {
        (true, Ok(what)) => format!("can share a run ({what})"),
        (true, Err(why)) => format!("cannot share a run: {why}"),
        (false, Ok(what)) => format!("{off} share a run ({what})"),
        (false, Err(why)) => format!("{off} not share a run: {why}"),
    };
    format!("batching: {said}\n")
}

fn part(
    verdict: &Verdict,
    signature: &Signature,
    pad: bool,
    message: &Rope,
    view: &PredictView,
) -> Result<Part, Bypass> {
    sharable(signature, pad)?;
    match verdict.action {
        Action::Forward if verdict.outcome == Outcome::Conforming => Part::of(signature, message, view),
        Action::Apply => {
            let repaired = apply(message, view, &verdict.plan).map_err(|_| Bypass::NotConforming)?;
            let view = PredictView::scan(&repaired).map_err(|_| Bypass::NotConforming)?;
            Part::of(signature, &repaired, &view)
        }
        Action::Forward | Action::Refuse => Err(Bypass::NotConforming),
    }
}

/// The rows of a part, and what must be the same in the other requests.
fn describe(signature: &Signature, part: &Part) -> String {
    let mut text = format!("rows {}, key inputs", part.rows);
    for (at, input) in part.inputs.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let alias = ascii(&signature.inputs[input.index].alias);
        let value = if input.is_scalar { " with this value" } else { "" };
        write!(text, "{comma} {alias} {} {}{value}", input.dtype, input.shape)
            .expect("a string takes any text");
    }
    text
}

/// Why not, with the input or output that is the reason.
fn reason(bypass: Bypass, signature: &Signature, pad: bool, filter: &[String]) -> String {
    let input = signature.inputs.iter().find(|info| declared_rows(info, pad) == Err(bypass));
    let fixed = |info: &TensorInfo| info.shape.dims().and_then(|dims| dims.first().copied());
    match (bypass, input) {
        (Bypass::FixedBatch, Some(info)) => {
            let rows = fixed(info).unwrap_or(0);
            let hint = if rows >= 2 { " (see pad_static_batch)" } else { "" };
            format!("input {} has a fixed dim 0 of {rows}{hint}", ascii(&info.alias))
        }
        (Bypass::UnknownRank, Some(info)) => format!("input {} has an unknown rank", ascii(&info.alias)),
        (Bypass::Dtype, Some(info)) => {
            format!("input {} has dtype {}, which cannot be joined", ascii(&info.alias), info.dtype)
        }
        (Bypass::OutputWithoutRows, _) => {
            let rows = signature.inputs.iter().find_map(fixed);
            let fetched = |info: &&TensorInfo| filter.is_empty() || filter.contains(&info.alias);
            let without = |info: &&TensorInfo| !fixed(info).is_some_and(|dim| dim == -1 || Some(dim) == rows);
            let output = signature.outputs.iter().filter(fetched).find(without);
            output.map_or(bypass.text().to_owned(), |info| {
                format!("output {} does not have the rows of the inputs", ascii(&info.alias))
            })
        }
        _ => bypass.text().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::{File, Settings, load};
    use crate::repair::{self, Request, notation};
    use crate::signature::DEFAULT_SIGNATURE;

    fn said(signature: &str, request: &str, policy: &str) -> String {
        let text = format!("models: {{m: {{signatures: {{serving_default: {{{policy}}}}}}}}}");
        let config = load(&Settings::default(), Some(File { name: "c.yaml", text: &text })).unwrap();
        let message = notation::request("m", request).unwrap();
        let view = PredictView::scan(&message).unwrap();
        let signatures = notation::signature(signature).unwrap();
        let verdict = repair::judge(&Request {
            message: &message,
            view: &view,
            signatures: &signatures,
            policy: config.policy("m"),
            limits: config.request_limits(),
            raised: None,
            text: None,
        });
        line(&verdict, config.policy("m").for_signature(DEFAULT_SIGNATURE), &message, &view)
    }

    const ON: &str = "batching: {enabled: on}";

    #[test]
    fn a_request_that_can_share_a_run_says_what_others_must_have() {
        let image = "x:float[-1,128] -> y:float[-1,10]";
        for (request, rows) in [("x:float[3,128]", 3), ("x:double[128]", 1)] {
            assert_eq!(
                said(image, request, ON),
                format!("batching: can share a run (rows {rows}, key inputs x float [128])\n")
            );
        }
        assert_eq!(
            said("ids:int64[-1,-1] rate:float[] -> y:float[-1]", "ids:int64[2,5] rate:float[]", ON),
            "batching: can share a run (rows 2, key inputs ids int64 [5], rate float [] with this value)\n"
        );
    }

    #[test]
    fn a_signature_that_is_not_batched_says_so() {
        let signature = "x:float[-1,2] -> y:float[-1]";
        assert_eq!(
            said(signature, "x:float[1,2]", ""),
            "batching: off for this signature; if it were on, the request could share a run (rows 1, key inputs x float [2])\n"
        );
        assert_eq!(
            said(signature, "x:float[0,2]", ""),
            "batching: off for this signature; if it were on, the request could not share a run: the request has no rows\n"
        );
    }

    #[test]
    fn a_request_that_cannot_share_a_run_says_why() {
        for (signature, request, why) in [
            (
                "x:float[4,2] -> y:float[4]",
                "x:float[4,2]",
                "input x has a fixed dim 0 of 4 (see pad_static_batch)",
            ),
            ("x:float[1,2] -> y:float[1]", "x:float[1,2]", "input x has a fixed dim 0 of 1"),
            (
                "x:float[-1,2] z:float -> y:float[-1]",
                "x:float[1,2] z:float[1]",
                "input z has an unknown rank",
            ),
            ("x:int4[-1] -> y:float[-1]", "x:int4[1]", "input x has dtype int4, which cannot be joined"),
            (
                "x:float[-1] -> y:float[-1] mean:float[]",
                "x:float[1]",
                "output mean does not have the rows of the inputs",
            ),
            ("x:float[-1] -> mean:float[]", "x:float[1]", "output mean does not have the rows of the inputs"),
            ("rate:float[] -> y:float[-1]", "rate:float[]", "no input has rows"),
            (
                "a:float[-1] b:float[-1] -> y:float[-1]",
                "a:float[1] b:float[2]",
                "the inputs have different numbers of rows",
            ),
        ] {
            assert_eq!(said(signature, request, ON), format!("batching: cannot share a run: {why}\n"));
        }
        assert_eq!(said("x:float[-1,2] -> y:float[-1]", "x:float[1,3]", ON), "", "it is refused");
        let mode = "mode: off, batching: {enabled: on}";
        assert_eq!(
            said("x:float[-1] -> y:float[-1]", "x:float[1]", mode),
            "batching: cannot share a run: the request is not checked\n"
        );
    }

    #[test]
    fn a_short_request_for_a_fixed_batch_can_share_a_run_if_it_is_padded() {
        let policy = "rules: {pad_static_batch: on}, batching: {enabled: on}";
        assert_eq!(
            said("x:float[4,2] -> y:float[4]", "x:float[3,2]", policy),
            "batching: can share a run (rows 3, key inputs x float [2])\n"
        );
    }
}
