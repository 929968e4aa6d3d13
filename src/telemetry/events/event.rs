//! One event: what was repaired or refused, who sent it, and how the request ended.
use std::time::Duration;

use tonic::Code;

use crate::telemetry::labels::code_name;

/// The target of events, for filters (`log: info,tfs_sidecar::event=off`).
const TARGET: &str = "tfs_sidecar::event";

/// The rule of a repair, or the reason of a refusal or a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Rule(&'static str),
    Reason(&'static str),
}

/// What an event says. No field has a tensor value.
#[derive(Debug)]
pub(crate) struct Event<'a> {
    /// `repaired`, `rejected`, `would_repair`, `would_reject`, `warned`, `overloaded`, or `passed`
    /// for a request that was forwarded although it does not conform.
    pub outcome: &'static str,
    pub client: &'a str,
    pub peer: &'a str,
    pub user_agent: Option<&'a str>,
    pub model: &'a str,
    pub version: &'a str,
    pub signature: &'a str,
    /// Empty for the whole request.
    pub input: &'a str,
    pub why: Why,
    /// The change of a repair, or the text of a problem.
    pub text: &'a str,
    pub code: Code,
    pub duration: Duration,
    pub request_id: &'a str,
    pub trace_id: Option<&'a str>,
    /// Events of the client with the same rule or reason that were not logged since the last one.
    pub left_out: u32,
}

impl Why {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Rule(word) | Self::Reason(word) => word,
        }
    }
}

impl Event<'_> {
    /// Whether the log takes events at all.
    pub(crate) fn is_enabled() -> bool {
        tracing::enabled!(target: TARGET, tracing::Level::INFO)
    }

    /// Logs the event.
    pub(crate) fn log(&self) {
        let (rule, reason, change, problem) = match self.why {
            Why::Rule(rule) => (Some(rule), None, Some(self.text), None),
            Why::Reason(reason) => (None, Some(reason), None, Some(self.text)),
        };
        tracing::info!(
            target: TARGET,
            event = self.outcome,
            client = self.client,
            peer = self.peer,
            user_agent = self.user_agent,
            model = self.model,
            version = self.version,
            signature = self.signature,
            input = self.input,
            rule,
            reason,
            change,
            problem,
            code = code_name(self.code),
            duration_ms = millis(self.duration),
            request_id = self.request_id,
            trace_id = self.trace_id,
            left_out = self.left_out,
            "{}",
            self.message()
        );
    }

    fn message(&self) -> &'static str {
        match self.outcome {
            "repaired" => "repaired a request",
            "rejected" => "refused a request",
            "would_repair" => "would repair a request",
            "would_reject" => "would refuse a request",
            "warned" => "forwarded a request with a warning",
            "overloaded" => "refused a request because of load",
            _ => "forwarded a request that does not conform",
        }
    }
}

/// Milliseconds with three decimals.
pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_micros() as u64 as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use crate::telemetry::log::tests::captured;

    fn event(why: Why) -> Event<'static> {
        Event {
            outcome: "rejected",
            client: "a",
            peer: "10.0.0.7",
            user_agent: None,
            model: "m",
            version: "1",
            signature: "s",
            input: "x",
            why,
            text: "rank 1",
            code: Code::InvalidArgument,
            duration: Duration::from_micros(1_234),
            request_id: "id-7",
            trace_id: None,
            left_out: 12,
        }
    }

    #[test]
    fn an_event_is_one_line_without_the_fields_that_are_not_known() {
        let text = captured(LogFormat::Text, "info", || event(Why::Reason("RANK_TOO_LOW")).log());
        let line = text.split_once(" INFO ").unwrap().1;
        let expected = r#"refused a request event="rejected" client="a" peer="10.0.0.7" model="m" version="1" signature="s" input="x" reason="RANK_TOO_LOW" problem="rank 1" code="INVALID_ARGUMENT" duration_ms=1.234 request_id="id-7" left_out=12"#;
        assert_eq!(line.trim_end(), expected);
        let text = captured(LogFormat::Text, "info", || event(Why::Rule("flatten")).log());
        assert!(text.contains(r#" rule="flatten" change="rank 1" "#) && !text.contains("reason"), "{text}");
    }

    #[test]
    fn a_filter_switches_events_off() {
        let off = "info,tfs_sidecar::event=off";
        let log = captured(LogFormat::Text, off, || {
            assert!(!Event::is_enabled());
            event(Why::Rule("flatten")).log();
        });
        assert_eq!(log, "");
        captured(LogFormat::Text, "info", || assert!(Event::is_enabled()));
    }
}
