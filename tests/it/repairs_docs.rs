//! Generates docs/repairs.md from the registry of the rules.
use std::fmt::Write as _;

use tfs_sidecar::repair::{REPAIRS, Stage, Switch, Tier};

use crate::support::sources;

const DECLARED: &str = "
A transform is made with every request that needs it, in modes `repair` and `strict`, whether the request conforms or not; in mode `observe` it is counted. The order is the one of the stages, not the one of the list: names, encoding, decode and relabel, dtype, shape, transpose, numbers. Numbers are read once, cast, changed and moved in one pass, and rounded once at the end. A transformed request is never byte-identical, and each transform is reported as a repair. A transform that does not fit the request or the signature is not made, nor any other of that input; the request goes on with the warning `NOT_TRANSFORMED`. See [preprocessing.md](preprocessing.md#transforms).
";

const WHAT_RULES_DO_NOT_DECIDE: &str = "
## Rows

Inputs whose dimension 0 is declared -1 often have the same rows, but not always: ragged tensors, graphs, one user beside many items. A request whose inputs differ in their rows is forwarded, with its repairs of names, encodings and dtypes, and with the warning `tfs-sidecar-warning: rows differ: ids 43, vals 58`. `row_agreement: refuse` refuses it.

If the rows would differ only after a shape was repaired, the repair is not the only reading of that shape: no shape is repaired, and the request is refused. A request whose rows differ is never split, and a single row is never repeated to match the others.

## Warnings

A warning is a doubt about a request that is forwarded all the same. The client sees it in the response metadata (`tfs-sidecar-warning`, at most 8, then `more`), in the trailers too if TensorFlow Serving refuses the request. It is counted (`tfs_sidecar_warnings_total`) and shown on the status page, by `tfs-sidecar explain` and in dry runs. In mode `observe` it is counted, and nothing is added to the answer.

- `BATCH_MISMATCH`: the rows of the inputs differ.
- `NOT_TRANSFORMED`: a declared transform was not made, because the request or the signature does not fit it, or because with `when: raw` the values could be on either side of the scaler.
- `INTEGER_FOR_FLOAT`: integers of 8 or 16 bits were cast to a float type. The numbers stay exact, but the model may take pixels or PCM samples scaled. `small_ints: allow` casts them without a warning, `small_ints: refuse` refuses them.

## Missing inputs

A signature can have defaults that its metadata does not show. A request that lacks inputs is therefore forwarded if nothing else is wrong with it or everything else was repaired; in mode `strict`, which repairs nothing, if nothing else is wrong with it. `missing_inputs: refuse` refuses it.
";

#[test]
fn docs_repairs_md_shows_every_rule() {
    let mut text = String::from(
        "# Repairs\n\nThis page is generated from the rules in `src/repair/rules/`; `UPDATE=1 cargo test` rewrites it. Examples use the notation of \
         `tfs-sidecar explain`: `name:dtype[shape]`, and a test checks each of them. A rule for JSON shows the body of a REST request instead, and the request that is made of it.\n\nThe rules of a stage are tried in this order, and the first one that \
         applies is used. Every step is reported to the client (`tfs-sidecar-repair` metadata), counted (`tfs_sidecar_repairs_total`) and shown in dry runs.\n",
    );
    for (tier, title) in [
        (Tier::One, "Tier 1: on by default in mode `repair`"),
        (Tier::Two, "Tier 2: assumes something, off by default"),
        (Tier::Three, "Tier 3: changes content, only where it is declared"),
    ] {
        write!(text, "\n## {title}\n").unwrap();
        if tier == Tier::Three {
            text.push_str(DECLARED);
        }
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
                Switch::Rules(key) => format!("on with `rules: {{{}: {}}}`", key.name, key.sample),
                Switch::Top(_) => format!("on with `{}`", rule.switch.spelling().unwrap_or_default()),
                Switch::Input(_) | Switch::Signature(_) | Switch::Transform(_) => {
                    format!("on with `{}` of a signature", rule.switch.spelling().unwrap_or_default())
                }
            };
            writeln!(text, "```\n\nSwitched {switch}.{lossy}{calls}").unwrap();
        }
    }
    text.push_str(WHAT_RULES_DO_NOT_DECIDE);
    let path = sources::root().join("docs/repairs.md");
    if std::env::var_os("UPDATE").is_some_and(|value| !value.is_empty()) {
        std::fs::write(&path, &text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/repairs.md is outdated; run the tests once with UPDATE=1");
}
