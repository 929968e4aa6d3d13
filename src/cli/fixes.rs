//! `fixes`: who must change which line, as a table or as the text of tickets.
use std::fmt::Write as _;

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};

use super::admin::get;
use super::args::{FixesArgs, FixesFormat};
use super::{Failure, render};
use crate::repair::report::one_line;

/// An entry of `/api/fixes`. Fields that are not shown are not read.
#[derive(Debug, Clone, Deserialize, Serialize)]
struct Fix {
    client: String,
    language: String,
    model: String,
    input: String,
    kind: String,
    outcome: String,
    count: u64,
    share: Option<f64>,
    last: String,
    change: String,
    #[serde(default)]
    detail: String,
    meaning: String,
    #[serde(rename = "fix")]
    line: String,
}

pub(super) fn fixes(arguments: &FixesArgs) -> Result<(), Failure> {
    let address = arguments.admin.address()?;
    let response = get(&address, "/api/fixes", arguments.timeout)?;
    if response.status != 200 {
        return Err(Failure::from(anyhow!("`{address}` has no list of fixes (status {})", response.status))
            .hint("is it the admin address of a tfs-sidecar?"));
    }
    if arguments.format == FixesFormat::Json {
        let entries: Vec<serde_json::Value> = parse(&response.body)?;
        let is = |entry: &serde_json::Value, key: &str, wanted: Option<&str>| {
            wanted.is_none_or(|wanted| entry[key] == wanted)
        };
        let kept = entries.into_iter().filter(|entry| {
            is(entry, "client", wanted(arguments.client.as_ref()))
                && is(entry, "model", wanted(arguments.model.as_ref()))
        });
        render::data(&serde_json::to_string_pretty(&kept.collect::<Vec<_>>())?);
        return Ok(());
    }
    let mut found: Vec<Fix> = parse(&response.body)?;
    found.retain(|fix| {
        wanted(arguments.client.as_ref()).is_none_or(|client| fix.client == client)
            && wanted(arguments.model.as_ref()).is_none_or(|model| fix.model == model)
    });
    for fix in &mut found {
        fix.clean();
    }
    if found.is_empty() {
        render::note("no mistakes since the sidecar was started");
        return Ok(());
    }
    render::data(&match arguments.format {
        FixesFormat::Markdown => tickets(&found),
        _ => table(&found),
    });
    if arguments.format == FixesFormat::Table && found.iter().any(|fix| !fix.detail.is_empty()) {
        render::note("hint: --format markdown has the text of each refusal and warning");
    }
    Ok(())
}

/// An empty variable counts as not set.
fn wanted(given: Option<&String>) -> Option<&str> {
    given.map(String::as_str).filter(|name| !name.is_empty())
}

fn parse<T: serde::de::DeserializeOwned>(body: &str) -> Result<Vec<T>, Failure> {
    serde_json::from_str(body)
        .context("the list of fixes is not what this version expects")
        .map_err(Failure::from)
}

impl Fix {
    /// Everything comes from another program: nothing of it may control the terminal.
    fn clean(&mut self) {
        for text in [
            &mut self.client,
            &mut self.language,
            &mut self.model,
            &mut self.input,
            &mut self.kind,
            &mut self.outcome,
            &mut self.last,
            &mut self.change,
            &mut self.detail,
            &mut self.meaning,
            &mut self.line,
        ] {
            *text = one_line(text);
        }
    }

    fn share(&self) -> String {
        self.share.map_or_else(String::new, |share| match share * 100.0 {
            percent if percent > 0.0 && percent < 1.0 => "<1 %".to_owned(),
            percent => format!("{percent:.0} %"),
        })
    }
}

fn table(fixes: &[Fix]) -> String {
    let titles = ["client", "requests", "share", "model", "input", "mistake", "what to change"];
    let rows: Vec<[String; 7]> = fixes
        .iter()
        .map(|fix| {
            [
                fix.client.clone(),
                fix.count.to_string(),
                fix.share(),
                fix.model.clone(),
                fix.input.clone(),
                fix.kind.clone(),
                fix.line.clone(),
            ]
        })
        .collect();
    render::table(titles, &rows)
}

/// A section for each client, in the order of their most frequent mistakes.
fn tickets(fixes: &[Fix]) -> String {
    let mut clients: Vec<&str> = Vec::new();
    for fix in fixes {
        if !clients.contains(&fix.client.as_str()) {
            clients.push(&fix.client);
        }
    }
    let sections = clients.into_iter().map(|client| {
        let all: Vec<&Fix> = fixes.iter().filter(|fix| fix.client == client).collect();
        ticket(client, &all)
    });
    sections.collect::<Vec<_>>().join("\n")
}

