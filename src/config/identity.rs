//! `client_identity`: what names a client in metrics and on the status page.
use http::HeaderName;
use serde_json::json;

use super::cursor::Cursor;
use super::format::{Format, Kind, Scalar as _, Tree};
use super::problem::Problem;
use super::scalars::{Choice, OnOff};
use super::yaml::{Node, Value};

/// Where the name of a client comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentitySource {
    /// The URI (SPIFFE) or DNS name in its certificate.
    TlsSan,
    /// A key of its request metadata.
    Metadata(HeaderName),
    /// The `user-agent`, as name and major.minor version.
    UserAgent,
    /// Its IP address, or what stands for it.
    Peer,
}

/// The sources in the order in which they are tried; none for `off`.
pub(super) struct Sources;

const WORDS: Choice<Word> =
    Choice(&[("tls_san", Word::TlsSan), ("user_agent", Word::UserAgent), ("peer", Word::Peer)]);

#[derive(Clone, Copy, PartialEq)]
enum Word {
    TlsSan,
    UserAgent,
    Peer,
}

/// Metadata that must not become a name, because it carries secrets.
const SECRET: &[&str] = &["authorization", "cookie", "proxy-authorization"];

impl Format<Vec<IdentitySource>> for Sources {
    fn read(&self, at: &Cursor<'_>, to: &mut Vec<IdentitySource>) {
        match &at.node.value {
            Value::List(items) if items.is_empty() => {
                at.report(Problem::text("expected at least one source").hint("write `client_identity: off`"));
            }
            Value::List(items) => *to = items.iter().filter_map(|item| source(&at.item(item))).collect(),
            Value::Scalar { text, .. } if OnOff.parse(text).is_ok_and(|on| !on) => to.clear(),
            _ => *to = source(at).into_iter().collect(),
        }
    }

    fn print(&self, value: &Vec<IdentitySource>, _: &Vec<IdentitySource>) -> Option<Tree> {
        let tree = |source: &IdentitySource| match source {
            IdentitySource::TlsSan => WORDS.write(&Word::TlsSan),
            IdentitySource::UserAgent => WORDS.write(&Word::UserAgent),
            IdentitySource::Peer => WORDS.write(&Word::Peer),
            IdentitySource::Metadata(key) => {
                Tree::Map(vec![("metadata".to_owned(), Tree::Text(key.as_str().to_owned()))])
            }
        };
        Some(match value.as_slice() {
            [] => OnOff.write(&false),
            sources => Tree::List(sources.iter().map(tree).collect()),
        })
    }

    fn describe(&self, _: &Vec<IdentitySource>) -> Kind {
        let word = WORDS.schema();
        let metadata = json!({
            "type": "object", "properties": {"metadata": {"type": "string"}},
            "required": ["metadata"], "additionalProperties": false,
        });
        let each = json!({"anyOf": [word, metadata]});
        Kind::Value(json!({
            "title": "sources, or `off`",
            "anyOf": [{"enum": ["off", false]}, word, metadata, {"type": "array", "items": each}],
        }))
    }
}

fn source(at: &Cursor<'_>) -> Option<IdentitySource> {
    if let Value::Map(entries) = &at.node.value {
        let [entry] = entries.as_slice() else {
            at.report(Problem::text("a source has one key, `metadata`"));
            return None;
        };
        return metadata(&entry.key, &entry.node, &at.child(entry));
    }
    Some(match at.scalar(&WORDS)? {
        Word::TlsSan => IdentitySource::TlsSan,
        Word::UserAgent => IdentitySource::UserAgent,
        Word::Peer => IdentitySource::Peer,
    })
}

fn metadata(key: &str, node: &Node, at: &Cursor<'_>) -> Option<IdentitySource> {
    if key != "metadata" {
        at.push(
            Problem::at(node.place, at.path.as_str(), format!("unknown key `{key}`"))
                .hint("did you mean `metadata`?"),
        );
        return None;
    }
    let name = at.parse(|text, _| {
        let name: HeaderName =
            text.parse().map_err(|_| Problem::text(format!("`{text}` is not a metadata key")))?;
        if SECRET.contains(&name.as_str()) {
            return Err(Problem::text(format!("metadata `{name}` carries secrets and cannot name a client")));
        }
        if name.as_str().ends_with("-bin") {
            return Err(Problem::text(format!("metadata `{name}` is binary and cannot name a client")));
        }
        Ok(name)
    })?;
    Some(IdentitySource::Metadata(name))
}
