//! An axis of size 1 in another place: `[5,28,1]` for `[-1,1,28]`. No element moves.
use super::insert_unit_dims::place;
use super::{Fit, shape_rule};
use crate::repair::{Example, Repair, Stage, Switch, Tier};
use crate::tensor::Shape;

pub static REPAIR: Repair = Repair {
    name: "singleton_move",
    tier: Tier::Two,
    switch: Switch::On,
    stage: Stage::Shape,
    lossy: false,
    when: "The ranks are equal, and the sent axes other than 1 fill the declared ones in order, with ones only where 1 is declared, in exactly one way.",
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
