//! Splits an axis that the model declares as several, such as 784 pixels into an image of 28 by 28.
use super::{Fit, is_permuted, regroup, shape_rule};
use crate::repair::{Example, Repair, Stage, Switch, Tier};
use crate::tensor::Shape;

pub(super) static REPAIR: Repair = Repair {
    name: "unflatten",
    tier: Tier::Two,
    switch: Switch::On,
    stage: Stage::Shape,
    lossy: false,
    when: "Splitting axes into adjacent declared fixed dimensions gives exactly one conforming shape, with the same number of rows or with one row. Does not apply if the sent dims are a permutation of the declared ones.",
    example: Example {
        signature: "x:float[-1,28,28]",
        request: "x:float[5,784]",
        becomes: "x:float[5,28,28]",
        policy: "unflatten: on",
    },
    propose: shape_rule!(decide),
};

fn decide(sent: &Shape, declared: &Shape) -> Fit {
    let Some((rows, inner)) = declared.split_first() else { return Fit::None };
    if sent.rank() >= declared.rank() || is_permuted(sent, declared) || inner.iter().any(|size| *size < 0) {
        return Fit::None;
    }
    let kept = sent.first().filter(|first| *rows == -1 || rows == *first);
    let kept = kept.filter(|_| regroup(&sent[1..], inner)).copied();
    let alone = (matches!(rows, -1 | 1) && regroup(sent, inner)).then_some(1);
    Fit::of(
        [kept, alone]
            .into_iter()
            .flatten()
            .map(|rows| [rows].into_iter().chain(inner.iter().copied()).collect()),
    )
}
