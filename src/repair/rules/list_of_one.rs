//! Reads an object for `instances` as a list of one.
use crate::repair::{Example, Propose, Repair, Stage, Switch, Tier};

pub(in crate::repair) static REPAIR: Repair = Repair {
    name: "list_of_one",
    tier: Tier::One,
    switch: Switch::Off,
    stage: Stage::Encoding,
    lossy: false,
    when: "JSON: `instances` is an object with the names of the inputs, not a list of such objects. It is one row.",
    example: Example {
        signature: "a:float[-1] b:float[-1,2]",
        request: r#"{"instances": {"a": 1.0, "b": [2.0, 3.0]}}"#,
        becomes: "a:float[1] b:float[1,2]",
        policy: "",
    },
    propose: Propose::Text,
};
