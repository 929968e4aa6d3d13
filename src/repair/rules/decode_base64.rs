//! Decodes strings from base64.
use crate::repair::{Example, Propose, Repair, Stage, Switch, Tier};

pub(in crate::repair) static REPAIR: Repair = Repair {
    name: "decode_base64",
    tier: Tier::Three,
    switch: Switch::Transform("decode_base64: on"),
    stage: Stage::Transform,
    lossy: false,
    when: "The input has `decode_base64: on`: each string is decoded from base64 (either alphabet of RFC 4648, padded, no other bytes). If one of them is something else, all stay as they are, with a warning.",
    example: Example {
        signature: "image:string[-1]",
        request: "image:string[1]{aGVsbG8=}",
        becomes: "image:string[1]{hello}",
        policy: "inputs: {image: {transform: [{decode_base64: on}]}}",
    },
    propose: Propose::Declared,
};
