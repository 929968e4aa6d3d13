//! `profile learn`: a running sidecar makes a profile of requests that are known to be good.
use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::args::LearnArgs;
use crate::cli::admin::post;
use crate::cli::drain::refused;
use crate::cli::{Failure, render};

/// Time between two looks at how far it is.
const PAUSE: Duration = Duration::from_millis(500);
/// For one answer of the sidecar.
const ANSWER: Duration = Duration::from_secs(30);

#[expect(clippy::disallowed_methods, reason = "a command line waits here, and no request")]
fn pause() {
    std::thread::sleep(PAUSE);
}

pub(super) fn learn(arguments: &LearnArgs) -> Result<(), Failure> {
    let address = arguments.admin.address()?;
    let token = arguments.token.read()?;
    let ask = |path: &str| {
        let response = post(&address, path, token.as_deref(), ANSWER)?;
        match response.status {
            200 => Ok(serde_json::from_str::<Value>(&response.body).context("the answer is not JSON")?),
            _ => Err(refused("make a profile", &response)),
        }
    };
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut path =
        format!("/profile/learn?model={}&requests={}", encoded(&arguments.model), arguments.requests);
    if let Some(signature) = &arguments.signature_name {
        path = format!("{path}&signature={}", encoded(signature));
    }
    if arguments.strings {
        path += "&strings=true";
    }
    let mut learned = ask(&path)?;
    let end = Instant::now() + arguments.timeout;
    let shown = stderr().is_terminal();
    while learned["done"] != true && Instant::now() < end {
        if shown {
            render::progress(&format!("{} of {} requests", learned["requests"], learned["wanted"]));
        }
        pause();
        learned = ask("/profile/learned")?;
    }
    if shown {
        render::progress("");
    }
    let Some(profile) = learned["profile"].as_str() else {
        ask("/profile/forget")?;
        let waited = humantime::format_duration(arguments.timeout);
        return Err(Failure::from(anyhow!("no request that conforms came within {waited}")));
    };
    for input in learned["left_out"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        render::note(&format!("warning: input `{input}` is left out, because it has too many features"));
    }
    if learned["done"] != true {
        render::note(&format!("warning: only {} requests came", learned["requests"]));
    }
    match &arguments.out {
        None => render::data(profile),
        Some(out) => std::fs::write(out, profile).map_err(|error| {
            Failure::usage(anyhow!("cannot write `{}`: {error}", out.display()))
                .hint("the sidecar keeps what it learned: send `POST /profile/learned` to its admin address")
        })?,
    }
    // Not before it is written.
    ask("/profile/forget")?;
    render::note(&format!("learned from {} requests with {} rows", learned["requests"], learned["rows"]));
    Ok(())
}
