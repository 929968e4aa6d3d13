//! `drain` and `undrain`: drain a running sidecar and wait until it has finished, or take it back.
use anyhow::{Context as _, anyhow};

use super::admin::{Response, post};
use super::args::{DrainArgs, TokenArgs, UndrainArgs};
use super::{Failure, render};

pub(super) fn drain(arguments: &DrainArgs) -> Result<(), Failure> {
    let address = arguments.admin.address()?;
    let token = arguments.token.read()?;
    outcome(&post(&address, "/drain", token.as_deref(), arguments.timeout)?).map(render::note)
}

pub(super) fn undrain(arguments: &UndrainArgs) -> Result<(), Failure> {
    let address = arguments.admin.address()?;
    let token = arguments.token.read()?;
    let response = post(&address, "/undrain", token.as_deref(), arguments.timeout)?;
    if response.status != 200 {
        return Err(refused("take the drain back", &response));
    }
    render::note("the sidecar serves again");
    Ok(())
}

impl TokenArgs {
    pub(super) fn read(&self) -> Result<Option<String>, Failure> {
        let Some(path) = self.token_file.as_ref().filter(|path| !path.as_os_str().is_empty()) else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the token in `{}`", path.display()))?;
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::usage(anyhow!("`{}` does not hold a token", path.display())));
        }
        Ok(Some(token.to_owned()))
    }
}

pub(super) fn refused(what: &str, response: &Response) -> Failure {
    let failure = Failure::from(anyhow!(
        "the sidecar did not {what} (status {}): {}",
        response.status,
        response.body.trim()
    ));
    match response.status {
        401 => failure.hint("give the file of its token with --token-file"),
        _ => failure,
    }
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
        409 => Err(Failure::from(anyhow!("the drain was taken back"))),
        _ => Err(refused("drain", response)),
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
        let failure = outcome(&response(409, r#"{"in_flight":3,"undrained":true}"#)).unwrap_err();
        assert_eq!(failure.error.to_string(), "the drain was taken back");
        let failure = outcome(&response(401, "the token is wrong\n")).unwrap_err();
        assert!(failure.error.to_string().ends_with("(status 401): the token is wrong"));
        assert_eq!(failure.hints.len(), 1);
    }
}
