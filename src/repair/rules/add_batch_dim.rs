//! Adds the batch dimension to a single example.
use super::{Fit, accepts, shape_rule};
use crate::repair::{Example, Repair, Stage, Switch, Tier};
use crate::tensor::Shape;

pub(super) static REPAIR: Repair = Repair {
    name: "add_batch_dim",
    tier: Tier::One,
    switch: Switch::Off,
    stage: Stage::Shape,
    lossy: false,
    when: "The sent rank is one below the declared rank, declared dim 0 is -1 or 1, and the sent dims match the other declared dims. Inserting a 1 anywhere else must not give another shape that conforms.",
    example: Example {
        signature: "x:float[-1,128]",
        request: "x:float[128]",
        becomes: "x:float[1,128]",
        policy: "",
    },
    propose: shape_rule!(decide),
};

fn decide(sent: &Shape, declared: &Shape) -> Fit {
    match batch_in_front(sent, declared) {
        Some(front) if elsewhere(sent, declared, &front).next().is_none() => Fit::One(front),
        _ => Fit::None,
    }
}

/// The shape with a batch dimension of 1 in front, if declared dim 0 is -1 or 1 and it conforms.
pub(super) fn batch_in_front(sent: &Shape, declared: &Shape) -> Option<Shape> {
    if !matches!(declared.first(), Some(-1 | 1)) || sent.rank() + 1 != declared.rank() {
        return None;
    }
    let front = with_one(sent, 0);
    accepts(declared, &front).then_some(front)
}

/// Other conforming shapes with a 1 inserted: the axis and the shape.
pub(super) fn elsewhere<'a>(
    sent: &'a Shape,
    declared: &'a Shape,
    front: &'a Shape,
) -> impl Iterator<Item = (usize, Shape)> + 'a {
    (1..declared.rank())
        .map(|axis| (axis, with_one(sent, axis)))
        .filter(move |(_, shape)| shape != front && accepts(declared, shape))
}

fn with_one(sent: &Shape, axis: usize) -> Shape {
    let (before, after) = sent.split_at(axis);
    before.iter().copied().chain([1]).chain(after.iter().copied()).collect()
}
