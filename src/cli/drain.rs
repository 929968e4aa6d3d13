//! `drain`: tells a running sidecar to finish what it has and take nothing new, and waits for that.
use anyhow::anyhow;

use super::admin::{Answer, ask};
use super::args::DrainArgs;
use super::{Failure, render};

pub(super) fn drain(arguments: &DrainArgs) -> Result<(), Failure> {
    let address = arguments.admin.address()?;
    outcome(&ask(&address, "POST", "/drain", arguments.timeout)?).map(render::note)
}

fn outcome(answer: &Answer) -> Result<&'static str, Failure> {
    match answer.status {
        200 => Ok("drained"),
        504 => {
            let left = serde_json::from_str::<serde_json::Value>(&answer.body)
                .ok()
                .and_then(|body| body["in_flight"].as_u64());
            let left = left.map_or_else(|| "some".to_owned(), |left| left.to_string());
            Err(Failure::from(anyhow!(
                "expected nothing in flight when the drain timeout was over, found {left} requests"
            )))
        }
        status => Err(Failure::from(anyhow!(
            "expected the sidecar to drain, found status {status}: {}",
            answer.body.trim()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_that_left_requests_behind_is_a_failure() {
        let answer = |status, body: &str| Answer { status, body: body.to_owned() };
        assert!(outcome(&answer(200, r#"{"in_flight":0}"#)).is_ok());
        let failure = outcome(&answer(504, r#"{"in_flight":3}"#)).unwrap_err();
        assert!(failure.error.to_string().ends_with("found 3 requests"));
        assert!(outcome(&answer(404, "not found")).is_err());
    }
}
