//! That docs/dependencies.md has a row for each direct dependency, with its version and the reason.
use std::collections::{BTreeMap, BTreeSet};

use crate::support::sources;

const PAGE: &str = "docs/dependencies.md";
/// A cell that says nothing, such as `-`, is shorter.
const MIN_REASON: usize = 10;

/// The direct dependencies of a package with their versions, from the lock file of its workspace.
/// It names a version only where two are locked, as Cargo's `encode_dependency` does.
fn direct(lock: &str, package: &str) -> BTreeMap<String, String> {
    let mut packages = Vec::new();
    for block in lock.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
            line.map(|line| line.trim_end_matches('"').to_owned())
        };
        packages.push((value("name").unwrap(), value("version").unwrap(), block));
    }
    let (.., block) = packages.iter().find(|(name, ..)| name == package).unwrap();
    let listed = block.split_once("dependencies = [").unwrap().1.split_once(']').unwrap().0;
    let entries = listed.lines().map(|line| line.trim().trim_end_matches(',').trim_matches('"'));
    let version = |name: &str| packages.iter().find(|(found, ..)| found == name).unwrap().1.clone();
    entries
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let mut words = entry.split(' ');
            let name = words.next().unwrap().to_owned();
            let version = words.next().map_or_else(|| version(&name), str::to_owned);
            (name, version)
        })
        .collect()
}

/// The cells of the rows whose first cell is code.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The names in code of a cell.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() })
}

/// What is wrong with the rows of the crates that `locked` has.
fn faults(page: &str, locked: &BTreeMap<String, String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for row in rows(page) {
        let [name, version, released, newest, reason, others] = row[..] else {
            faults.push(format!("{row:?}: expected 6 cells"));
            continue;
        };
        let name = name.trim_matches('`');
        if !seen.insert(name) {
            faults.push(format!("`{name}` has two rows"));
        }
        match locked.get(name) {
            None => faults.push(format!("`{name}` is no direct dependency (delete its row)")),
            Some(locked) if locked != version => faults.push(format!(
                "`{name}`: Cargo.lock has {locked}, the page {version} (its date is on https://crates.io/crates/{name}/versions)"
            )),
            Some(_) => {}
        }
        let newest_is_fine = newest.is_empty()
            || newest
                .split_once(", ")
                .is_some_and(|(newer, date)| newer != version && is_date(date) && date >= released);
        if !is_date(released) || !newest_is_fine {
            faults.push(format!(
                "`{name}`: expected dates such as 2026-11-27, got `{released}` and `{newest}`"
            ));
        }
        if reason.len() < MIN_REASON || others.len() < MIN_REASON {
            faults.push(format!("`{name}`: what it is for and what else was looked at must be said"));
        }
    }
    let missing = locked.keys().filter(|name| !seen.contains(name.as_str()));
    faults.extend(missing.map(|name| format!("`{name}` has no row")));
    faults
}

fn crates_of_the_sidecar() -> BTreeMap<String, String> {
    direct(&sources::file("Cargo.lock").text, env!("CARGO_PKG_NAME"))
}

#[test]
fn every_dependency_has_a_row_with_its_version_and_reason() {
    let page = sources::file(PAGE).text;
    let (page, _) = page.split_once("## Other packages").unwrap();
    let faults = faults(page, &crates_of_the_sidecar());
    assert!(faults.is_empty(), "{PAGE}:\n{}", faults.join("\n"));
}

#[test]
fn a_missing_a_superfluous_and_an_outdated_row_are_found() {
    let locked =
        BTreeMap::from([("bytes", "1.12.1"), ("h2", "0.4.20")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    let row = |name: &str, version: &str| {
        format!("| `{name}` | {version} | 2026-11-27 |  | what it is for | what else there is |\n")
    };
    assert_eq!(faults(&(row("bytes", "1.12.1") + &row("h2", "0.4.20")), &locked), [""; 0]);
    let found = faults(&(row("bytes", "1.12.0") + &row("hyper", "1.12.0")), &locked);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("`bytes`: Cargo.lock has 1.12.1"), "{found:?}");
    assert!(found[1].starts_with("`hyper` is no direct dependency"), "{found:?}");
    assert_eq!(found[2], "`h2` has no row");
    let undated = row("h2", "0.4.20").replace("2026-11-27", "November");
    assert!(faults(&undated, &locked)[0].contains("expected dates"));
    assert!(
        direct("[[package]]\nname = \"a\"\nversion = \"1\"\ndependencies = [\n \"b 2.0.0\",\n]\n", "a")["b"]
            == "2.0.0"
    );
}

#[test]
fn the_dependencies_of_the_other_packages_and_of_the_python_tests_are_listed() {
    let page = sources::file(PAGE).text;
    let (above, page) = page.split_once("## Other packages").unwrap();
    let (others, python) = page.split_once("## Python").unwrap();
    let listed = |text| rows(text).into_iter().flat_map(|row| names(row[0])).collect::<BTreeSet<&str>>();
    let ours = listed(above);
    let mut crates = BTreeSet::new();
    for (workspace, package) in
        [("fuzz", "tfs-sidecar-fuzz"), ("benches", "tfs-sidecar-micro"), ("tests/bench", "proxy-bench")]
    {
        crates.extend(direct(&sources::file(&format!("{workspace}/Cargo.lock")).text, package).into_keys());
    }
    crates.retain(|name| !ours.contains(name.as_str()));
    assert_eq!(listed(others), crates.iter().map(String::as_str).collect());

    let files = sources::below("tests", "in");
    let packages =
        files.iter().filter(|file| file.path.contains("requirements")).flat_map(|file| file.text.lines());
    let packages = packages.filter(|line| !line.starts_with('#') && !line.is_empty());
    let packages: BTreeSet<&str> =
        packages.map(|line| line.split(['=', '[']).next().unwrap().trim()).collect();
    assert_eq!(listed(python), packages);
}
