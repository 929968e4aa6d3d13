//! Gives a single value the declared shape if that has exactly one element.
use super::{Fit, shape_rule};
use crate::repair::{Example, Repair, Stage, Switch, Tier};
use crate::tensor::Shape;

pub(super) static REPAIR: Repair = Repair {
    name: "scalar_shape",
    tier: Tier::One,
    switch: Switch::Off,
    stage: Stage::Shape,
    lossy: false,
    when: "The declared shape is fully static and has one element, and one element was sent.",
    example: Example {
        signature: "rate:float[]",
        request: "rate:float[1]",
        becomes: "rate:float[]",
        policy: "",
    },
    propose: shape_rule!(decide),
};

fn decide(sent: &Shape, declared: &Shape) -> Fit {
    let one = |shape: &Shape| shape.iter().all(|size| *size == 1);
    if one(declared) && one(sent) { Fit::One(declared.clone()) } else { Fit::None }
}
