//! Outcomes, methods and APIs as the file spells them.
use super::form::{Api, Method};
use crate::repair::Outcome;

const OUTCOMES: &[(Outcome, &str)] = &[
    (Outcome::Conforming, "conforming"),
    (Outcome::Repaired, "repaired"),
    (Outcome::Rejected, "rejected"),
    (Outcome::WouldRepair, "would_repair"),
    (Outcome::WouldReject, "would_reject"),
    (Outcome::Passed, "passed"),
];

const METHODS: &[(Method, &str)] = &[
    (Method::Predict, "Predict"),
    (Method::Classify, "Classify"),
    (Method::Regress, "Regress"),
    (Method::MultiInference, "MultiInference"),
];

const APIS: &[(Api, &str)] = &[
    (Api::Grpc, "grpc"),
    (Api::Columns, "rest_columns"),
    (Api::Rows, "rest_rows"),
    (Api::PlainRows, "rest_plain_rows"),
];

pub(super) fn api_name(api: Api) -> &'static str {
    APIS.iter().find(|(known, _)| *known == api).map_or("", |(_, name)| name)
}

pub(super) fn api_of(name: &str) -> Option<Api> {
    APIS.iter().find(|(_, known)| *known == name).map(|(api, _)| *api)
}

pub(super) fn outcome_name(outcome: Outcome) -> &'static str {
    OUTCOMES.iter().find(|(known, _)| *known == outcome).map_or("", |(_, name)| name)
}

pub(super) fn outcome_of(name: &str) -> Option<Outcome> {
    OUTCOMES.iter().find(|(_, known)| *known == name).map(|(outcome, _)| *outcome)
}

pub(super) fn method_name(method: Method) -> &'static str {
    METHODS.iter().find(|(known, _)| *known == method).map_or("", |(_, name)| name)
}

pub(super) fn method_of(name: &str) -> Option<Method> {
    METHODS.iter().find(|(_, known)| *known == name).map(|(method, _)| *method)
}
