//! `traffic`: the forms of the requests that a sidecar saw, merged and judged by new signatures.
pub(super) mod args;
pub(super) mod forecast;
pub(super) mod saved_model;

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::ArgMatches;

use super::admin::get;
use super::args::AdminArgs;
use super::{Exit, Failure, render};
use crate::census::file::{MAX_BYTES, Traffic};
use args::{TrafficArgs, TrafficCommand};

pub(super) fn traffic(arguments: &TrafficArgs, matches: &ArgMatches) -> Result<Exit, Failure> {
    match &arguments.command {
        None => {
            let census = fetch(&arguments.admin, arguments.timeout)?;
            write(&census, arguments.out.as_deref())?;
        }
        Some(TrafficCommand::Merge(arguments)) => {
            let all = arguments.files.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
            let merged = Traffic::merge(all).map_err(Failure::usage)?;
            write(&merged, arguments.out.as_deref())?;
        }
        Some(TrafficCommand::Forecast(arguments)) => {
            let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
            return forecast::command(arguments, matches);
        }
    }
    Ok(Exit::Success)
}

/// The census of a running sidecar.
fn fetch(admin: &AdminArgs, timeout: Duration) -> Result<Traffic, Failure> {
    let address = admin.address()?;
    let response = get(&address, "/api/traffic", timeout)?;
    if response.status != 200 {
        return Err(Failure::from(anyhow!("`{address}` has no census (status {})", response.status))
            .hint("is it the admin address of a tfs-sidecar of this version?"));
    }
    Ok(Traffic::read(response.body.as_bytes()).with_context(|| format!("the answer of `{address}`"))?)
}

/// Reads a census from a file, which may be anything.
fn read(path: &Path) -> Result<Traffic, Failure> {
    let text = bounded(path, MAX_BYTES)?;
    Traffic::read(&text).with_context(|| format!("cannot use `{}`", path.display())).map_err(Failure::usage)
}

/// The bytes of a file that is not larger than this.
fn bounded(path: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let unreadable = || format!("cannot read `{}`", path.display());
    let file = std::fs::File::open(path).with_context(unreadable).map_err(Failure::usage)?;
    let mut text = Vec::new();
    file.take(most + 1).read_to_end(&mut text).with_context(unreadable).map_err(Failure::usage)?;
    if text.len() as u64 > most {
        return Err(Failure::usage(anyhow!("`{}` is too large (limit {} MiB)", path.display(), most >> 20)));
    }
    Ok(text)
}

fn write(census: &Traffic, out: Option<&Path>) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&census.to_json())? + "\n";
    match out.filter(|path| !path.as_os_str().is_empty()) {
        None => render::data(&text),
        Some(path) => {
            std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
            let requests: u64 = census.forms.iter().fold(0, |sum, one| sum.saturating_add(one.requests));
            render::note(&format!(
                "{} forms of {requests} requests in `{}`",
                census.forms.len(),
                path.display()
            ));
        }
    }
    Ok(())
}
