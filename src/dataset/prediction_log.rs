//! Reads `PredictionLog` messages (`prediction_log.proto`): TF Serving's request log, and the
//! warm-up file of a model.
use super::Fault;
use super::collect::{Collector, Side, has_numbers};
use super::example::{Buffers, row, wire};
use super::table::Table;
use crate::tensor::{Cast, Class, DataType, Exactness};
use crate::wire::scan::{Reader, Wire};
use crate::wire::values::{Carrier, Stop, strings};
use crate::wire::{InputView, PredictView, Rope, reply::ReplyView, values};

/// The members of `PredictionLog.log_type`.
const CLASSIFY_LOG: u32 = 2;
const REGRESS_LOG: u32 = 3;
const MULTI_INFERENCE_LOG: u32 = 4;
const SESSION_RUN_LOG: u32 = 5;
const PREDICT_LOG: u32 = 6;
/// `request` and `response` in each of them.
const REQUEST: u32 = 1;
const RESPONSE: u32 = 2;
/// `input` in the requests of Classify, Regress and MultiInference.
const INPUT: u32 = 2;
/// `Input.example_list`, `Input.example_list_with_context`, and `examples` in both.
const EXAMPLE_LIST: u32 = 1;
const EXAMPLE_LIST_WITH_CONTEXT: u32 = 2;
const EXAMPLES: u32 = 1;
/// Elements of a tensor. A message may claim more than it has values: the last one is repeated.
const MAX_ELEMENTS: u64 = 1 << 28;
/// Strings of a tensor.
const MAX_TEXTS: usize = 1 << 20;

/// Whether a record is one of these: `tf.Example` has none of their fields.
pub(super) fn is_log(message: &Rope) -> bool {
    let mut reader = Reader::new(message);
    while let Ok(Some(field)) = reader.next_field() {
        if field.wire == Wire::Bytes && (CLASSIFY_LOG..=PREDICT_LOG).contains(&field.number) {
            return true;
        }
    }
    false
}

