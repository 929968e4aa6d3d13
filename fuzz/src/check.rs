//! Properties of a scanned request, whatever its bytes are.
use tfs_sidecar::proto::tensorflow::TensorProto;
use tfs_sidecar::tensor::ValueList;
use tfs_sidecar::wire::scan::Reader;
use tfs_sidecar::wire::{PredictView, Rope, TensorView};

/// Every range of a view is inside the message.
pub fn in_range(view: &PredictView, length: usize) {
    for input in &view.inputs {
        assert!(input.entry.end <= length && input.entry.start < input.entry.end);
        for run in &input.tensor.runs {
            assert!(input.entry.start < run.span.start && run.span.end <= input.entry.end);
        }
        if let Some(content) = &input.tensor.content {
            assert!(input.entry.start < content.start && content.end <= input.entry.end);
        }
    }
}

/// A scanned tensor equals the one that prost decodes, except for the values.
pub fn same_heads(view: &TensorView, message: &Rope, decoded: &TensorProto) {
    assert_eq!(view.dtype.number(), decoded.dtype);
    let shape = decoded.tensor_shape.clone().unwrap_or_default();
    assert_eq!(view.unknown_rank, shape.unknown_rank);
    let dims: Vec<i64> = shape.dim.iter().map(|dim| dim.size).collect();
    assert_eq!(view.shape[..], dims[..dims.len().min(view.shape.rank())]);
    assert!(view.shape.rank() == dims.len() || view.shape.rank() > 254);
    let content = view.content.clone().map(|range| message.slice(range).to_bytes()).unwrap_or_default();
    assert_eq!(content, decoded.tensor_content);
    for list in ValueList::all() {
        let values = match list {
            ValueList::Float => decoded.float_val.len(),
            ValueList::Double => decoded.double_val.len(),
            ValueList::Int => decoded.int_val.len(),
            ValueList::String => decoded.string_val.len(),
            ValueList::SComplex => decoded.scomplex_val.len(),
            ValueList::Int64 => decoded.int64_val.len(),
            ValueList::Bool => decoded.bool_val.len(),
            ValueList::DComplex => decoded.dcomplex_val.len(),
            ValueList::Half => decoded.half_val.len(),
            ValueList::ResourceHandle => decoded.resource_handle_val.len(),
            ValueList::Variant => decoded.variant_val.len(),
            ValueList::Uint32 => decoded.uint32_val.len(),
            ValueList::Uint64 => decoded.uint64_val.len(),
            // A singular field: the last occurrence counts.
            ValueList::Float8 => continue,
        };
        assert_eq!(view.list_values(list), values as u64, "{}", list.name());
    }
}

/// Whether prost decodes these bytes incorrectly: it does not check the wire type of a map field.
pub fn prost_errs(bytes: &[u8], map: u32) -> bool {
    let rope = Rope::from(bytes.to_vec());
    let mut reader = Reader::new(&rope);
    loop {
        let mut tag = &bytes[reader.position()..];
        let tag = prost::encoding::decode_varint(&mut tag).unwrap_or(0);
        if tag >> 3 == u64::from(map) && tag & 7 != 2 {
            return true;
        }
        if !matches!(reader.next_field(), Ok(Some(_))) {
            return false;
        }
    }
}
