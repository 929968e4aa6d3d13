//! The request that went out to TensorFlow Serving, for the explanation of its errors.
use bytes::Bytes;

use crate::explain::{Input, Sent};
use crate::repair::{Action, Change, Verdict};
use crate::signature::Signature;
use crate::tensor::DataType;
use crate::wire::{PredictView, Rope, values};

/// Strings that an explanation looks at.
const MAX_STRINGS: usize = 16;
/// And how much of each. A longer one is not looked into.
const MAX_STRING: usize = (1 << 20) + 1;

/// The client's request with the repairs of its verdict, if they were applied. It only borrows;
/// nothing is computed until an error is explained.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentRequest<'a> {
    pub(super) message: &'a Rope,
    pub(super) view: &'a PredictView,
    pub(super) verdict: &'a Verdict,
    /// Whether the request was forwarded although its inputs differ in their number of rows.
    pub(super) rows_differ: bool,
}

impl Sent for SentRequest<'_> {
    fn inputs(&self) -> Vec<Input<'_>> {
        let view = self.view.inputs.iter();
        let mut inputs: Vec<Option<Input<'_>>> = view
            .map(|input| {
                let (alias, dtype) = (input.key.as_str(), input.tensor.dtype);
                Some(Input { alias, dtype, shape: &input.tensor.shape, repaired_from: None })
            })
            .collect();
        let steps = match self.verdict.action {
            Action::Apply => self.verdict.plan.steps.as_slice(),
            Action::Forward | Action::Refuse => &[],
        };
        for step in steps {
            if let Change::Added { descriptor, .. } = &step.change {
                let (alias, dtype) = (descriptor.key.as_str(), descriptor.dtype);
                inputs.push(Some(Input { alias, dtype, shape: &descriptor.shape, repaired_from: None }));
            }
            let Some(place) = step.index.and_then(|index| inputs.get_mut(index)) else { continue };
            match (&step.change, place) {
                (Change::Dropped { .. }, place) => *place = None,
                (Change::Key { new, .. }, Some(input)) => input.alias = new,
                (Change::Tensor { after, .. }, Some(input)) => {
                    let first = *input.repaired_from.get_or_insert((input.dtype, input.shape));
                    (input.dtype, input.shape) = (after.dtype, &after.shape);
                    // A repair of the encoding alone shows in neither.
                    input.repaired_from = (first != (input.dtype, input.shape)).then_some(first);
                }
                _ => {}
            }
        }
        inputs.into_iter().flatten().collect()
    }

    fn signature(&self) -> Option<&Signature> {
        self.verdict.signature.as_deref()
    }

    fn output_filter(&self) -> &[String] {
        &self.view.output_filter
    }

    fn rows_differ(&self) -> bool {
        self.rows_differ
    }

    fn strings(&self) -> Vec<Bytes> {
        let mut inputs = self.view.inputs.iter().filter(|input| input.tensor.dtype == DataType::STRING);
        match (inputs.next(), inputs.next()) {
            (Some(only), None) => values::strings(self.message, &only.tensor, MAX_STRINGS, MAX_STRING),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::{Context, explain};
    use crate::repair::{Mode, ModelPolicy, Request, judge, notation};

    /// What is appended to an error of a request with `x` alone.
    fn appended(signature: &str, request: &str, mode: Mode) -> String {
        explained("Incompatible shapes: [1,128] vs. [1,7]", signature, request, mode)
    }

    fn explained(error: &str, signature: &str, request: &str, mode: Mode) -> String {
        let signatures = notation::signature(signature).unwrap();
        let message = notation::request("m", request).unwrap();
        let view = PredictView::scan(&message).unwrap();
        let mut policy = ModelPolicy::default();
        policy.defaults.mode = mode;
        let request = Request {
            message: &message,
            view: &view,
            signatures: &signatures,
            policy: &policy,
            limits: crate::repair::Limits::default(),
            raised: None,
            text: None,
        };
        let verdict = judge(&request);
        let sent = SentRequest { message: &message, view: &view, verdict: &verdict, rows_differ: false };
        let context = Context { batching: false, sent: Some(&sent) };
        explain(error, &context).unwrap().to_string()
    }

    #[test]
    fn the_inputs_are_those_that_went_out() {
        let declared = "x:float[-1,128]";
        let found = appended(declared, "x:double[128]", Mode::Repair);
        assert!(found.contains("; sent: x float [1,128] (repaired from double [128]) (act: "), "{found}");
        let found = appended(declared, "X:float[1,128]", Mode::Repair);
        assert!(found.contains("; sent: x float [1,128] (act: "), "{found}");
        // In mode observe the client's own request went out.
        let found = appended(declared, "x:double[128]", Mode::Observe);
        assert!(found.contains("; sent: x double [128] (signature: float [-1,128]) (act: "), "{found}");
    }

    #[test]
    fn what_was_sent_in_place_of_an_example_is_told() {
        let explained = |error, request| explained(error, "inputs:string[-1]", request, Mode::Repair);
        let found =
            explained("Could not parse example input, value: 'a/cat.jpg'", "inputs:string[1]{a/cat.jpg}");
        assert!(found.contains("; sent: a file's path; send the contents, as Examples (act: "), "{found}");
        let missing = "Name: <unknown>, Feature: age (data type: float) is required but could not be found.";
        let found = explained(missing, "inputs:string[2]{text,text}");
        assert!(found.contains("; sent: text, not a serialized Example (act: "), "{found}");
        // Two inputs of strings: nothing tells which of them is parsed.
        let two = explained(missing, "inputs:string[1] other:string[1]");
        assert!(!two.contains("sent:"), "{two}");
    }

    #[test]
    fn an_explanation_lists_the_rows_of_inputs_that_have_rows() {
        let signatures = notation::signature("a:float[-1] b:float[-1] on:bool[]").unwrap();
        let message = notation::request("m", "a:float[2] b:float[3] on:bool[]").unwrap();
        let view = PredictView::scan(&message).unwrap();
        let verdict = judge(&Request {
            message: &message,
            view: &view,
            signatures: &signatures,
            policy: &ModelPolicy::default(),
            limits: crate::repair::Limits::default(),
            raised: None,
            text: None,
        });
        let text = |error: &str, rows_differ: bool| {
            let sent = SentRequest { message: &message, view: &view, verdict: &verdict, rows_differ };
            let context = Context { batching: false, sent: Some(&sent) };
            explain(error, &context).map(|found| found.to_string())
        };
        assert_eq!(text("an op's own words", false), None);
        let found = text("an op's own words", true).unwrap();
        assert!(found.ends_with("; rows: a 2; b 3 (act: client)]"), "{found}");
        // The operator of the server cannot change the rows.
        let found = text("Server Threadpool Exhausted", true).unwrap();
        assert!(!found.contains("rows:"), "{found}");
    }
}
