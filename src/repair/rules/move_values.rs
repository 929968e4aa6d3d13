//! Moves values to the list of their dtype; in any other list, TensorFlow ignores them and reads
//! zeros.
use crate::repair::encoding::wrong_field;
use crate::repair::{
    Descriptor, Encoding, Example, Problem, Proposal, Propose, Repair, Stage, Switch, TensorCase, Tier,
};
use crate::signature::TensorInfo;

pub(super) static REPAIR: Repair = Repair {
    name: "move_values",
    tier: Tier::One,
    switch: Switch::Off,
    stage: Stage::Encoding,
    lossy: true,
    when: "The values are in a numeric `*_val` field that does not belong to the dtype, and in no other field. There must be one for each element of the shape, and a tensor of that field's dtype must be castable to this dtype by a rule that is switched on: `double_val` of a float tensor is rounded as a double tensor is (`cast_round`), `float_val` of an int32 tensor needs `integral_floats`.",
    example: Example {
        signature: "x:float[-1,2]",
        request: "x:float[1,2]@double_val",
        becomes: "x:float[1,2]",
        policy: "",
    },
    propose: Propose::Tensor(propose),
};

fn propose(case: &TensorCase<'_>) -> Proposal {
    let Encoding::List(list) = case.descriptor.encoding else { return Proposal::No };
    let Some(dtype) = case.descriptor.dtype.info() else { return Proposal::No };
    let lists = case.tensor().lists();
    let native = list.native().filter(|_| dtype.list != list && lists.len() == 1);
    let Some(native) = native else { return Proposal::No };
    if case.descriptor.shape.elements() != Ok(case.descriptor.values)
        || case.descriptor.values == 0
        || case.info.shape.rank().is_none()
    {
        return Proposal::No;
    }
    // The same decision as on a tensor of that field's dtype.
    let sent = case.descriptor.with_dtype(native);
    let info = TensorInfo { dtype: dtype.dtype, ..case.info.clone() };
    let cast = case.with(&sent, &info);
    let both = |problem: Problem| {
        let what =
            format!("{}: it is in {}, but TensorFlow reads {}", problem.what, list.name(), dtype.list.name());
        let switch = cast.switched_off(Stage::Dtype);
        Problem { what, switch, ..problem }
    };
    match cast.first(case.policy.rules.of(Stage::Dtype)) {
        Some((_, Proposal::Changes(_, values))) => {
            let encoding = Encoding::List(dtype.list);
            Proposal::Changes(Descriptor { encoding, ..case.descriptor.clone() }, values)
        }
        Some((_, Proposal::Fault(problem))) => Proposal::Fault(both(problem)),
        _ => match cast.switched_off(Stage::Dtype) {
            Some(rule) => {
                let input = case.info.alias.clone();
                Proposal::Fault(Problem { input, ..wrong_field(case.tensor(), dtype) }.switch(Some(rule)))
            }
            None => Proposal::No,
        },
    }
}
