//! Replaces a sent size of -1, as in NumPy's reshape, with the size that the number of values
//! implies.
use crate::repair::{Encoding, Example, Proposal, Propose, Repair, Stage, Switch, TensorCase, Tier};
use crate::tensor::{Shape, ValueList};

pub(super) static REPAIR: Repair = Repair {
    name: "infer_dim",
    tier: Tier::One,
    switch: Switch::Off,
    stage: Stage::Encoding,
    lossy: false,
    when: "The sent shape has exactly one -1, the number of values is a multiple of the product of the other sizes, and the result conforms.",
    example: Example {
        signature: "x:float[-1,2]",
        request: "x:float[-1,2]=6",
        becomes: "x:float[3,2]",
        policy: "",
    },
    propose: Propose::Tensor(propose),
};

fn propose(case: &TensorCase<'_>) -> Proposal {
    let shape = &case.descriptor.shape;
    let Some(axis) = shape.iter().position(|size| *size == -1) else { return Proposal::No };
    let others: Shape =
        shape.iter().enumerate().filter(|(at, _)| *at != axis).map(|(_, size)| *size).collect();
    let Some((encoding, values)) = encoding(case) else { return Proposal::No };
    match others.elements() {
        Ok(product) if product > 0 && values > 0 && values % product == 0 => {
            let size = (values / product) as i64;
            let whole: Shape =
                shape.iter().enumerate().map(|(at, old)| if at == axis { size } else { *old }).collect();
            if !case.info.shape.accepts(&whole) || case.info.shape.rank().is_none() {
                return Proposal::No;
            }
            let mut after = case.descriptor.with_shape(whole);
            (after.encoding, after.values) = (encoding, values);
            Proposal::Becomes(after)
        }
        _ => Proposal::No,
    }
}

/// Where the values are and how many, if they are only in `tensor_content` or the dtype's own list.
fn encoding(case: &TensorCase<'_>) -> Option<(Encoding, u64)> {
    let tensor = case.tensor();
    let dtype = case.descriptor.dtype.info()?;
    let lists = tensor.lists();
    if let Some(content) = &tensor.content {
        let size = dtype.size?;
        let whole = content.len().is_multiple_of(size) && lists.is_empty();
        return whole.then_some((Encoding::Content, (content.len() / size) as u64));
    }
    match lists.as_slice() {
        [(list, values)] if *list == dtype.list => {
            let pairs = matches!(list, ValueList::SComplex | ValueList::DComplex);
            Some((Encoding::List(*list), if pairs { values / 2 } else { *values }))
        }
        _ => None,
    }
}
