//! Reads inputs that are named in the body itself as if they were in `inputs`.
use crate::repair::{Example, Propose, Repair, Stage, Switch, Tier};

pub(in crate::repair) static REPAIR: Repair = Repair {
    name: "names_at_top",
    tier: Tier::One,
    switch: Switch::Off,
    stage: Stage::Encoding,
    lossy: false,
    when: "JSON: the body has no `instances` and no `inputs`, but the names of the inputs, and nothing else but `signature_name`.",
    example: Example {
        signature: "a:float[-1,2]",
        request: r#"{"a": [[2.0, 3.0]]}"#,
        becomes: "a:float[1,2]",
        policy: "",
    },
    propose: Propose::Text,
};
