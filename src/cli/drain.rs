//! `drain`: drains a running sidecar and waits until it has finished.
use anyhow::anyhow;

use super::admin::{Response, send};
use super::args::DrainArgs;
use super::{Failure, render};

pub(super) fn drain(arguments: &DrainArgs) -> Result<(), Failure> {
    let address = arguments.admin.address()?;
    outcome(&send(&address, "POST", "/drain", arguments.timeout)?).map(render::note)
}

fn outcome(response: &Response) -> Result<&'static str, Failure> {
    match response.status {
        200 => Ok("drained"),
        504 => {
            let left = serde_json::from_str::<serde_json::Value>(&response.body)
                .ok()
                .and_then(|body| body["in_flight"].as_u64());
            let left = left.map_or_else(|| "some".to_owned(), |left| left.to_string());
            Err(Failure::from(anyhow!("the drain timed out with {left} requests in flight")))
        }
        status => Err(Failure::from(anyhow!(
            "the sidecar did not drain (status {status}): {}",
            response.body.trim()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_that_times_out_is_a_failure() {
        let response = |status, body: &str| Response { status, body: body.to_owned() };
        assert!(outcome(&response(200, r#"{"in_flight":0}"#)).is_ok());
        let failure = outcome(&response(504, r#"{"in_flight":3}"#)).unwrap_err();
        assert!(failure.error.to_string().ends_with("with 3 requests in flight"));
        assert!(outcome(&response(404, "not found")).is_err());
    }
}
