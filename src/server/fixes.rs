//! Who sends what share of requests wrong, and who must change which line, as JSON.
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::models::catalog::Catalog;
use crate::repair::fix::{self, Mistake};
use crate::repair::{Reason, Repair};
use crate::sorting;
use crate::telemetry::metrics::UNKNOWN;
use crate::telemetry::mistakes::{ClientMistakes, Mistakes, Repeated};
use crate::wire::VersionChoice;

/// `{"clients": [{"client", "requests", "mismatches", "share", "first", "last", "languages",
/// "mistakes", "unlisted"}], "missed"}`, those with the most mismatches first and `__other__` last.
pub(super) fn clients(mistakes: &Mistakes) -> Value {
    let mut all = mistakes.clients();
    let other = all.pop().filter(|other| other.totals.requests > 0 || other.totals.mismatches > 0);
    sorting::by(&mut all, |left, right| {
        let key = |client: &ClientMistakes| (client.totals.mismatches, client.totals.requests);
        key(right).cmp(&key(left)).then_with(|| left.name.cmp(&right.name))
    });
    let shown: Vec<Value> = all.iter().chain(&other).map(client).collect();
    json!({"clients": shown, "missed": mistakes.missed()})
}

fn client(client: &ClientMistakes) -> Value {
    let mut languages: Vec<&str> = client.kinds.iter().map(|kind| kind.language.as_str()).collect();
    languages.sort_unstable();
    languages.dedup();
    let mut shown = client.totals.to_json();
    shown["client"] = json!(*client.name);
    shown["first"] = json!(time(client.first));
    shown["last"] = json!(time(client.last));
    shown["languages"] = json!(languages);
    shown["mistakes"] = json!(client.kinds.len());
    shown["unlisted"] = json!(client.unlisted);
    shown
}

/// A list, as docs/api.md describes it: one entry for each client and mistake, the most frequent
/// first.
pub(super) fn fixes(mistakes: &Mistakes, catalog: &Catalog) -> Value {
    let clients = mistakes.clients();
    let mut all: Vec<(&ClientMistakes, &Repeated)> =
        clients.iter().flat_map(|client| client.kinds.iter().map(move |kind| (client, kind))).collect();
    sorting::by(&mut all, |(_, left), (_, right)| {
        right.count.cmp(&left.count).then_with(|| right.last.cmp(&left.last))
    });
    all.into_iter().map(|(client, kind)| entry(client, kind, catalog)).collect()
}

fn entry(client: &ClientMistakes, kind: &Repeated, catalog: &Catalog) -> Value {
    let rule = Repair::find(kind.kind);
    let reason = Reason::ALL.iter().find(|reason| reason.as_str() == kind.kind);
    let (change, detail) = if rule.is_some() { (&*kind.text, "") } else { ("", &*kind.text) };
    let choice = kind.version.map_or(VersionChoice::Latest, VersionChoice::Version);
    let version =
        catalog.find(&kind.model, &choice).or_else(|| catalog.find(&kind.model, &VersionChoice::Latest));
    let signature = version.as_ref().and_then(|version| version.signatures.get(&kind.signature));
    let declared = signature.and_then(|signature| signature.input(&kind.input));
    let mistake = Mistake { kind: kind.kind, input: &kind.input, change, declared };
    let known = |name: &str| if name == UNKNOWN { String::new() } else { name.to_owned() };
    json!({
        "client": *client.name,
        "language": kind.language.as_str(),
        "model": *kind.model,
        "version": kind.version,
        "signature": known(&kind.signature),
        "input": *kind.input,
        "kind": kind.kind,
        "outcome": kind.outcome,
        "count": kind.count,
        "share": client.totals.share(kind.count),
        "first": time(kind.first),
        "last": time(kind.last),
        "change": change,
        "detail": detail,
        "meaning": rule.map(|rule| rule.when).or_else(|| reason.map(|reason| reason.about())).unwrap_or_default(),
        "fix": fix::line(&mistake, kind.language),
    })
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
