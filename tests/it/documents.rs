//! That every page in docs/ is in its index once, and that links between pages lead somewhere.
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::sources::{self, Source};

const INDEX: &str = "docs/README.md";
/// Two screens.
const MAX_README_LINES: usize = 110;

/// The page without what is between its fences.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// Where the links of a page lead, as written.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// The anchors of a page's titles, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let titles = prose.lines().filter(|line| line.starts_with('#'));
    titles
        .map(|title| {
            let title = title.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// `path` from the folder of the page at `from`, without `..`.
fn resolve(from: &str, path: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// What is wrong with the links of `pages`.
fn broken(pages: &[Source], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let known: BTreeMap<&str, BTreeSet<String>> =
        pages.iter().map(|page| (page.path.as_str(), anchors(&page.text))).collect();
    let mut faults = Vec::new();
    for page in pages {
        for link in links(&page.text).iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.path.clone() } else { resolve(&page.path, path) };
            if !exists(&target) {
                faults.push(format!("{}: `{link}`: no such file", page.path));
            } else if !anchor.is_empty()
                && known.get(target.as_str()).is_some_and(|all| !all.contains(anchor))
            {
                faults.push(format!("{}: `{link}`: no such title", page.path));
            }
        }
    }
    faults
}

fn pages() -> Vec<Source> {
    let top =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "STYLE.md"].map(sources::file);
    let mut pages = sources::below("docs", "md");
    pages.extend(top);
    pages.push(sources::file("deploy/README.md"));
    pages
}

#[test]
fn every_page_is_in_the_index_once() {
    let index = sources::file(INDEX);
    let mut found = BTreeMap::<String, usize>::new();
    for link in links(&index.text) {
        *found.entry(resolve(INDEX, link.split('#').next().unwrap())).or_default() += 1;
    }
    let pages = sources::below("docs", "md");
    let faults: Vec<String> = pages
        .iter()
        .filter(|page| page.path != INDEX)
        .filter_map(|page| match found.get(&page.path) {
            Some(1) => None,
            Some(times) => Some(format!("{} is in {INDEX} {times} times", page.path)),
            None => Some(format!("{} is not in {INDEX}", page.path)),
        })
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(
        links(&sources::file("README.md").text).iter().any(|link| link == INDEX),
        "README.md: no link to {INDEX}"
    );
}

#[test]
fn links_lead_to_files_and_titles_that_exist() {
    let faults = broken(&pages(), |path| sources::root().join(Path::new(path)).exists());
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn a_link_to_a_missing_file_or_title_is_found() {
    let page = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let pages = [
        page(
            "docs/a.md",
            "# A `b`, c\n[b](#a-b-c) [d](../d.md#one) [no](no.md) [x](#x) [web](https://x/y)\n```sh\n[z](z)\n```",
        ),
        page("d.md", "# Two"),
    ];
    let faults = broken(&pages, |path| pages.iter().any(|page| page.path == path));
    assert_eq!(
        faults,
        [
            "docs/a.md: `../d.md#one`: no such title",
            "docs/a.md: `no.md`: no such file",
            "docs/a.md: `#x`: no such title"
        ]
    );
}

/// The targets in lines of code that call `make`.
fn make_targets(text: &str) -> BTreeSet<String> {
    let shell = text.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n"));
    let prose = prose(text);
    let lines = shell.flat_map(str::lines).chain(prose.split('`').skip(1).step_by(2));
    let calls = lines.filter_map(|line| line.trim_start().strip_prefix("make "));
    let words = calls.flat_map(|call| {
        call.split_whitespace().take_while(|word| !matches!(word.chars().next(), Some('#' | '&' | '|' | ';')))
    });
    words.filter(|word| !word.contains('=')).map(str::to_owned).collect()
}

#[test]
fn every_make_target_in_the_documentation_exists() {
    let makefile = sources::file("Makefile").text;
    let targets: BTreeSet<&str> = makefile.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    let mut faults = Vec::new();
    let mut found = BTreeSet::new();
    for page in pages() {
        for target in make_targets(&page.text) {
            if !targets.contains(target.as_str()) {
                faults.push(format!("{}: `make {target}`", page.path));
            }
            found.insert(target);
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert!(["demo", "demo-tf", "test", "release"].iter().all(|target| found.contains(*target)), "{found:?}");
}

#[test]
fn the_readme_fits_two_screens() {
    let lines = sources::file("README.md").text.lines().count();
    assert!(lines <= MAX_README_LINES, "README.md has {lines} lines (limit {MAX_README_LINES})");
}
