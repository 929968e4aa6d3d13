//! The command line: from arguments to a command, and from its outcome to an exit code.
mod admin;
mod args;
#[cfg(test)]
mod args_tests;
mod batch_probe;
mod batching;
mod check;
mod diff;
#[cfg(test)]
mod docs;
mod doctor;
mod drain;
mod example;
mod explain;
mod fixes;
mod healthcheck;
mod profile;
mod render;
mod run;
mod settings;
mod shell;
mod signature;
mod traffic;
mod version;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use args::{Cli, Command};
use settings::source;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Success,
    /// The command failed, and not because of its arguments.
    Failure,
    /// An invalid flag, file or configuration.
    Usage,
    /// A background task or a thread panicked.
    Panicked,
    /// A second signal stopped it before the end of the drain.
    Interrupted,
}

/// As shells report a process that SIGINT has ended.
const INTERRUPTED: u8 = 128 + 2;

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Panicked => crate::tasks::EXIT_CODE,
            Exit::Interrupted => INTERRUPTED,
        })
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub exit: Exit,
    pub error: anyhow::Error,
    /// What to do about it.
    pub hints: Vec<String>,
}

impl Failure {
    /// An invalid flag, file or configuration.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Usage, error: error.into(), hints: Vec::new() }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { exit: Exit::Failure, error: error.into(), hints: Vec::new() }
    }
}

/// Parses the command line, runs the command, and reports failures.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let mut command = Cli::command();
    let parsed = command.try_get_matches_from_mut(arguments).and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((cli, matches))
    });
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            render::clap(&error);
            return if error.use_stderr() { Exit::Usage } else { Exit::Success };
        }
    };
    let matches = matches.subcommand().map_or(&matches, |(_, matches)| matches);
    let warnings = settings::warnings(&command);
    let warn = || warnings.iter().for_each(|warning| render::note(&format!("warning: {warning}")));
    if !matches!(cli.command, Command::Run(_)) {
        warn();
    }
    let result = match cli.command {
        Command::Run(arguments) => run::run(source(&arguments.server, matches), &warnings),
        Command::Check(arguments) => check::check(&arguments, matches).map(|()| Exit::Success),
        Command::Signature(arguments) => signature::signature(&arguments, matches).map(|()| Exit::Success),
        Command::Explain(arguments) => explain::explain(&arguments, matches),
        Command::BatchProbe(arguments) => {
            batch_probe::batch_probe(&arguments, matches).map(|()| Exit::Success)
        }
        Command::Doctor(arguments) => doctor::doctor(&arguments, matches),
        Command::Healthcheck(arguments) => healthcheck::healthcheck(&arguments).map(|()| Exit::Success),
        Command::Profile(arguments) => profile::profile(&arguments),
        Command::Fixes(arguments) => fixes::fixes(&arguments).map(|()| Exit::Success),
        Command::Traffic(arguments) => traffic::traffic(&arguments, matches),
        Command::Diff(arguments) => diff::diff(&arguments, matches),
        Command::Drain(arguments) => drain::drain(&arguments).map(|()| Exit::Success),
        Command::Undrain(arguments) => drain::undrain(&arguments).map(|()| Exit::Success),
        Command::Completions(arguments) => {
            shell::completions(&arguments, &mut command);
            Ok(Exit::Success)
        }
        Command::Man(arguments) => shell::man(&arguments, &mut command).map(|()| Exit::Success),
    };
    match result {
        Ok(exit) => exit,
        Err(failure) => {
            render::failure(&failure);
            failure.exit
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn loaded(arguments: &[&str]) -> Result<Config, Failure> {
        let matches =
            Cli::command().try_get_matches_from([&["tfs-sidecar", "run"], arguments].concat()).unwrap();
        let Command::Run(run) = Cli::from_arg_matches(&matches).unwrap().command else {
            panic!("{arguments:?}")
        };
        settings::load_config(&run.server, matches.subcommand().unwrap().1)
    }

    fn exit(arguments: &[&str]) -> Exit {
        main([&["tfs-sidecar"], arguments].concat().into_iter().map(OsString::from))
    }

    #[test]
    fn flags_become_the_configuration() {
        let config = loaded(&[
            "--upstream",
            "tfs:1",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            ":2",
            "--rest-listen",
            "off",
            "--workers",
            "3",
            "--log-format",
            "json",
            "--model",
            "a,b",
            "--model",
            "c",
            "--mode",
            "strict",
            "--log-level",
            "debug",
        ])
        .unwrap();
        assert_eq!(
            (config.upstream.to_string(), config.listen.to_string()),
            ("tfs:1".into(), "127.0.0.1:0".into())
        );
        assert_eq!((config.admin_listen.to_string(), config.workers), ("0.0.0.0:2".into(), 3));
        assert_eq!(config.log_format, crate::config::LogFormat::Json);
        assert_eq!(config.models.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!((config.policy("a").defaults.mode.as_str(), config.log.as_str()), ("strict", "debug"));
    }

    #[test]
    fn invalid_flags_are_reported_together() {
        let failure =
            loaded(&["--listen", "here", "--mode", "stirct", "--workers", "0", "--rest-listen", "0.0.0.0:1"])
                .unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        insta::assert_snapshot!(failure.error, @r"
        the configuration has 3 problems
          `--listen`: expected `ip:port` or `unix:///path`, got `here`
          `--workers`: expected a whole number from 1 to 1024, got `0`
          `--mode`: expected `off`, `observe`, `repair` or `strict`, got `stirct`
            hint: did you mean `strict`?
        ");
        let failure = loaded(&["--log", "inof"]).unwrap_err();
        assert!(failure.error.to_string().contains("`--log`: expected a log filter"), "{}", failure.error);
        let failure = loaded(&["--config", "/nowhere/c.yaml"]).unwrap_err();
        assert_eq!(
            (failure.exit, failure.error.to_string().as_str()),
            (Exit::Usage, "cannot read the configuration `/nowhere/c.yaml`")
        );
    }

    #[test]
    fn usage_errors_have_their_own_exit_code() {
        assert_eq!(exit(&["check"]), Exit::Success);
        assert_eq!(exit(&["--help"]), Exit::Success);
        assert_eq!(exit(&["check", "--mode", "x"]), Exit::Usage);
        assert_eq!(exit(&["chekc"]), Exit::Usage);
        assert_eq!(exit(&["completions", "zsh"]), Exit::Success);
        assert_eq!(exit(&["completions", "cmd"]), Exit::Usage);
        assert_eq!(exit(&["man"]), Exit::Success);
        assert_eq!(exit(&["man", "batch-probe"]), Exit::Success);
        assert_eq!(exit(&["man", "chekc"]), Exit::Usage);
        assert_eq!(exit(&[]), Exit::Usage);
        // Nothing listens on the port of `discard`.
        assert_eq!(exit(&["healthcheck", "--admin", "127.0.0.1:9"]), Exit::Failure);
        assert_eq!(exit(&["healthcheck", "--admin", "nowhere"]), Exit::Usage);
    }
}
