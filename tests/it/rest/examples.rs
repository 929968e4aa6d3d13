//! The examples of the rules for JSON are true.
use tfs_sidecar::repair::text::Allowed;
use tfs_sidecar::repair::{REPAIRS, Switch, Tier, notation};
use tfs_sidecar::rest::read::{Kind, Options, Read, read};
use tfs_sidecar::wire::PredictView;

use crate::support::engine;

#[test]
fn the_example_of_every_rule_for_json_is_true_under_its_configuration() {
    let mut names = Vec::new();
    for rule in REPAIRS.iter().filter(|rule| rule.is_for_text()) {
        let example = rule.example;
        let keys = match (rule.switch, example.policy) {
            (Switch::On, keys) if !keys.is_empty() => format!("rules: {{{keys}}}"),
            (_, keys) => keys.to_owned(),
        };
        let policy = engine::policy(&keys).unwrap_or_else(|problems| panic!("{}: {problems}", rule.name));
        let policy = policy.for_signature("serving_default");
        assert!(policy.rules.contains(rule), "{} is off", rule.name);
        let Allowed { string_numbers, bool_numbers } = Allowed::by(policy);
        let read = read_with(example.signature, example.request, string_numbers, bool_numbers);
        let mut found: Vec<Kind> = read.findings.iter().map(|finding| finding.kind).collect();
        found.dedup();
        assert_eq!(found, [kind(rule.name)], "{}", rule.name);
        let message = read.message(b"");
        let expected = notation::request("m", example.becomes).unwrap();
        let (made, expected) = (PredictView::scan(&message).unwrap(), PredictView::scan(&expected).unwrap());
        assert_eq!(made.inputs.len(), expected.inputs.len(), "{}", rule.name);
        for input in &expected.inputs {
            let made = &made.input(&input.key).unwrap().tensor;
            assert_eq!((made.dtype, &made.shape), (input.tensor.dtype, &input.tensor.shape), "{}", rule.name);
        }
        let off = rule.tier == Tier::Two;
        assert_eq!(engine::policy("").unwrap().defaults.rules.contains(rule), !off, "{}", rule.name);
        names.push(rule.name);
    }
    names.sort_unstable();
    assert_eq!(names, ["list_of_one", "names_at_top", "string_numbers"]);
}

/// What the reader reports where a rule applies.
fn kind(rule: &str) -> Kind {
    match rule {
        "list_of_one" => Kind::BareObject,
        "names_at_top" => Kind::NamesAtTop,
        "string_numbers" => Kind::NumberInString,
        other => panic!("no example of {other} is tested"),
    }
}

fn read_with(signature: &str, body: &str, string_numbers: bool, bool_numbers: bool) -> Read {
    let signatures = notation::signature(signature).unwrap();
    let options = Options {
        integral_floats: true,
        string_numbers,
        bool_numbers,
        max_elements: 1000,
        max_bytes: 1000,
        as_served: false,
    };
    let choose = |_: &str| signatures.get("serving_default").cloned();
    read(body.as_bytes(), &choose, &options).unwrap_or_else(|findings| panic!("{body}: {findings:?}"))
}
