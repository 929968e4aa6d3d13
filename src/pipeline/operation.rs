//! The methods that are judged, behind one interface: Predict, and those that take examples.
use crate::fault::Fault;
use crate::models::catalog::ModelVersion;
use crate::repair::infer::{apply_infer, judge_infer};
use crate::repair::{self, Limits, Mode, Plan, Verdict, apply, judge};
use crate::telemetry::metrics::Method;
use crate::wire::infer::InferView;
use crate::wire::{ModelSpec, PredictView, Rope, WireError};

/// A scanned request.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "boxing it would cost an allocation for each Predict")]
pub(super) enum Operation {
    Predict(PredictView),
    /// Classify, Regress and MultiInference: the signature's name is checked, and that there are
    /// examples.
    Infer(InferView),
}

impl Operation {
    /// # Errors
    /// The bytes are not a request of this method.
    pub(super) fn scan(method: Method, message: &Rope) -> Result<Self, WireError> {
        match method {
            Method::MultiInference => InferView::scan_multi(message).map(Self::Infer),
            Method::Classify | Method::Regress => InferView::scan_single(message).map(Self::Infer),
            _ => PredictView::scan(message).map(Self::Predict),
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

    pub(super) fn predict(&self) -> Option<&PredictView> {
        match self {
            Self::Predict(view) => Some(view),
            Self::Infer(_) => None,
        }
    }

    /// Decides on the request. `mode` is what the request itself asks for; it only makes the
    /// configured mode stricter.
    pub(super) fn judge(
        &self,
        message: &Rope,
        version: &ModelVersion,
        limits: Limits,
        mode: Mode,
    ) -> Verdict {
        let raised = (mode > Mode::Off).then_some(mode);
        match self {
            Self::Predict(view) => judge(&repair::Request {
                message,
                view,
                signatures: &version.signatures,
                policy: &version.policy,
                limits,
                raised,
            }),
            Self::Infer(view) => judge_infer(view, &version.signatures, &version.policy, raised),
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
