//! The structure of the sources: a module uses only lower layers, the core is pure, and every rule
//! is registered.
use std::collections::BTreeSet;
use std::path::Path;

use crate::support::sources::rust as sources;

/// The modules by layer: a file may use its own layer and those below, never one above.
const LAYERS: &[(&str, usize)] = &[
    ("tensor", 0),
    ("sorting", 0),
    ("spelling", 0),
    ("yaml", 0),
    ("wire", 1),
    ("signature", 1),
    ("repair", 2),
    ("explain", 2),
    ("doctor", 2),
    ("profile", 2),
    ("rest", 2),
    ("concurrency", 2),
    ("batch", 2),
    ("retry", 2),
    ("rest", 2),
    ("proto", 3),
    ("fault", 3),
    ("telemetry", 3),
    ("tasks", 3),
    ("config", 3),
    ("census", 3),
    ("dataset", 3),
    // Compiled for tests only.
    ("generated", 3),
    ("transport", 4),
    ("limiter", 5),
    ("preprocessing", 5),
    ("runs", 5),
    ("upstream", 5),
    ("models", 6),
    ("lifecycle", 7),
    ("pipeline", 8),
    ("listener", 9),
    ("server", 9),
    ("cli", 10),
    ("main", 10),
    ("lib", 10),
];

/// Uses of a module of the same or a higher layer that are allowed.
const ALLOWED: &[(&str, &str)] = &[
    // The metadata response is a protobuf message.
    ("signature", "proto"),
    // Model status and metadata are protobuf messages.
    ("rest", "proto"),
    // The `Any` in the metadata response is read as wire format.
    ("signature", "wire"),
    // Time is counted alike.
    ("batch", "concurrency"),
    // The policy of a signature holds the settings of its batching.
    ("repair", "batch"),
    // Who must act is said as for errors; warm-up records are judged as requests are.
    ("doctor", "explain"),
    ("doctor", "repair"),
    // The request of a probe is a protobuf message.
    ("doctor", "proto"),
    // The policy of a signature holds what its training data looked like.
    ("repair", "profile"),
];

/// What only layer 3 and above may use: waiting, counting, logging, files, clocks.
const IMPURE: &[&str] = &[
    "tokio",
    "tonic",
    "hyper",
    "hyper_util",
    "h2",
    "axum",
    "metrics",
    "tracing",
    "tracing_subscriber",
    "std::fs",
    "std::env",
    "std::net",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::thread",
];

/// The module of a source: `repair` for `src/repair/plan.rs`, `fault` for `src/fault.rs`.
fn module(path: &str) -> &str {
    let rest = path.strip_prefix("src/").expect("a source");
    rest.split('/').next().unwrap().trim_end_matches(".rs")
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// The lines without unit tests and comments, which may name anything.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let marker = "#[cfg(test)]\n";
    let is_module = |at: &usize| {
        text.get(at + marker.len()..)
            .is_some_and(|rest| rest.lines().next().unwrap_or("").contains("mod tests"))
    };
    let tests = text.match_indices(marker).map(|(at, _)| at).find(is_module).unwrap_or(text.len());
    let lines = text.get(..tests).unwrap().lines().enumerate();
    lines.map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The modules that a line names as `crate::module` or in `crate::{a, b}`.
fn crate_uses(line: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for rest in line.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => {
                let group = group.split('}').next().unwrap_or(group);
                used.extend(group.split(',').map(|item| first_word(item.trim())));
            }
            None => drop(used.insert(first_word(rest))),
        }
    }
    used.remove("");
    used
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn modules_use_lower_layers_only() {
    let mut faults = Vec::new();
    for source in sources("src").iter().filter(|source| !source.path.contains("/tests/")) {
        let own = module(&source.path);
        let Some(own_layer) = layer(own) else {
            faults.push(format!("{}: the module `{own}` has no layer", source.path));
            continue;
        };
        for (line, text) in code(&source.text) {
            for used in crate_uses(text) {
                let Some(used_layer) = layer(&used) else { continue };
                let sideways = used_layer == own_layer && used != own && own_layer < 3;
                if (used_layer > own_layer || sideways) && !ALLOWED.contains(&(own, used.as_str())) {
                    faults.push(format!("{}:{line}: `{own}` may not use `{used}`", source.path));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn the_core_is_pure() {
    let mut faults = Vec::new();
    let core = |path: &str| layer(module(path)).is_some_and(|layer| layer < 3) && !path.contains("/tests/");
    for source in sources("src").iter().filter(|source| core(&source.path)) {
        for (line, text) in code(&source.text) {
            for banned in IMPURE {
                let inside_a_word = |at: usize| {
                    text.get(..at)
                        .unwrap()
                        .chars()
                        .next_back()
                        .is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
                };
                let ends_there = |at: usize| {
                    let rest = text.get(at + banned.len()..).unwrap_or_default();
                    rest.starts_with("::")
                        || banned.contains("::") && !rest.starts_with(|c: char| c.is_alphanumeric())
                };
                if text.match_indices(banned).any(|(at, _)| !inside_a_word(at) && ends_there(at)) {
                    faults.push(format!("{}:{line}: `{banned}` below layer 3", source.path));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn tasks_and_threads_are_started_where_a_panic_is_noticed() {
    let mut faults = Vec::new();
    let tests = |path: &str| path.ends_with("tests.rs") || path.contains("/tests/");
    for source in sources("src").iter().filter(|source| !tests(&source.path)) {
        for (line, text) in code(&source.text) {
            let starts =
                ["spawn_local(", "tokio::spawn(", "task::spawn(", "thread::spawn(", "Builder::new().name("];
            let allowed = match source.path.as_str() {
                "src/tasks.rs" => true,
                "src/server/mod.rs" => text.contains("thread::Builder"),
                _ => text.contains(".spawn_local(critical("),
            };
            if starts.iter().any(|start| text.contains(start)) && !allowed {
                faults.push(format!("{}:{line}: start tasks with the functions of `tasks`", source.path));
            }
        }
    }
    report(&faults);
}

#[test]
fn every_rule_is_registered() {
    let all = sources("src");
    let registry = &all.iter().find(|source| source.path == "src/repair/rules/mod.rs").unwrap().text;
    let mut faults = Vec::new();
    for source in all.iter().filter(|source| source.path.starts_with("src/repair/rules/")) {
        let name = Path::new(&source.path).file_stem().unwrap().to_str().unwrap();
        if name != "mod" && !registry.lines().any(|line| line.trim() == format!("{name},")) {
            faults.push(format!("{}: the list `rules!` does not have `{name}`", source.path));
        }
    }
    report(&faults);
}
