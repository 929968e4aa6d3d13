//! Rounds float64, the default of NumPy and Python, to float32: the most common mistake of all.
use crate::repair::{Example, Proposal, Propose, Repair, Stage, Switch, TensorCase, Tier};
use crate::tensor::{DataType, Exactness};

pub(super) static REPAIR: Repair = Repair {
    name: "cast_round",
    tier: Tier::One,
    switch: Switch::Off,
    stage: Stage::Dtype,
    lossy: true,
    when: "double was sent where float is declared: each value is rounded to the nearest float, ties to even. NaN and infinities are kept. A finite value that would become infinite is refused. Off with `round_f64: refuse`.",
    example: Example {
        signature: "x:float[-1,2]",
        request: "x:double[1,2]",
        becomes: "x:float[1,2]",
        policy: "",
    },
    propose: Propose::Tensor(propose),
};

fn propose(case: &TensorCase<'_>) -> Proposal {
    if (case.descriptor.dtype, case.info.dtype) != (DataType::DOUBLE, DataType::FLOAT)
        || !case.policy.round_f64
    {
        return Proposal::No;
    }
    super::checked(case, Exactness::Round)
}
