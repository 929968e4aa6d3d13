//! Tests that every command in the documentation works as printed.
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

use super::Exit;
use super::args::Cli;

/// A command as its words, and where it is printed.
struct Printed {
    page: String,
    words: Vec<String>,
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders =
        [root.to_owned(), root.join("docs"), root.join("docs").join("runbooks"), root.join("deploy")];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let pages = files.map(|file| file.unwrap().path());
    // `cli.md` shows the help of each command, which another test keeps up to date.
    pages
        .filter(|path| path.extension().is_some_and(|ext| ext == "md") && !path.ends_with("cli.md"))
        .collect()
}

/// Lines of shell blocks that call the program, and inline code that begins with its name.
fn commands() -> Vec<Printed> {
    let mut found = Vec::new();
    for path in pages() {
        let text = std::fs::read_to_string(&path).unwrap();
        let (mut shell, mut prose) = (Vec::new(), String::new());
        for (at, block) in text.split("```").enumerate() {
            match block.strip_prefix("sh\n") {
                Some(block) if at % 2 == 1 => shell.extend(block.lines()),
                _ if at % 2 == 1 => {}
                _ => prose.push_str(block),
            }
        }
        let inline = prose.split('`').skip(1).step_by(2);
        for line in shell.into_iter().chain(inline) {
            let words = words(line);
            if words.first().is_some_and(|word| word.rsplit('/').next() == Some("tfs-sidecar"))
                && words.len() > 1
            {
                found.push(Printed { page: path.display().to_string(), words });
            }
        }
    }
    found
}

/// Words as a shell reads them, as far as the documentation uses its syntax.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
            continue;
        }
        words.extend(part.split_whitespace().map(str::to_owned));
    }
    words.into_iter().take_while(|word| !word.starts_with('#') && !word.ends_with(';')).collect()
}

/// The commands in full; a mention of only their names, such as `run | check`, is left out.
fn calls() -> Vec<Printed> {
    commands().into_iter().filter(|printed| printed.words.iter().any(|word| word.starts_with('-'))).collect()
}

#[test]
fn every_command_in_the_documentation_is_known_with_its_flags() {
    let known = Cli::command();
    for Printed { page, words } in commands() {
        let mut command = &known;
        for name in words[1..].iter().take_while(|word| !word.starts_with('-')) {
            match command.find_subcommand(name) {
                Some(found) => command = found,
                None if name == "|" => command = &known,
                None if command.get_positionals().next().is_some() => break,
                None => panic!("{page}: {words:?}: no command `{name}`"),
            }
        }
    }
    let calls = calls();
    for Printed { page, words } in &calls {
        match Cli::command().try_get_matches_from(words) {
            // `--version` and `--help` are answered by way of an error.
            Err(error) if error.exit_code() != 0 => panic!("{page}: {words:?}: {error}"),
            _ => {}
        }
    }
    // The README alone has four.
    assert!(calls.len() >= 6, "{}", calls.len());
}

#[test]
fn the_commands_that_need_no_server_succeed_as_printed() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/example.yaml");
    let mut tried = 0;
    for Printed { page, words } in calls() {
        let needs_server = words.iter().any(|word| word == "--upstream");
        if words[1] != "check" || needs_server {
            continue;
        }
        let with_file = words.iter().map(|word| match word.as_str() {
            "sidecar.yaml" | "FILE" => OsString::from(example),
            word => OsString::from(word),
        });
        assert_eq!(super::main(with_file), Exit::Success, "{page}: {words:?}");
        tried += 1;
    }
    assert!(tried >= 2, "{tried}");
}
