//! `completions` and `man`: the command line for shells and for `man`.
use clap::Command;

use super::args::{CompletionsArgs, ManArgs};
use super::{Failure, render};
use crate::spelling::nearest;

/// Prints the script for a shell.
pub(super) fn completions(arguments: &CompletionsArgs, command: &mut Command) {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "tfs-sidecar", &mut script);
    render::data(&String::from_utf8_lossy(&script));
}

/// Prints the page of the program, or of one of its commands.
pub(super) fn man(arguments: &ManArgs, command: &mut Command) -> Result<(), Failure> {
    command.build();
    let page = match &arguments.command {
        None => command.clone(),
        Some(name) => match command.find_subcommand(name) {
            Some(found) => found.clone(),
            None => {
                let names = command.get_subcommands().map(Command::get_name);
                let hint = nearest(name, names).map(|near| format!("did you mean `{near}`?"));
                let failure = Failure::usage(anyhow::anyhow!("there is no command `{name}`"));
                return Err(hint.into_iter().fold(failure, Failure::hint));
            }
        },
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    render::data(&String::from_utf8_lossy(&text));
    Ok(())
}