/// Adds the inputs and outputs of a log.
pub(super) fn read(message: &Rope, collector: &mut Collector, buffers: &mut Buffers) -> Result<(), Fault> {
    let mut reader = Reader::new(message);
    while let Some(log) = reader.next_field().map_err(wire)? {
        if log.wire != Wire::Bytes {
            continue;
        }
        match log.number {
            PREDICT_LOG => {
                let mut parts = reader.inner(&log);
                while let Some(part) = parts.next_field().map_err(wire)? {
                    let of = message.slice(part.payload.clone());
                    match (part.number, part.wire) {
                        (REQUEST, Wire::Bytes) => {
                            let view = PredictView::scan(&of).map_err(wire)?;
                            tensors(&of, &view.inputs, Side::Input, collector)?;
                        }
                        (RESPONSE, Wire::Bytes) => {
                            let view = ReplyView::scan(&of).map_err(wire)?;
                            tensors(&of, &view.outputs, Side::Output, collector)?;
                        }
                        _ => {}
                    }
                }
            }
            CLASSIFY_LOG | REGRESS_LOG | MULTI_INFERENCE_LOG => {
                examples(message, reader.inner(&log), collector, buffers)?;
            }
            SESSION_RUN_LOG => {
                return Err(Fault::new("requests to SessionService are not read"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn tensors(message: &Rope, views: &[InputView], side: Side, collector: &mut Collector) -> Result<(), Fault> {
    for view in views {
        let named = |fault: Fault| Fault::new(format!("`{}`: {fault}", view.key.escape_debug()));
        tensor(message, view, side, collector).map_err(named)?;
    }
    Ok(())
}

fn tensor(message: &Rope, view: &InputView, side: Side, collector: &mut Collector) -> Result<(), Fault> {
    let dtype = view.tensor.dtype;
    let shape: Vec<u64> = view.tensor.shape.iter().map(|dim| u64::try_from(*dim).unwrap_or(0)).collect();
    let elements = shape.iter().try_fold(1_u64, |all, dim| all.checked_mul(*dim));
    let elements = elements
        .filter(|elements| *elements <= MAX_ELEMENTS)
        .ok_or_else(|| Fault::new(format!("too many elements (limit {MAX_ELEMENTS})")))?;
    if !has_numbers(dtype) && dtype != DataType::STRING {
        // Outputs of other dtypes are no mistake, and there is nothing to say about them.
        return Ok(());
    }
    let tensor = collector.tensor(side, &view.key, dtype, &shape)?;
    tensor.add_rows(shape.first().copied().unwrap_or(1));
    if dtype.info().is_some_and(|info| info.class == Class::String) {
        let all = strings(message, &view.tensor, MAX_TEXTS.min(elements as usize), usize::MAX);
        for text in &all {
            tensor.add_text(text);
        }
        return Ok(());
    }
    let Some((cast, list)) = Cast::new(dtype, DataType::DOUBLE, Exactness::Round).zip(dtype.info()) else {
        return Ok(());
    };
    let carrier = match &view.tensor.content {
        Some(content) if !content.is_empty() => Carrier::Content { size: cast.from_size() },
        _ => Carrier::List(list.list),
    };
    let width = match carrier {
        Carrier::Content { size } => size,
        Carrier::List(list) => values::width(list),
    };
    let (mut narrow, mut doubles, mut numbers, mut at) = (Vec::new(), Vec::new(), Vec::new(), 0_u64);
    let mut last = 0.0;
    let read = values::read::<Fault>(message, &view.tensor, carrier, &mut |bytes| {
        doubles.clear();
        // A list may be wider than the dtype: int8 is in `int_val`, four bytes each.
        if width == cast.from_size() {
            cast.convert(bytes, &mut doubles);
        } else {
            narrow.clear();
            bytes.chunks_exact(width).for_each(|value| {
                narrow.extend_from_slice(value.get(..cast.from_size()).unwrap_or_default());
            });
            cast.convert(&narrow, &mut doubles);
        }
        numbers.clear();
        numbers.extend(doubles.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)));
        numbers.truncate((elements - at.min(elements)) as usize);
        tensor.add(at, &numbers);
        at += numbers.len() as u64;
        last = numbers.last().copied().unwrap_or(last);
        Ok(())
    });
    match read {
        Ok(()) => {}
        Err(Stop::Wire(error)) => return Err(wire(error)),
        Err(Stop::Sink(fault)) => return Err(fault),
    }
    // `Tensor::FromProto` repeats the last value (`tensor.cc`), or has zeros if there is none.
    while at < elements {
        numbers.clear();
        numbers.resize((elements - at).min(4096) as usize, last);
        tensor.add(at, &numbers);
        at += numbers.len() as u64;
    }
    Ok(())
}

/// The examples of a request to Classify, Regress or MultiInference.
fn examples(
    message: &Rope,
    mut log: Reader<'_>,
    collector: &mut Collector,
    buffers: &mut Buffers,
) -> Result<(), Fault> {
    let mut table = Table::new(collector);
    while let Some(request) = log.next_field().map_err(wire)? {
        if (request.number, request.wire) != (REQUEST, Wire::Bytes) {
            continue;
        }
        let mut fields = log.inner(&request);
        while let Some(input) = fields.next_field().map_err(wire)? {
            if (input.number, input.wire) != (INPUT, Wire::Bytes) {
                continue;
            }
            let mut lists = fields.inner(&input);
            while let Some(list) = lists.next_field().map_err(wire)? {
                if list.wire != Wire::Bytes
                    || !matches!(list.number, EXAMPLE_LIST | EXAMPLE_LIST_WITH_CONTEXT)
                {
                    continue;
                }
                let mut items = lists.inner(&list);
                while let Some(example) = items.next_field().map_err(wire)? {
                    if (example.number, example.wire) == (EXAMPLES, Wire::Bytes) {
                        row(&message.slice(example.payload), &mut table, buffers)?;
                    }
                }
            }
        }
    }
    table.finish()
}
