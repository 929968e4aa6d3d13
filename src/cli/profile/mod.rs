//! `profile`: what training data looks like.
pub(super) mod args;
mod bars;
mod build;
mod diff;
mod learn;
mod progress;
mod show;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::anyhow;

use self::args::{ProfileArgs, ProfileCommand};
use super::{Exit, Failure};
use crate::profile::{MAX_FILE_BYTES, Profile};

pub(super) fn profile(arguments: &ProfileArgs) -> Result<Exit, Failure> {
    match &arguments.command {
        ProfileCommand::Build(arguments) => build::build(arguments).map(|()| Exit::Success),
        ProfileCommand::Learn(arguments) => learn::learn(arguments).map(|()| Exit::Success),
        ProfileCommand::Show(arguments) => show::show(arguments).map(|()| Exit::Success),
        ProfileCommand::Diff(arguments) => diff::diff(arguments),
    }
}

/// Reads a profile.
fn load(path: &Path) -> Result<Profile, Failure> {
    let bytes = read(path, MAX_FILE_BYTES)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::usage(anyhow!("`{}` is not UTF-8 text", path.display())))?;
    Profile::from_yaml(&text).map_err(|problems| {
        let count = problems.0.len();
        let lines = problems.0.iter().map(|problem| format!("\n  {}:{problem}", path.display()));
        let what = if count == 1 { "a problem".to_owned() } else { format!("{count} problems") };
        Failure::usage(anyhow!("the profile has {what}{}", lines.collect::<String>()))
    })
}

/// Reads a small file.
fn read(path: &Path, max: usize) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(max as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| Failure::usage(anyhow!("cannot read `{}`: {error}", path.display())))?;
    if bytes.len() > max {
        return Err(Failure::usage(anyhow!("`{}` is longer than {max} bytes", path.display())));
    }
    Ok(bytes)
}
