//! The summary of a run: what was sent, what happened, and what both sides have counted.
use std::fmt::Write as _;

use crate::accidents::Diary;
use crate::ending::Ended;
use crate::log::Lines;
use crate::tally::{CODES, Tally};

pub(crate) fn text(tally: &Tally, diary: &Diary, attacked: &str, ended: &Ended, lines: &Lines) -> String {
    let mut text = format!("{:<14}", "sent");
    for (_, name) in CODES {
        write!(text, "{name:>20}").unwrap();
    }
    for ((door, act), codes) in &tally.kinds {
        write!(text, "\n{:<14}", format!("{door:?} {act:?}")).unwrap();
        for (code, _) in CODES {
            write!(text, "{:>20}", codes.get(&code).copied().unwrap_or_default()).unwrap();
        }
    }
    let metric = |name: &str| ended.metrics.sum(&format!("tfs_sidecar_{name}"), &[]);
    let answered: u64 = tally.answered.values().sum();
    let broken_off: u64 = tally.broken_off.values().sum();
    let logged: u64 = lines.requests.values().sum();
    writeln!(
        text,
        "\nclients: {answered} answers, {broken_off} calls broken off, {} shared a run",
        tally.shared
    )
    .unwrap();
    writeln!(text, "access log: {logged} requests of clients, {} of others", lines.others).unwrap();
    writeln!(text, "{diary}").unwrap();
    writeln!(
        text,
        "attackers: {attacked}; {} connections ended, {} refused",
        metric("connections_ended_total"),
        metric("connections_refused_total")
    )
    .unwrap();
    let told: u64 = tally.shifted.values().sum();
    writeln!(text, "profile: {} clients were told {told} times that they do not scale", tally.shifted.len())
        .unwrap();
    let spans = |result: &str| ended.metrics.sum("tfs_sidecar_otlp_spans_total", &[("result", result)]);
    writeln!(
        text,
        "traces: {} spans exported, {} received, {} dropped, {} failed; {} forms in the census",
        spans("exported"),
        ended.spans,
        spans("dropped"),
        spans("failed"),
        metric("traffic_forms")
    )
    .unwrap();
    let (before, after) = ended.descriptors;
    writeln!(text, "descriptors: {before} before, {after} after").unwrap();
    text
}
