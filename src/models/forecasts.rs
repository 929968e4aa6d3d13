//! What a change of a model's signatures means for its clients, found out when it is seen.
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::catalog::{Entry, ModelVersion};
use super::changes::{Changes, log_changes};
use crate::census::Census;
use crate::census::forecast::{JudgeBody, Target};
use crate::census::report::{Report, gone, sent};
use crate::config::Config;
use crate::tasks::spawn_critical;
use crate::telemetry::metrics;
use crate::wire::VersionChoice;

/// Forms that a report lists, and clients that the log names.
const MAX_FORMS: usize = 50;
const MAX_LOGGED: usize = 10;
/// The work of one report: bytes of messages that are made and judged.
const MAX_WORK: u64 = 1 << 30;

/// Makes the reports.
#[derive(Debug, Clone)]
pub(crate) struct Forecasts {
    /// Where they are listed.
    pub changes: Arc<Changes>,
    pub census: Arc<Census>,
    /// Judges the JSON body of a form.
    pub judge: JudgeBody,
}

impl Forecasts {
    /// Logs and lists what changed, and then, found out on another thread, what it means.
    pub(super) fn note(
        &self,
        model: &str,
        config: &ArcSwap<Config>,
        (before, after): (&Entry, &Entry),
        lines: &[String],
    ) {
        log_changes(model, before, after, lines);
        let number = self.changes.note(model, before, after, lines, SystemTime::now());
        if let Some(number) = number.filter(|_| !lines.is_empty()) {
            self.start(number, config.load_full(), before, after);
        }
    }

    fn start(&self, number: u64, config: Arc<Config>, before: &Entry, after: &Entry) {
        let latest = |entry: &Entry| entry.get(&VersionChoice::Latest).cloned();
        let (Some(before), Some(after)) = (latest(before), latest(after)) else { return };
        let (this, changes) = (self.clone(), Arc::clone(&self.changes));
        spawn_critical("forecast", async move {
            let report = tokio::task::spawn_blocking(move || this.report(&config, &before, &after)).await;
            if let Ok(report) = report {
                log(&report);
                metrics::set_forecast(&report.model, report.refused());
                changes.set_forecast(number, report.to_json(MAX_FORMS));
            }
        });
    }

    fn report(&self, config: &Config, before: &ModelVersion, after: &ModelVersion) -> Report {
        let model = &after.model;
        let forms = self.census.forms(|form| form.model == *model);
        let (policy, limits) = (config.policy(model), config.request_limits());
        let target = Target::new(&after.signatures, policy, limits, false).before(&before.signatures);
        let target = target.json(self.judge, config).work(MAX_WORK);
        let mut report = Report::new(model, Some(after.version), forms, &target);
        report.gone = gone(&before.signatures, &after.signatures);
        report
    }
}

fn log(report: &Report) {
    let (model, version, summary) = (&report.model, report.version, report.summary());
    if report.refused() > 0 {
        tracing::warn!(%model, version, %summary, "clients do not fit the new signatures");
    } else {
        tracing::info!(%model, version, %summary, "clients fit the new signatures");
    }
    for (counted, forecast) in report.broken().take(MAX_LOGGED) {
        let (client, requests, sends) = (&counted.form.client, counted.requests, sent(&counted.form));
        let problem = &forecast.text;
        tracing::warn!(%model, version, client, requests, %sends, problem, "requests will be refused");
    }
}
