//! Reads numbers that were sent as strings: "3.5" is 3.5.
use crate::repair::{Example, Propose, Repair, Stage, Switch, Tier};

pub(in crate::repair) static REPAIR: Repair = Repair {
    name: "string_numbers",
    tier: Tier::Two,
    switch: Switch::On,
    stage: Stage::Encoding,
    lossy: false,
    when: "JSON: a string for a numeric input, and the string is a number that the dtype has.",
    example: Example {
        signature: "a:float[-1]",
        request: r#"{"instances": ["3.5", "4"]}"#,
        becomes: "a:float[2]",
        policy: "string_numbers: on",
    },
    propose: Propose::Text,
};
