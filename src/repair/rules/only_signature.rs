//! Corrects an unknown signature name if the model has only one signature.
use crate::repair::{Example, Propose, Repair, Stage, Switch, Tier};
use crate::signature::{DEFAULT_SIGNATURE, Signatures};

pub(super) static REPAIR: Repair = Repair {
    name: "only_signature",
    tier: Tier::One,
    switch: Switch::Off,
    stage: Stage::Signature,
    lossy: false,
    when: "The signature name is empty or unknown, and the model has no `serving_default` and exactly one signature whose name does not start with `__`.",
    example: Example {
        signature: "@predict x:float[-1,2]",
        request: "x:float[1,2]",
        becomes: "@predict x:float[1,2]",
        policy: "",
    },
    propose: Propose::Signature(propose),
};

fn propose(signatures: &Signatures) -> Option<String> {
    if signatures.get(DEFAULT_SIGNATURE).is_some() {
        return None;
    }
    let mut servable = signatures.servable();
    let only = servable.next()?;
    servable.next().is_none().then(|| only.name.clone())
}
