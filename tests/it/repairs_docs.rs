//! Generates docs/repairs.md from the registry of the rules.
use std::fmt::Write as _;

use tfs_sidecar::repair::{LATER, REPAIRS, Stage, Switch, Tier};

use crate::support::sources;

#[test]
fn docs_repairs_md_shows_every_rule() {
    let mut text = String::from(
        "# Repairs\n\nThis page is generated from the rules in `src/repair/rules/`; `UPDATE=1 cargo test` rewrites it. Examples use the notation of \
         `tfs-sidecar explain`: `name:dtype[shape]`, and a test checks each of them.\n\nThe rules of a stage are tried in this order, and the first one that \
         applies is used. Every step is reported to the client (`tfs-sidecar-repair` metadata), counted (`tfs_sidecar_repairs_total`) and shown in dry runs.\n",
    );
    for (tier, title) in [
        (Tier::One, "Tier 1: on by default in mode `repair`"),
        (Tier::Two, "Tier 2: assumes something, off by default"),
    ] {
        write!(text, "\n## {title}\n").unwrap();
        for rule in REPAIRS.iter().filter(|rule| rule.tier == tier) {
            write!(text, "\n### `{}`\n\n{}\n\n", rule.name, rule.when).unwrap();
            let example = rule.example;
            writeln!(
                text,
                "```text\nsignature  {}\nrequest    {}\nbecomes    {}",
                example.signature, example.request, example.becomes
            )
            .unwrap();
            if !example.policy.is_empty() {
                writeln!(text, "config     {}", example.policy).unwrap();
            }
            let lossy = if rule.lossy { " Reported as lossy." } else { "" };
            let calls = if rule.stage == Stage::Rows { " The request is checked as a whole." } else { "" };
            let switch = match rule.switch {
                Switch::Off => format!("off with `rules: {{{}: off}}`", rule.name),
                Switch::Policy => format!("off with `{}: off`", rule.name),
                Switch::On => format!("on with `rules: {{{}: on}}`", rule.name),
                Switch::Inputs => format!("on with `rules: {{{}: [INPUT]}}`", rule.name),
                Switch::Elsewhere(spelling) => format!("on with `{spelling}` of a signature"),
            };
            writeln!(text, "```\n\nSwitched {switch}.{lossy}{calls}").unwrap();
        }
    }
    text.push_str("\n## Tier 3: changes content\n\nNone of these rules exists yet. The configuration reserves their names.\n\n");
    for (name, what) in LATER {
        writeln!(text, "- `{name}`: {what}").unwrap();
    }
    let path = sources::root().join("docs/repairs.md");
    if std::env::var_os("UPDATE").is_some_and(|value| !value.is_empty()) {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/repairs.md is outdated; run the tests once with UPDATE=1");
}