fn ticket(client: &str, fixes: &[&Fix]) -> String {
    let name = if client.is_empty() { "all clients".to_owned() } else { code(client) };
    let mut text = format!("## Requests of {name} to TensorFlow Serving\n\n");
    text += "These requests do not match the signatures of the models. Please change these lines:\n";
    for (number, fix) in (1..).zip(fixes) {
        let input =
            if fix.input.is_empty() { String::new() } else { format!(", input {}", code(&fix.input)) };
        let share = fix.share();
        let share = if share.is_empty() { String::new() } else { format!(" ({share})") };
        let (count, requests) = (fix.count, if fix.count == 1 { "request" } else { "requests" });
        let change = if fix.change.is_empty() { String::new() } else { format!(" {}", code(&fix.change)) };
        let _ = write!(
            text,
            "\n{number}. Model {}{input}: {} {count} {requests}{share} {}, {}{change}; last at {}.\n",
            code(&fix.model),
            fix.meaning,
            outcome(&fix.outcome, count),
            code(&fix.kind),
            fix.last
        );
        if !fix.detail.is_empty() {
            let _ = write!(text, "\n   > {}\n", fix.detail);
        }
        // A sentence is not code.
        let _ = if fix.line.ends_with('.') {
            write!(text, "\n   **{}**\n", fix.line)
        } else {
            write!(text, "\n   ```{}\n   {}\n   ```\n", fence(&fix.language), fix.line)
        };
    }
    text
}

/// What became of so many requests.
fn outcome(outcome: &str, count: u64) -> String {
    let were = if count == 1 { "was" } else { "were" };
    match outcome {
        "repaired" => format!("{were} repaired"),
        "rejected" => format!("{were} refused"),
        "would_repair" => "would be repaired in mode `repair`".to_owned(),
        "would_reject" => "would be refused in mode `repair`".to_owned(),
        "warned" => format!("{were} forwarded with a warning"),
        "passed" => format!("{were} forwarded unchanged"),
        other => other.to_owned(),
    }
}

/// The name of a language after the fence of a code block.
fn fence(language: &str) -> &str {
    match language {
        "python" | "go" | "java" => language,
        "node" => "js",
        "dotnet" => "csharp",
        "rest" => "json",
        _ => "text",
    }
}

/// A name as code in Markdown, which it cannot leave.
fn code(name: &str) -> String {
    format!("`{}`", name.replace('`', "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"[
        {"client": "fraud-scorer/2.3", "language": "python", "model": "churn", "version": 7,
         "signature": "serving_default", "input": "features", "kind": "add_batch_dim", "outcome": "repaired",
         "count": 1841, "share": 0.62, "first": "2026-03-02T08:14:05Z", "last": "2026-03-02T09:20:44Z",
         "change": "[128]->[1,128]", "detail": "", "meaning": "The batch dimension is missing.",
         "fix": "x = np.expand_dims(x, 0)"},
        {"client": "a`b", "language": "other", "model": "churn", "version": null,
         "signature": "", "input": "", "kind": "SIGNATURE_UNKNOWN", "outcome": "rejected",
         "count": 2, "share": 0.004, "first": "2026-03-02T08:14:05Z", "last": "2026-03-02T08:15:00Z",
         "change": "", "detail": "no signature 'x'\u001b[2J", "meaning": "The model has no signature of that name.",
         "fix": "Use one of the signatures."},
        {"client": "fraud-scorer/2.3", "language": "python", "model": "other", "version": 1,
         "signature": "serving_default", "input": "x", "kind": "cast_round", "outcome": "would_repair",
         "count": 1, "share": null, "first": "2026-03-02T08:14:05Z", "last": "2026-03-02T08:14:05Z",
         "change": "double->float lossy", "meaning": "double was sent.", "fix": "x = x.astype(np.float32)"}
    ]"#;

    fn parsed() -> Vec<Fix> {
        let mut fixes: Vec<Fix> = parse(BODY).unwrap();
        fixes.iter_mut().for_each(Fix::clean);
        fixes
    }

    #[test]
    fn the_table_has_a_line_for_each_mistake() {
        insta::assert_snapshot!(table(&parsed()), @r"
        client            requests  share  model  input     mistake            what to change
        fraud-scorer/2.3  1841      62 %   churn  features  add_batch_dim      x = np.expand_dims(x, 0)
        a`b               2         <1 %   churn            SIGNATURE_UNKNOWN  Use one of the signatures.
        fraud-scorer/2.3  1                other  x         cast_round         x = x.astype(np.float32)
        ");
    }

    #[test]
    fn a_ticket_is_for_one_client() {
        insta::assert_snapshot!(tickets(&parsed()), @r"
        ## Requests of `fraud-scorer/2.3` to TensorFlow Serving

        These requests do not match the signatures of the models. Please change these lines:

        1. Model `churn`, input `features`: The batch dimension is missing. 1841 requests (62 %) were repaired, `add_batch_dim` `[128]->[1,128]`; last at 2026-03-02T09:20:44Z.

           ```python
           x = np.expand_dims(x, 0)
           ```

        2. Model `other`, input `x`: double was sent. 1 request would be repaired in mode `repair`, `cast_round` `double->float lossy`; last at 2026-03-02T08:14:05Z.

           ```python
           x = x.astype(np.float32)
           ```

        ## Requests of `a'b` to TensorFlow Serving

        These requests do not match the signatures of the models. Please change these lines:

        1. Model `churn`: The model has no signature of that name. 2 requests (<1 %) were refused, `SIGNATURE_UNKNOWN`; last at 2026-03-02T08:15:00Z.

           > no signature 'x'\u{1b}[2J

           **Use one of the signatures.**
        ");
    }

    #[test]
    fn another_answer_is_no_list() {
        assert!(parse::<Fix>("not found\n").is_err());
        assert!(parse::<Fix>("{}").is_err());
    }
}
