//! The methods that are judged, behind one interface: Predict, and those that take examples.
use std::collections::BTreeMap;

use super::batch;
use crate::fault::Fault;
use crate::models::catalog::ModelVersion;
use crate::repair::infer::{apply_infer, judge_infer};
use crate::repair::policy::ModelPolicy;
use crate::repair::text::TextFindings;
use crate::repair::{self, Cost, Limits, Mode, Plan, Verdict, apply, judge};
use crate::telemetry::metrics::Method;
use crate::wire::infer::InferView;
use crate::wire::{ModelSpec, PredictView, Rope, WireError};

/// A scanned request.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "boxing it would cost an allocation for each Predict")]
pub(super) enum Operation {
    Predict(PredictView),
    /// Classify, Regress and MultiInference: the signature's name is checked, and that there are
    /// examples.
    Infer(InferView),
}

/// A message that is no request of its method.
#[derive(Debug)]
pub(super) struct Malformed {
    pub error: WireError,
    /// The model that it names, as far as that can be read.
    pub spec: ModelSpec,
}

impl Operation {
    /// Reads about `fuel` fields at most, twice if the message is malformed. `None`: there are
    /// more.
    #[inline]
    pub(super) fn scan(method: Method, message: &Rope, fuel: usize) -> Option<Result<Self, Malformed>> {
        let scanned = match method {
            Method::MultiInference => InferView::scan_multi_within(message, fuel).map(Self::Infer),
            Method::Classify | Method::Regress => {
                InferView::scan_single_within(message, fuel).map(Self::Infer)
            }
            _ => {
                let mut view = PredictView::default();
                match view.fill_within(message, fuel) {
                    Ok(()) => return Some(Ok(Self::Predict(view))),
                    Err(error) => Err(error),
                }
            }
        };
        let error = match scanned {
            Ok(operation) => return Some(Ok(operation)),
            Err(WireError::Unfinished { .. }) => return None,
            Err(error) => error,
        };
        // A MultiInference names its model in its tasks.
        let spec = match method {
            Method::MultiInference => ModelSpec::default(),
            _ => PredictView::salvage_model_spec(message, fuel).ok()?,
        };
        Some(Err(Malformed { error, spec }))
    }

    /// Bytes that it takes beside the message.
    pub(super) fn heap_size(&self) -> usize {
        match self {
            Self::Predict(view) => view.heap_size(),
            Self::Infer(view) => view.heap_size(),
        }
    }

    /// The model that is asked for. `None` for a MultiInference without tasks, which is for TF
    /// Serving to refuse; all its tasks must name one model (`multi_inference.cc`).
    pub(super) fn model_spec(&self) -> Option<&ModelSpec> {
        match self {
            Self::Predict(view) => Some(&view.model_spec),
            Self::Infer(view) => view.tasks.first().map(|task| &task.model_spec),
        }
    }

    /// Gives the model the name that the configuration has for it. It is looked up once, so one
    /// name never leads in a circle.
    pub(super) fn rename(&mut self, names: &BTreeMap<String, String>) {
        let rename = |spec: &mut ModelSpec| {
            if let Some(new) = names.get(&spec.name) {
                spec.rename(new);
            }
        };
        match self {
            Self::Predict(view) => rename(&mut view.model_spec),
            Self::Infer(view) => view.tasks.iter_mut().for_each(|task| rename(&mut task.model_spec)),
        }
    }

    pub(super) fn predict(&self) -> Option<&PredictView> {
        match self {
            Self::Predict(view) => Some(view),
            Self::Infer(_) => None,
        }
    }

    /// The rows of a Predict request after its repairs, or the number of examples.
    pub(super) fn rows(&self, verdict: &Verdict) -> u64 {
        match self {
            Self::Predict(view) => batch::rows(view, verdict),
            Self::Infer(view) => view.examples,
        }
    }

    /// Decides on the request. `mode` is what the request itself asks for; it only makes the
    /// configured mode stricter.
    pub(super) fn judge(
        &self,
        message: &Rope,
        version: &ModelVersion,
        policy: &ModelPolicy,
        limits: Limits,
        mode: Mode,
        text: Option<&TextFindings>,
    ) -> Verdict {
        let raised = (mode > Mode::Off).then_some(mode);
        match self {
            Self::Predict(view) => judge(&repair::Request {
                message,
                view,
                signatures: &version.signatures,
                policy,
                limits,
                raised,
                text,
            }),
            Self::Infer(view) => judge_infer(view, &version.signatures, policy, raised, text),
        }
    }

    /// Bytes of values that judging may read: a multiple of this is its work.
    pub(super) fn unlike(&self, version: &ModelVersion, policy: &ModelPolicy) -> usize {
        match self {
            Self::Predict(view) => repair::unlike(view, &version.signatures, policy),
            Self::Infer(_) => 0,
        }
    }

    /// What [`Operation::apply`] will take.
    pub(super) fn cost(&self, plan: &Plan) -> Cost {
        match self {
            Self::Predict(view) => repair::cost(view, plan),
            Self::Infer(_) => Cost::default(),
        }
    }

    /// The message with the plan's steps made.
    ///
    /// # Errors
    /// A step that cannot be made, which planning rules out: a defect of the sidecar.
    pub(super) fn apply(&self, message: &Rope, plan: &Plan) -> Result<Rope, Fault> {
        match self {
            Self::Predict(view) => {
                apply(message, view, plan).map_err(|error| Fault::Internal { problem: error.to_string() })
            }
            Self::Infer(view) => Ok(apply_infer(message, view, plan)),
        }
    }
}
