//! Reads the sources and holds them to the house rules that no compiler knows: layers, first lines,
//! sizes, the registry.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The modules by layer: a file may use its own layer and those below, never one above.
const LAYERS: &[(&str, usize)] = &[
    ("tensor", 0),
    ("spelling", 0),
    ("wire", 1),
    ("signature", 1),
    ("repair", 2),
    ("explain", 2),
    ("concurrency", 2),
    ("retry", 2),
    ("proto", 3),
    ("fault", 3),
    ("telemetry", 3),
    ("config", 3),
    // Compiled for tests only.
    ("generated", 3),
    ("transport", 4),
    ("limiter", 5),
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

/// Steps up or sideways that have a reason.
const ALLOWED: &[(&str, &str)] = &[
    // The metadata answer is a message.
    ("signature", "proto"),
    // The `Any` of the metadata is read as wire format.
    ("signature", "wire"),
];

/// Layer 3 is the first that may wait, count, log, or look at the world.
const WORLD: &[&str] = &[
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

const MAX_LINES: usize = 450;

struct Source {
    /// From the package's root.
    path: String,
    text: String,
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // What the benchmarks' own package built is nobody's source.
                if path.file_name().is_none_or(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The module that a source belongs to: `src/repair/plan.rs` to `repair`, `src/fault.rs` to
/// `fault`.
fn module(path: &str) -> &str {
    let rest = path.strip_prefix("src/").expect("a source");
    rest.split('/').next().unwrap().trim_end_matches(".rs")
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// The text without its unit tests and comments; both may say what code may not do.
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

/// The modules that a line names as `crate::module`, those in `crate::{a, b}` too.
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
    for source in sources("src") {
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
fn the_core_does_not_know_the_world() {
    let mut faults = Vec::new();
    for source in
        sources("src").iter().filter(|source| layer(module(&source.path)).is_some_and(|layer| layer < 3))
    {
        for (line, text) in code(&source.text) {
            for banned in WORLD {
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
fn every_file_begins_with_its_purpose_and_ends_in_time() {
    let mut faults = Vec::new();
    for source in ["src", "tests", "benches"]
        .iter()
        .filter(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).is_dir())
        .flat_map(|folder| sources(folder))
    {
        let first = source.text.lines().next().unwrap_or_default();
        if !first.starts_with("//! ") || first.len() < 20 {
            faults.push(format!("{}: the first line must say what the file is for: `//! ...`", source.path));
        }
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            faults.push(format!("{}: {lines} lines, at most {MAX_LINES}", source.path));
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

#[test]
fn nothing_points_outside_of_the_repository() {
    // Put together, so that this file does not find itself.
    let up = ["..", "/shared"].concat();
    let absolute = ["/work/", "/tmp/", "/home/", "/root/"].map(|path| format!("\"{path}"));
    let mut faults = Vec::new();
    for source in ["src", "tests"].into_iter().flat_map(sources) {
        if source.path.ends_with("it/layers.rs") {
            continue;
        }
        for (line, text) in source.text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
            if text.contains(&up) || absolute.iter().any(|path| text.contains(path)) {
                faults.push(format!("{}:{line}: a path outside of the repository", source.path));
            }
        }
    }
    report(&faults);
}

#[test]
fn no_test_is_ignored_and_none_sleeps() {
    let mut faults = Vec::new();
    for source in ["src", "tests"].into_iter().flat_map(sources) {
        if source.path.ends_with("it/layers.rs") {
            continue;
        }
        // The load generator paces itself; it tests nothing.
        let tests = source.path.starts_with("tests/") && !source.path.starts_with("tests/bench/");
        for (line, text) in source.text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
            if text.contains("#[ignore") || text.contains("#[should_panic") {
                faults.push(format!("{}:{line}: an ignored test, or one that wants a panic", source.path));
            }
            if tests && text.contains("sleep(") {
                faults.push(format!("{}:{line}: wait for the thing itself", source.path));
            }
        }
    }
    report(&faults);
}
