//! The only file that prints: data to stdout, everything else to stderr, nothing that needs colour.
use std::fmt::Write as _;
use std::io::{Write, stderr, stdout};

use super::Failure;

/// The output of a command, to stdout. A closed pipe is not an error.
pub(super) fn data(text: &str) {
    write(&mut stdout().lock(), text);
}

/// A message, to stderr.
pub(super) fn note(text: &str) {
    write(&mut stderr().lock(), text);
}

/// Why a command failed, to stderr.
pub(super) fn failure(failure: &Failure) {
    note(&failure_text(failure));
}

/// Help and version to stdout, usage errors to stderr, as clap renders them.
pub(super) fn clap(error: &clap::Error) {
    let text = error.render().to_string();
    if error.use_stderr() { note(&text) } else { data(&text) }
}

/// A line on stderr that replaces the last one of these; an empty one removes it.
pub(super) fn progress(line: &str) {
    let mut stderr = stderr().lock();
    drop(write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush()));
}

fn write(to: &mut impl Write, text: &str) {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    // There is nowhere to report a failed write.
    drop(to.write_all(text.as_bytes()).and_then(|()| to.write_all(end.as_bytes())).and_then(|()| to.flush()));
}

/// The error, its causes, and hints.
fn failure_text(failure: &Failure) -> String {
    let mut text = format!("error: {}", failure.error);
    for cause in failure.error.chain().skip(1) {
        write!(text, "\n  caused by: {cause}").expect("a string takes any text");
    }
    for hint in &failure.hints {
        write!(text, "\nhint: {hint}").expect("a string takes any text");
    }
    text
}

/// Columns as wide as their widest cell, two spaces apart, without trailing blanks.
pub(super) fn table<const N: usize>(titles: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = titles.map(|title| title.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut line = |cells: [&str; N]| {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(cells) {
            let blanks = width - cell.chars().count() + 2;
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', blanks));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(titles);
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_failure_shows_its_causes_and_hints() {
        let error = anyhow!("connection refused").context("cannot reach `127.0.0.1:8602`");
        let failure = Failure::from(error).hint("is the sidecar running?");
        insta::assert_snapshot!(failure_text(&failure), @r"
        error: cannot reach `127.0.0.1:8602`
          caused by: connection refused
        hint: is the sidecar running?
        ");
    }

    #[test]
    fn columns_are_aligned_with_their_titles() {
        let rows = [["x", "float", "[-1,2]"], ["längster", "int64", ""]].map(|row| row.map(str::to_owned));
        insta::assert_snapshot!(table(["name", "dtype", "shape"], &rows), @r"
        name      dtype  shape
        x         float  [-1,2]
        längster  int64
        ");
    }
}
