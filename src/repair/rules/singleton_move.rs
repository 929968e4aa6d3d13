//! Moves an axis of size 1, as from `[5,28,1]` to `[5,1,28]`. No element moves.
use super::insert_unit_dims::place;
use super::{Fit, shape_rule};
use crate::repair::{Example, Repair, Stage, Switch, Tier};
use crate::tensor::Shape;

pub(super) static REPAIR: Repair = Repair {
    name: "singleton_move",
    tier: Tier::Two,
    switch: Switch::On,
    stage: Stage::Shape,
    lossy: false,
    when: "The ranks are equal, and there is exactly one way to match the sent sizes other than 1, in order, to the declared ones so that a 1 is left only where 1 is declared.",
    example: Example {
        signature: "x:float[-1,1,28]",
        request: "x:float[5,28,1]",
        becomes: "x:float[5,1,28]",
        policy: "singleton_move: on",
    },
    propose: shape_rule!(decide),
};

fn decide(sent: &Shape, declared: &Shape) -> Fit {
    if sent.rank() != declared.rank() || sent.rank() > super::insert_unit_dims::MAX_RANK {
        return Fit::None;
    }
    let others: Vec<i64> = sent.iter().copied().filter(|size| *size != 1).collect();
    Fit::of(place(&others, declared).into_iter().map(|dims| dims.into_iter().collect()))
}
