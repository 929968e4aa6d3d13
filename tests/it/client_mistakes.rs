//! The mistakes of real clients in `tests/fixtures/mistakes.tsv`, each with the verdict that it
//! must get.
use std::collections::{BTreeMap, BTreeSet};

use tfs_sidecar::repair::{Action, Outcome, apply, notation};
use tfs_sidecar::wire::PredictView;

use crate::support::engine;

const TABLE: &str = include_str!("../fixtures/mistakes.tsv");

struct Mistake<'a> {
    class: &'a str,
    source: &'a str,
    policy: &'a str,
    signature: &'a str,
    request: &'a str,
    expected: &'a str,
}

/// The lines after the line with the names of the columns.
fn mistakes() -> impl Iterator<Item = (usize, Mistake<'static>)> {
    let lines = TABLE.lines().enumerate().filter(|(_, line)| !line.starts_with('#')).skip(1);
    lines.map(|(at, line)| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [class, source, policy, signature, request, expected, _note] = fields[..] else {
            panic!("line {}: expected 7 fields, got {}", at + 1, fields.len());
        };
        (at + 1, Mistake { class, source, policy, signature, request, expected })
    })
}

/// The verdict of the engine; an error if a repaired request does not conform.
fn answer(mistake: &Mistake<'_>) -> Result<String, String> {
    let signatures = notation::signature(mistake.signature).map_err(|error| error.to_string())?;
    let message = notation::request("m", mistake.request).map_err(|error| error.to_string())?;
    let policy = engine::policy(mistake.policy)?;
    let verdict = engine::decide(&message, &signatures, &policy).ok_or("the request cannot be scanned")?;
    // The calls of a fan-out are checked as one request.
    if verdict.action == Action::Apply && !mistake.expected.starts_with("fan_out") {
        let view = PredictView::scan(&message).map_err(|error| error.to_string())?;
        let after = apply(&message, &view, &verdict.plan).map_err(|error| error.to_string())?;
        let again =
            engine::decide(&after, &signatures, &policy).ok_or("the repaired request cannot be scanned")?;
        if !matches!((again.action, again.outcome), (Action::Forward, Outcome::Conforming | Outcome::Passed))
        {
            return Err(format!("after the repair: {}", engine::line(&again)));
        }
    }
    Ok(engine::line(&verdict))
}

#[test]
fn every_mistake_gets_the_expected_verdict() {
    let mut faults = Vec::new();
    for (line, mistake) in mistakes() {
        let found = answer(&mistake).unwrap_or_else(|error| format!("({error})"));
        if found != mistake.expected {
            faults.push(format!(
                "line {line}, {} {}: {} <- {} {}\n  expected {}\n  found    {found}",
                mistake.class,
                mistake.source,
                mistake.signature,
                mistake.request,
                mistake.policy,
                mistake.expected
            ));
        }
    }
    assert!(faults.is_empty(), "{} lines fail\n{}", faults.len(), faults.join("\n"));
}

/// `#: D2 13 of 19  why the others are not here`
#[test]
fn the_header_counts_the_threads_of_each_class() {
    let mut sources: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (_, mistake) in mistakes() {
        sources.entry(mistake.class).or_default().insert(mistake.source);
    }
    let mut faults = Vec::new();
    let mut classes = BTreeSet::new();
    for header in TABLE.lines().filter_map(|line| line.strip_prefix("#: ")) {
        let words: Vec<&str> = header.split_whitespace().collect();
        let [class, here, "of", all, why @ ..] = &words[..] else { panic!("{header}") };
        classes.insert(*class);
        let found = sources.get(class).map_or(0, BTreeSet::len);
        if here.parse() != Ok(found) {
            faults.push(format!("{class}: {found} threads, the header says {here}"));
        }
        if (here == all) != why.is_empty() {
            faults.push(format!("{class}: the header must say why the others are left out"));
        }
    }
    faults.extend(
        sources.keys().filter(|class| !classes.contains(*class)).map(|class| format!("{class}: no header")),
    );
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
