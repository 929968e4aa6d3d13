//! The decision on Classify, Regress and MultiInference requests: whether the signatures exist, and
//! whether there are examples.
use super::judge::{Found, Verdict, choose_signature, renamed};
use super::policy::{Mode, ModelPolicy};
use super::problem::Problem;
use super::reason::Reason;
use super::text::TextFindings;
use super::{Change, Plan};
use crate::signature::Signatures;
use crate::wire::Rope;
use crate::wire::infer::InferView;

/// Decides on a request of examples. The `index` of a step is the index of its task. `text` is what
/// was found in the text that the message was made of, if it was a text.
pub fn judge_infer(
    view: &InferView,
    signatures: &Signatures,
    policy: &ModelPolicy,
    raised: Option<Mode>,
    text: Option<&TextFindings>,
) -> Verdict {
    let mut found = Found::default();
    let mut signature = None;
    let mut checked_by = &policy.defaults;
    found.steps.extend(view.tasks.first().and_then(|task| renamed(&task.model_spec)));
    for (index, task) in view.tasks.iter().enumerate() {
        match choose_signature(&task.model_spec, signatures, policy) {
            Ok((chosen, step)) => {
                found.steps.extend(step.map(|step| super::Step { index: Some(index), ..step }));
                if signature.is_none() {
                    checked_by = policy.for_signature(&chosen.name);
                    signature = Some(chosen);
                }
            }
            Err(mut problem) => {
                if view.tasks.len() > 1 {
                    problem.what = format!("task {index}: {}", problem.what);
                }
                found.problems.push(problem);
            }
        }
    }
    if view.examples == 0 {
        let what = "Input is empty. Expected at least one tensorflow.Example";
        found.problems.push(Problem::new(Reason::NotAnExample, "", what));
    }
    found.problems.extend(text.iter().flat_map(|text| text.problems.iter().cloned()));
    let mode = raised.map_or(checked_by.mode, |raised| raised.max(checked_by.mode));
    found.verdict(signature, mode, checked_by)
}

/// The request with the names that the plan gives to its model and the signatures of its tasks.
pub fn apply_infer(message: &Rope, view: &InferView, plan: &Plan) -> Rope {
    let mut names: Vec<Option<&str>> = vec![None; view.tasks.len()];
    let model = plan.steps.iter().find_map(|step| match &step.change {
        Change::ModelName { new, .. } => Some(new.as_str()),
        _ => None,
    });
    for step in &plan.steps {
        if let (Change::SignatureName { new, .. }, Some(name)) =
            (&step.change, step.index.and_then(|at| names.get_mut(at)))
        {
            *name = Some(new);
        }
    }
    view.rewrite(message, model, &names)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::tensorflow::serving::{
        InferenceTask, Input, ModelSpec, MultiInferenceRequest, input::Kind,
    };
    use crate::repair::notation;

    #[test]
    fn a_refused_multi_inference_names_the_task() {
        let task = |signature: &str| InferenceTask {
            model_spec: Some(ModelSpec {
                name: "m".to_owned(),
                signature_name: signature.to_owned(),
                ..ModelSpec::default()
            }),
            ..InferenceTask::default()
        };
        let examples = crate::proto::tensorflow::serving::ExampleList {
            examples: vec![crate::proto::tensorflow::Example::default()],
        };
        let request = MultiInferenceRequest {
            tasks: vec![task("serving_default"), task("other")],
            input: Some(Input { kind: Some(Kind::ExampleList(examples)) }),
        };
        let message = Rope::from(request.encode_to_vec());
        let view = InferView::scan_multi(&message).unwrap();
        let signatures = notation::signature("examples:string[-1]").unwrap();
        let verdict = judge_infer(&view, &signatures, &ModelPolicy::default(), None, None);
        let texts: Vec<String> = verdict.problems.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 1, "{texts:?}");
        assert!(texts[0].starts_with("task 1: Serving signature key \"other\" not found"), "{texts:?}");
    }
}
