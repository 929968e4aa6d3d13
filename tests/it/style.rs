//! How the sources are written: first lines, sizes, comment width, words, and what tests may do.
use crate::support::sources::{self, Source};

const MAX_LINES: usize = 450;
const MAX_COMMENT_WIDTH: usize = 100;

/// Words and phrases that the redesign replaced, in lower case, and what to write instead. Whole
/// words are compared, also those inside identifiers.
const REPLACED: &[(&str, &str)] = &[
    ("governor", "adaptive concurrency limit"),
    ("inbox", "grant receiver"),
    ("desk", "shard handle"),
    ("wishes", "request options"),
    ("additions", "response annotations"),
    ("poke", "revalidate"),
    ("pokes", "revalidate"),
    ("poked", "revalidate"),
    ("mends", "fixes"),
    ("mended", "fixed"),
    ("founder", "the subject itself"),
    ("stranger", "client"),
    ("strangers", "clients"),
    ("hardly", "a plain statement"),
    ("floor", "layer"),
    ("mend", "repair"),
    ("whoever", "the subject itself"),
    ("for want of", "without"),
];

/// Names of the old design that stay usual words in a sentence. No type or variant has them.
const REPLACED_TYPES: &[(&str, &str)] = &[
    ("Served", "ModelVersion"),
    ("Several", "FanOut"),
    ("Places", "Limiter"),
    ("Turn", "Waiter"),
    ("Record", "RequestMetrics"),
    ("Carried", "Encoding"),
    ("Gone", "ClientCancelled"),
];

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// The words of a line in lower case; `DoorState` and `door_state` are two each.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in line.chars() {
        if !c.is_ascii_alphabetic() || c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            words.push(String::new());
        }
        if c.is_ascii_alphabetic() {
            words.last_mut().unwrap().push(c.to_ascii_lowercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The names that a line of code declares as a type, or uses behind `::`.
fn type_names(line: &str) -> impl Iterator<Item = &str> {
    ["struct ", "enum ", "trait ", "type ", "::"].into_iter().flat_map(|before| {
        line.split(before).skip(1).map(|rest| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            rest.get(..end).unwrap_or_default()
        })
    })
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Every Rust file but this one, which names what it forbids.
fn others(folders: &[&str]) -> Vec<Source> {
    let all = folders.iter().flat_map(|folder| sources::rust(folder));
    all.filter(|source| !source.path.ends_with("it/style.rs")).collect()
}

#[test]
fn every_file_begins_with_its_purpose_and_is_short() {
    let mut faults = Vec::new();
    for source in ["src", "tests", "benches"].into_iter().flat_map(sources::rust) {
        let first = source.text.lines().next().unwrap_or_default();
        if !first.starts_with("//! ") || first.len() < 20 {
            faults.push(format!("{}: the first line must say what the file is for: `//! ...`", source.path));
        }
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            faults.push(format!("{}: {lines} lines (limit {MAX_LINES})", source.path));
        }
    }
    report(&faults);
}

#[test]
fn comments_wrap_at_100_columns() {
    let mut faults = Vec::new();
    for source in ["src", "tests", "benches", "fuzz"].into_iter().flat_map(sources::rust) {
        for (line, text) in source.lines().filter(|(_, text)| is_comment(text)) {
            let width = text.chars().count();
            // One long word, such as a URL, cannot wrap.
            let words = text.split_whitespace().count();
            if width > MAX_COMMENT_WIDTH && words > 2 {
                let limit = MAX_COMMENT_WIDTH;
                faults.push(format!("{}:{line}: a comment of {width} columns (limit {limit})", source.path));
            }
        }
    }
    report(&faults);
}

#[test]
fn replaced_words_do_not_come_back() {
    let mut all = others(&["src", "tests"]);
    all.extend(sources::below("docs", "md"));
    all.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(sources::file));
    let mut faults = Vec::new();
    for source in all {
        for (line, text) in source.lines() {
            let words = format!(" {} ", words(text).join(" "));
            for (word, instead) in REPLACED {
                if words.contains(&format!(" {word} ")) {
                    faults.push(format!("{}:{line}: `{word}`, write {instead}", source.path));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn replaced_types_do_not_come_back() {
    let mut faults = Vec::new();
    for source in sources::rust("src") {
        for (line, text) in source.lines().filter(|(_, text)| !is_comment(text)) {
            for (name, instead) in REPLACED_TYPES {
                if type_names(text).any(|found| found == *name) {
                    faults.push(format!("{}:{line}: `{name}`, now `{instead}`", source.path));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn nothing_points_outside_of_the_repository() {
    // Put together, so that a search for it does not find this file.
    let up = ["..", "/shared"].concat();
    let absolute = ["/work/", "/tmp/", "/home/", "/root/"].map(|path| format!("\"{path}"));
    let mut faults = Vec::new();
    for source in others(&["src", "tests"]) {
        for (line, text) in source.lines() {
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
    for source in others(&["src", "tests"]) {
        // Load has a pace. It is in one place for the tests; the load generator has its own.
        let tests = source.path.starts_with("tests/")
            && !source.path.starts_with("tests/bench/")
            && source.path != "tests/support/pace.rs";
        for (line, text) in source.lines() {
            if text.contains("#[ignore") || text.contains("#[should_panic") {
                faults.push(format!("{}:{line}: an ignored test, or one that expects a panic", source.path));
            }
            if tests && text.contains("sleep(") {
                faults.push(format!("{}:{line}: wait for the event itself instead of sleeping", source.path));
            }
        }
    }
    report(&faults);
}

#[test]
fn words_are_found_inside_identifiers() {
    assert_eq!(
        words("let DoorState = door_state(\"a door\");"),
        ["let", "door", "state", "door", "state", "a", "door"]
    );
    let found: Vec<&str> = type_names("pub struct Served(Stop::Gone, served);").collect();
    assert_eq!(found, ["Served", "Gone"]);
}
