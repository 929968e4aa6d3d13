//! `healthcheck`: whether a running sidecar is ready.
use anyhow::anyhow;

use super::admin::ask;
use super::args::HealthcheckArgs;
use super::{Failure, render};

pub(super) fn healthcheck(arguments: &HealthcheckArgs) -> Result<(), Failure> {
    let address = arguments.admin.address()?;
    let answer = ask(&address, "GET", "/readyz", arguments.timeout)?;
    if answer.status == 200 {
        render::note("ready");
        return Ok(());
    }
    Err(Failure::from(anyhow!("not ready ({}): {}", answer.status, missing(&answer.body))))
}

/// What `/readyz` says is missing; its body as it is when it says it in another way.
fn missing(body: &str) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let list = parsed.as_ref().and_then(|value| value.get("missing")).and_then(|missing| missing.as_array());
    match list {
        Some(list) => list.iter().filter_map(|line| line.as_str()).collect::<Vec<_>>().join("; "),
        None => body.trim().chars().take(500).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_one_line() {
        assert_eq!(
            missing(r#"{"ready":false,"missing":["draining","no connection"]}"#),
            "draining; no connection"
        );
        assert_eq!(missing("nginx\n"), "nginx");
    }
}
