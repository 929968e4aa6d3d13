//! Removes surplus axes of size 1, such as a batch dimension that was added twice.
use super::{Fit, shape_rule};
use crate::repair::{Example, Repair, Stage, Switch, Tier};
use crate::tensor::Shape;

pub(super) static REPAIR: Repair = Repair {
    name: "drop_unit_dims",
    tier: Tier::One,
    switch: Switch::Off,
    stage: Stage::Shape,
    lossy: false,
    when: "The sent rank is above the declared rank, and removing axes of size 1 gives exactly one shape that conforms.",
    example: Example {
        signature: "x:float[-1,64]",
        request: "x:float[2,1,64]",
        becomes: "x:float[2,64]",
        policy: "",
    },
    propose: shape_rule!(decide),
};

/// Higher ranks are not a mistake of a surplus axis, and the search below is quadratic in the rank.
const MAX_RANK: usize = 32;

/// Walks from the last axis to the first. `reached[j]` holds up to two different shapes that the
/// sent axes so far can give for the declared axes from `j` on.
fn decide(sent: &Shape, declared: &Shape) -> Fit {
    if sent.rank() <= declared.rank() || sent.rank() > MAX_RANK {
        return Fit::None;
    }
    let rank = declared.rank();
    let mut reached: Vec<Vec<Vec<i64>>> = vec![Vec::new(); rank + 1];
    reached[rank].push(Vec::new());
    for size in sent.iter().rev() {
        let mut next: Vec<Vec<Vec<i64>>> = vec![Vec::new(); rank + 1];
        for (axis, found) in next.iter_mut().enumerate() {
            if axis < rank && (declared[axis] == -1 || declared[axis] == *size) {
                for tail in &reached[axis + 1] {
                    add(found, [*size].into_iter().chain(tail.iter().copied()).collect());
                }
            }
            if *size == 1 {
                for tail in &reached[axis] {
                    add(found, tail.clone());
                }
            }
        }
        reached = next;
    }
    Fit::of(reached.swap_remove(0).into_iter().map(|dims| dims.into_iter().collect()))
}

fn add(found: &mut Vec<Vec<i64>>, shape: Vec<i64>) {
    if found.len() < 2 && !found.contains(&shape) {
        found.push(shape);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surplus_axes_are_dropped_if_only_one_shape_is_possible() {
        let cases: [(&[i64], &[i64], Fit); 7] = [
            (&[2, 1, 64], &[-1, 64], Fit::One(Shape::from([2, 64]))),
            (&[1, 1, 248, 400, 3], &[-1, -1, -1, 3], Fit::One(Shape::from([1, 248, 400, 3]))),
            (&[1, 128, 1], &[-1, 128], Fit::One(Shape::from([1, 128]))),
            (&[1, 5, 1], &[-1, -1], Fit::Two(Shape::from([1, 5]), Shape::from([5, 1]))),
            (&[2, 64, 2], &[-1, 64], Fit::None),
            (&[1, 1], &[-1], Fit::One(Shape::from([1]))),
            (&[1], &[], Fit::One(Shape::scalar())),
        ];
        for (sent, declared, fit) in cases {
            let found = decide(&Shape::from(sent), &Shape::from(declared));
            let swapped = match fit.clone() {
                Fit::Two(one, other) => Fit::Two(other, one),
                fit => fit,
            };
            assert!(found == fit || found == swapped, "{sent:?} for {declared:?}: {found:?}");
        }
    }

    #[test]
    fn hostile_ranks_cost_nothing() {
        assert_eq!(
            decide(&vec![1; 254].into_iter().collect(), &vec![-1; 200].into_iter().collect()),
            Fit::None
        );
    }
}
