//! Merges inner axes that the model declares as one, such as an image for a model of pixels.
use super::{Fit, is_permuted, regroup, shape_rule};
use crate::repair::{Example, Repair, Stage, Switch, Tier};
use crate::tensor::Shape;

pub(super) static REPAIR: Repair = Repair {
    name: "flatten",
    tier: Tier::Two,
    switch: Switch::On,
    stage: Stage::Shape,
    lossy: false,
    when: "Merging adjacent axes into declared fixed dimensions gives exactly one conforming shape, with the same number of rows or with one row. Does not apply if the sent dims are a permutation of the declared ones.",
    example: Example {
        signature: "x:float[-1,784]",
        request: "x:float[5,28,28]",
        becomes: "x:float[5,784]",
        policy: "flatten: on",
    },
    propose: shape_rule!(decide),
};

fn decide(sent: &Shape, declared: &Shape) -> Fit {
    if sent.rank() < declared.rank() || is_permuted(sent, declared) || declared.rank() == 0 {
        return Fit::None;
    }
    let (rows, inner) = (declared[0], &declared[1..]);
    if inner.iter().filter(|size| **size < 0).count() > 1 {
        return Fit::None;
    }
    let kept = sent.first().filter(|first| rows == -1 || rows == **first);
    let kept = kept.filter(|_| regroup(inner, &sent[1..])).copied();
    let alone = (matches!(rows, -1 | 1) && regroup(inner, sent)).then_some(1);
    Fit::of([kept, alone].into_iter().flatten().filter_map(|rows| fill(rows, inner, sent)))
}

/// The shape with the size of the axis that is declared -1. It follows from the other sizes, since
/// `regroup` gave that axis one sent axis; not for an empty tensor, or if the sizes overflow.
fn fill(rows: i64, inner: &[i64], sent: &Shape) -> Option<Shape> {
    let open = if inner.contains(&-1) {
        let total = product(sent.iter().copied())?;
        let fixed = product(inner.iter().copied().filter(|size| *size >= 0).chain([rows]))?;
        total.checked_div(fixed)?
    } else {
        0
    };
    Some([rows].into_iter().chain(inner.iter().map(|size| if *size < 0 { open } else { *size })).collect())
}

fn product(mut sizes: impl Iterator<Item = i64>) -> Option<i64> {
    sizes.try_fold(1, i64::checked_mul)
}
