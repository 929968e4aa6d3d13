//! Rounds integers that the declared float dtype does not have exactly, if the operator allows it.
use crate::repair::{Example, Proposal, Propose, Repair, Stage, Switch, TensorCase, Tier};
use crate::tensor::{Class, DataType, Exactness, Relation, relation};

pub(super) static REPAIR: Repair = Repair {
    name: "round_ints",
    tier: Tier::Two,
    switch: Switch::On,
    stage: Stage::Dtype,
    lossy: true,
    when: "Integers were sent where a float dtype is declared, and some value cannot be represented exactly. Each value is rounded to the nearest, ties to even.",
    example: Example {
        signature: "x:float[-1]",
        request: "x:int64[1]{16777217}",
        becomes: "x:float[1]",
        policy: "round_ints: on",
    },
    propose: Propose::Tensor(propose),
};

fn propose(case: &TensorCase<'_>) -> Proposal {
    let class = |dtype: DataType| dtype.info().map(|info| info.class);
    let ints = matches!(class(case.descriptor.dtype), Some(Class::Signed | Class::Unsigned));
    let narrows = relation(case.descriptor.dtype, case.info.dtype) == Some(Relation::Narrows);
    // If every value is exact, `cast_checked` does the cast, and nothing is reported as lossy.
    if !ints
        || !narrows
        || class(case.info.dtype) != Some(Class::Float)
        || case.check_cast(case.info.dtype, Exactness::Exact).is_ok()
    {
        return Proposal::No;
    }
    super::checked(case, Exactness::Round)
}
