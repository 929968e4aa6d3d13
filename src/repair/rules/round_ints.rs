//! Integers too large for the declared float dtype, rounded where the operator says that it does
//! not matter.
use crate::repair::{Example, Proposal, Propose, Repair, Stage, Switch, TensorCase, Tier};
use crate::tensor::{Class, DataType, Exactness, Relation, relation};

pub static REPAIR: Repair = Repair {
    name: "round_ints",
    tier: Tier::Two,
    switch: Switch::On,
    stage: Stage::Dtype,
    lossy: true,
    when: "Integers are sent where a float dtype is declared and some value has no exact counterpart: each is rounded to the nearest, ties to even.",
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
    // Where every value is exact, `cast_checked` says so: nothing is lossy then.
    if !ints
        || !narrows
        || class(case.info.dtype) != Some(Class::Float)
        || case.check_cast(case.info.dtype, Exactness::Exact).is_ok()
    {
        return Proposal::No;
    }
    super::checked(case, Exactness::Round)
}
