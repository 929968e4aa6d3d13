//! Renames an input that was sent under its graph tensor's name, such as `serving_default_x:0`.
use crate::repair::{Example, NameCase, Naming, Problem, Propose, Reason, Repair, Stage, Switch, Tier};
use crate::signature::TensorInfo;

pub(super) static REPAIR: Repair = Repair {
    name: "rename_tensor_name",
    tier: Tier::One,
    switch: Switch::Off,
    stage: Stage::Names,
    lossy: false,
    when: "The sent key is the `TensorInfo.name` of a declared input, with or without `:0`, and that input was not sent under its own key.",
    example: Example {
        signature: "x=serving_default_x:0:float[-1,2] k:int32[-1]",
        request: "serving_default_x:float[1,2] k:int32[1]",
        becomes: "x:float[1,2] k:int32[1]",
        policy: "",
    },
    propose: Propose::Names(propose),
};

fn propose(case: &NameCase<'_>) -> Naming {
    let mut renames: Vec<(usize, String)> = Vec::new();
    for index in case.unbound {
        let key = &case.view.inputs[*index].key;
        let mut named = case.missing.iter().filter(|info| is_name_of(key, info));
        let Some(info) = named.next() else { continue };
        if let Some(other) = named.next() {
            let what = format!("names the tensor of both '{}' and '{}'", info.alias, other.alias);
            return Naming::Ambiguous(Problem::new(Reason::NameAmbiguous, key, what));
        }
        if let Some((first, _)) = renames.iter().find(|(_, alias)| *alias == info.alias) {
            let what = format!("sent as '{}' and as '{key}'", case.view.inputs[*first].key);
            return Naming::Ambiguous(Problem::new(Reason::NameAmbiguous, &info.alias, what));
        }
        renames.push((*index, info.alias.clone()));
    }
    if renames.is_empty() { Naming::No } else { Naming::Rename(renames) }
}

/// `op` and `op:0` both mean output 0 of an op.
fn is_name_of(key: &str, info: &TensorInfo) -> bool {
    !info.tensor_name.is_empty() && plain(key) == plain(&info.tensor_name)
}

fn plain(name: &str) -> &str {
    name.strip_suffix(":0").unwrap_or(name)
}
