//! Classify, Regress and MultiInference requests: reads the model specs and counts the examples.
use std::cell::Cell;
use std::ops::Range;

use smallvec::SmallVec;

use super::emit::{field, respec, splice};
use super::model_spec::ModelSpec;
use super::rope::Rope;
use super::scan::{Reader, Wire, WireError, text};

/// Maximum number of tasks in a MultiInference request. TF Serving refuses duplicate signatures, so
/// real requests have a handful.
const MAX_TASKS: usize = 1024;

/// One inference: the whole request for Classify and Regress, an `InferenceTask` for
/// MultiInference.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InferTask {
    pub model_spec: ModelSpec,
    /// MultiInference only: `tensorflow/serving/classify` or `tensorflow/serving/regress`.
    pub method_name: String,
    spec_fields: SmallVec<[Range<usize>; 1]>,
    /// MultiInference only: the task's field and its payload.
    field: Option<(Range<usize>, Range<usize>)>,
}

/// A scanned request of examples.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InferView {
    pub tasks: SmallVec<[InferTask; 1]>,
    /// Number of `tensorflow.Example`s in the input, in either kind of list.
    pub examples: u64,
    /// The field number of the list that they are in. A list of the other kind replaces it.
    kind: u32,
}

impl InferView {
    /// Scans a `ClassificationRequest` or a `RegressionRequest`, which have the same fields.
    ///
    /// # Errors
    /// If the bytes are not such a message.
    pub fn scan_single(message: &Rope) -> Result<Self, WireError> {
        Self::read_single(Reader::new(message))
    }

    /// Like [`InferView::scan_single`], but reads about `fuel` fields at most.
    ///
    /// # Errors
    /// [`WireError::Unfinished`] if there are more fields.
    pub fn scan_single_within(message: &Rope, fuel: usize) -> Result<Self, WireError> {
        Self::read_single(Reader::limited(message, &Cell::new(fuel)))
    }

