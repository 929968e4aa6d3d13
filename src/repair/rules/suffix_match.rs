//! Renames inputs whose names differ only by a prefix: `serving_default_x`, `model/x`, `x`.
use crate::repair::{Example, NameCase, Naming, Propose, Repair, Stage, Switch, Tier};

pub(super) static REPAIR: Repair = Repair {
    name: "suffix_match",
    tier: Tier::Two,
    switch: Switch::On,
    stage: Stage::Names,
    lossy: false,
    when: "Every unknown key ends with `_`, `/`, `.` or `:` and the name of one missing input, or the reverse. Keys and inputs must match one to one, and either all unknown keys are renamed or none.",
    example: Example {
        signature: "ids:int32[-1] mask:int32[-1]",
        request: "model/ids:int32[1] model/mask:int32[1]",
        becomes: "ids:int32[1] mask:int32[1]",
        policy: "suffix_match: on",
    },
    propose: Propose::Names(propose),
};

fn propose(case: &NameCase<'_>) -> Naming {
    let mut renames: Vec<(usize, String)> = Vec::new();
    for index in case.unbound {
        let key = &case.view.inputs[*index].key;
        let mut matching =
            case.missing.iter().filter(|info| is_suffix(key, &info.alias) || is_suffix(&info.alias, key));
        let (Some(info), None) = (matching.next(), matching.next()) else { return Naming::No };
        if renames.iter().any(|(_, alias)| *alias == info.alias) {
            return Naming::No;
        }
        renames.push((*index, info.alias.clone()));
    }
    if renames.is_empty() { Naming::No } else { Naming::Rename(renames) }
}

fn is_suffix(long: &str, short: &str) -> bool {
    !short.is_empty() && long.strip_suffix(short).is_some_and(|front| front.ends_with(['_', '/', '.', ':']))
}
