//! `check`: every problem of the configuration, of the files that it names, and, with a server, of
//! the names that its models do not have.
use anyhow::anyhow;
use clap::ArgMatches;
use clap::parser::ValueSource;
use tonic::Code;

use super::args::CheckArgs;
use super::settings::load_config;
use super::{Failure, render};
use crate::config::{Config, Problem, Problems, effective, profiles};
use crate::models::config_problems::config_problems;
use crate::models::fetch::metadata;
use crate::server::check::problems;
use crate::signature::Signatures;
use crate::wire::VersionChoice;

pub(super) fn check(arguments: &CheckArgs, matches: &ArgMatches) -> Result<(), Failure> {
    let mut config = load_config(&arguments.config.server, matches)?;
    let mut list = problems(&config);
    // A variable does not count. It is set wherever the sidecar runs, and a check in an init
    // container runs before TF Serving.
    let compared = match matches.value_source("upstream") {
        Some(ValueSource::CommandLine) => {
            // What is wrong with the files is in the list.
            profiles::read(&mut config);
            compare(&config, arguments, &mut list)
        }
        _ => Ok(()),
    };
    if !list.is_empty() {
        if let Err(failure) = compared {
            render::failure(&failure);
        }
        return Err(Failure::usage(Problems { file: None, list }));
    }
    compared?;
    for warning in certificate_warnings(&config) {
        render::note(&format!("warning: {warning}"));
    }
    if arguments.print {
        render::data(&effective(&config));
    } else {
        render::note("the configuration has no problems");
    }
    Ok(())
}

/// Compares the configuration of each declared model with the signatures that are served.
fn compare(config: &Config, arguments: &CheckArgs, list: &mut Vec<Problem>) -> Result<(), Failure> {
    if config.models.is_empty() {
        render::note("the configuration declares no models, so there is nothing to compare with TF Serving");
    }
    for (model, policy) in &config.models {
        let what = || format!("cannot read the signatures of model '{model}' from `{}`", config.upstream);
        match metadata(config, model, &VersionChoice::Latest, arguments.timeout) {
            Ok(answer) => {
                let (signatures, _) =
                    Signatures::from_metadata(&answer).map_err(|error| anyhow!(error).context(what()))?;
                let found = config_problems(model, policy, &signatures).into_iter();
                list.extend(found.map(|problem| Problem::new(problem.path, problem.what)));
            }
            Err(fault) if fault.code() == Code::NotFound => {
                let text = format!("`{}` does not serve this model: {fault}", config.upstream);
                list.push(Problem::new(format!("models.{model}"), text));
            }
            Err(fault) => return Err(anyhow!(fault).context(what()).into()),
        }
    }
    Ok(())
}

#[cfg(not(feature = "tls"))]
fn certificate_warnings(_: &Config) -> Vec<String> {
    Vec::new()
}

/// Certificates that have expired or expire soon. They can be used, so they are no problem of the
/// configuration.
#[cfg(feature = "tls")]
fn certificate_warnings(config: &Config) -> Vec<String> {
    let now = std::time::SystemTime::now();
    let expiries = crate::transport::tls::expiries(config);
    expiries.iter().filter_map(|expiry| expiry.warning(now)).collect()
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_has_expired_or_will_soon_is_a_warning() {
        use crate::config::{ListenTls, UpstreamTls};

        let file = |name: &str| {
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
        };
        let upstream_tls = UpstreamTls { ca: Some(file("short.pem")), ..UpstreamTls::default() };
        let cert = ListenTls { cert: file("server.pem"), key: file("server.key"), client_ca: None };
        let warnings =
            certificate_warnings(&Config { listen_tls: Some(cert), upstream_tls, ..Config::default() });
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("short.pem` (`upstream_tls.ca`) expire"), "{warnings:?}");
    }
}