    fn read_single(mut reader: Reader<'_>) -> Result<Self, WireError> {
        let mut view = Self::default();
        let mut task = InferTask::default();
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => {
                    field.expect(Wire::Bytes)?;
                    task.model_spec.merge(reader.inner(&field), field.payload.clone())?;
                    task.spec_fields.push(field.span);
                }
                2 => {
                    field.expect(Wire::Bytes)?;
                    view.count_examples(reader.inner(&field))?;
                }
                _ => {}
            }
        }
        view.tasks.push(task);
        Ok(view)
    }

    /// Scans a `MultiInferenceRequest`.
    ///
    /// # Errors
    /// If the bytes are not such a message.
    pub fn scan_multi(message: &Rope) -> Result<Self, WireError> {
        Self::read_multi(Reader::new(message))
    }

    /// Like [`InferView::scan_multi`], but reads about `fuel` fields at most.
    ///
    /// # Errors
    /// [`WireError::Unfinished`] if there are more fields.
    pub fn scan_multi_within(message: &Rope, fuel: usize) -> Result<Self, WireError> {
        Self::read_multi(Reader::limited(message, &Cell::new(fuel)))
    }

    /// Bytes that the view takes beside the message.
    pub fn heap_size(&self) -> usize {
        let each = self.tasks.iter().map(|task| {
            task.model_spec.heap_size()
                + task.method_name.len()
                + task.spec_fields.len() * size_of::<Range<usize>>()
        });
        let spilled = if self.tasks.spilled() { self.tasks.len() * size_of::<InferTask>() } else { 0 };
        spilled + each.sum::<usize>()
    }

    fn read_multi(mut reader: Reader<'_>) -> Result<Self, WireError> {
        let mut view = Self::default();
        while let Some(field) = reader.next_field()? {
            match field.number {
                1 => {
                    field.expect(Wire::Bytes)?;
                    if view.tasks.len() == MAX_TASKS {
                        return Err(WireError::TooMany {
                            at: field.span.start,
                            what: "tasks",
                            limit: MAX_TASKS,
                        });
                    }
                    let mut task = InferTask {
                        field: Some((field.span.clone(), field.payload.clone())),
                        ..InferTask::default()
                    };
                    let mut inner = reader.inner(&field);
                    while let Some(part) = inner.next_field()? {
                        if part.number == 1 {
                            part.expect(Wire::Bytes)?;
                            task.model_spec.merge(inner.inner(&part), part.payload.clone())?;
                            task.spec_fields.push(part.span);
                        } else if part.number == 2 {
                            part.expect(Wire::Bytes)?;
                            task.method_name = text(&inner, &part)?;
                        }
                    }
                    view.tasks.push(task);
                }
                2 => {
                    field.expect(Wire::Bytes)?;
                    view.count_examples(reader.inner(&field))?;
                }
                _ => {}
            }
        }
        Ok(view)
    }

    /// `Input` is a oneof of `ExampleList` (1) and `ExampleListWithContext` (2). Both have the
    /// examples in field 1.
    fn count_examples(&mut self, mut input: Reader<'_>) -> Result<(), WireError> {
        while let Some(field) = input.next_field()? {
            if !matches!(field.number, 1 | 2) {
                continue;
            }
            field.expect(Wire::Bytes)?;
            if self.kind != field.number {
                (self.kind, self.examples) = (field.number, 0);
            }
            let mut list = input.inner(&field);
            while let Some(example) = list.next_field()? {
                self.examples += u64::from(example.number == 1);
            }
        }
        Ok(())
    }

    /// The request with new signature names, one for each task; `None` keeps the name.
    pub fn rewrite(&self, message: &Rope, model: Option<&str>, names: &[Option<&str>]) -> Rope {
        let mut cuts = Vec::new();
        for (task, name) in self.tasks.iter().zip(names) {
            let model = model.filter(|_| task.model_spec.renamed_from.is_some());
            if model.is_none() && name.is_none() {
                continue;
            }
            let inner = respec(message, &task.model_spec, &task.spec_fields, [model, *name]);
            match &task.field {
                None => cuts.extend(inner),
                Some((span, payload)) => {
                    cuts.push((span.clone(), field(1, splice(message, payload.clone(), inner.collect()))));
                }
            }
        }
        splice(message, 0..message.len(), cuts)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::tensorflow::Example;
    use crate::proto::tensorflow::serving::input::Kind;
    use crate::proto::tensorflow::serving::{
        ClassificationRequest, ExampleList, ExampleListWithContext, InferenceTask, Input,
        ModelSpec as ProtoSpec, MultiInferenceRequest,
    };

    fn spec(signature: &str) -> Option<ProtoSpec> {
        Some(ProtoSpec { name: "m".into(), signature_name: signature.into(), version_choice: None })
    }

    fn input(examples: usize) -> Option<Input> {
        Some(Input {
            kind: Some(Kind::ExampleList(ExampleList { examples: vec![Example::default(); examples] })),
        })
    }

    #[test]
    fn examples_are_counted_and_a_signature_name_is_rewritten() {
        let request = ClassificationRequest { model_spec: spec("wrong"), input: input(3) };
        let rope = Rope::from(request.encode_to_vec());
        let view = InferView::scan_single(&rope).unwrap();
        assert_eq!((view.examples, view.tasks[0].model_spec.effective_signature()), (3, "wrong"));
        let out = view.rewrite(&rope, None, &[Some("right")]);
        let expected = ClassificationRequest { model_spec: spec("right"), input: input(3) };
        assert_eq!(ClassificationRequest::decode(out.to_bytes()).unwrap(), expected);
    }

    #[test]
    fn repeated_input_fields_are_merged_as_in_protobuf() {
        let with_context =
            |examples| Kind::ExampleListWithContext(ExampleListWithContext { examples, context: None });
        let other = Some(Input { kind: Some(with_context(vec![Example::default(); 4])) });
        for (inputs, expected) in
            [(vec![input(2), input(1)], 3), (vec![input(2), input(0)], 2), (vec![input(2), other], 4)]
        {
            let bytes: Vec<u8> = inputs
                .into_iter()
                .flat_map(|input| ClassificationRequest { model_spec: None, input }.encode_to_vec())
                .collect();
            assert_eq!(InferView::scan_single(&Rope::from(bytes)).unwrap().examples, expected);
        }
    }

    #[test]
    fn each_multi_inference_task_can_be_renamed() {
        let task = |name: &str| InferenceTask {
            model_spec: spec(name),
            method_name: "tensorflow/serving/classify".into(),
        };
        let request = MultiInferenceRequest { tasks: vec![task("a"), task("b")], input: input(1) };
        let rope = Rope::from(request.encode_to_vec());
        let view = InferView::scan_multi(&rope).unwrap();
        assert_eq!((view.examples, view.tasks.len()), (1, 2));
        let out = view.rewrite(&rope, None, &[None, Some("other")]);
        let expected = MultiInferenceRequest { tasks: vec![task("a"), task("other")], input: input(1) };
        assert_eq!(MultiInferenceRequest::decode(out.to_bytes()).unwrap(), expected);
        assert_eq!(view.rewrite(&rope, None, &[None, None]), rope);
    }
}
