//! What is known of the request that an error answers.
use crate::repair::{Action, Change, Step, Verdict};
use crate::signature::{Signature, TensorInfo};
use crate::tensor::{DataType, Shape};
use crate::wire::PredictView;

/// What the explanation of an error may use. It only borrows: nothing is computed unless an error
/// calls for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// Whether requests of several clients are run as one batch, by TensorFlow Serving or by the
    /// sidecar.
    pub batching: bool,
    /// The Predict request; `None` for other methods and where it is not known.
    pub sent: Option<Sent<'a>>,
}

/// A Predict request as TensorFlow Serving got it.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// The client's request.
    view: &'a PredictView,
    /// The repairs that were made; none for a request that was forwarded unchanged.
    steps: &'a [Step],
    /// The signature, if there is one of the requested name.
    pub(super) signature: Option<&'a Signature>,
}

/// One input of the request that TensorFlow Serving got.
#[derive(Debug)]
pub(super) struct Input<'a> {
    pub alias: &'a str,
    pub dtype: DataType,
    pub shape: &'a Shape,
    /// The dtype and shape that the client sent, if a repair changed them.
    pub repaired_from: Option<(DataType, &'a Shape)>,
    /// What the signature declares, if the input does not conform to it.
    pub declared: Option<&'a TensorInfo>,
}

impl<'a> Sent<'a> {
    /// The request that went out: the client's, with the verdict's repairs if they were applied.
    pub fn new(view: &'a PredictView, verdict: &'a Verdict) -> Self {
        let steps = match verdict.action {
            Action::Apply => verdict.plan.steps.as_slice(),
            Action::Forward | Action::Refuse => &[],
        };
        Self { view, steps, signature: verdict.signature.as_deref() }
    }

    pub(super) fn output_filter(&self) -> &'a [String] {
        &self.view.output_filter
    }

    /// The inputs that went out, in the order of the message; those that a repair added are last.
    pub(super) fn inputs(&self) -> Vec<Input<'a>> {
        let mut inputs: Vec<Option<Input<'a>>> = self
            .view
            .inputs
            .iter()
            .map(|input| Some(Input::new(&input.key, input.tensor.dtype, &input.tensor.shape)))
            .collect();
        let mut added = Vec::new();
        for step in self.steps {
            if let Change::Added { descriptor, .. } = &step.change {
                added.push(Input::new(&descriptor.key, descriptor.dtype, &descriptor.shape));
            }
            let Some(place) = step.index.and_then(|index| inputs.get_mut(index)) else { continue };
            match (&step.change, place) {
                (Change::Dropped { .. }, place) => *place = None,
                (Change::Key { new, .. }, Some(input)) => input.alias = new,
                (Change::Tensor { after, .. }, Some(input)) => {
                    input.repaired_from.get_or_insert((input.dtype, input.shape));
                    (input.dtype, input.shape) = (after.dtype, &after.shape);
                }
                _ => {}
            }
        }
        let mut inputs: Vec<Input<'a>> = inputs.into_iter().flatten().chain(added).collect();
        for input in &mut inputs {
            let (dtype, shape) = (input.dtype, input.shape);
            let declared = self.signature.and_then(|signature| signature.input(input.alias));
            input.declared = declared.filter(|info| info.dtype != dtype || !info.shape.accepts(shape));
            input.repaired_from = input.repaired_from.filter(|sent| *sent != (dtype, shape));
        }
        inputs
    }
}

impl<'a> Input<'a> {
    fn new(alias: &'a str, dtype: DataType, shape: &'a Shape) -> Self {
        Self { alias, dtype, shape, repaired_from: None, declared: None }
    }
}
