//! A YAML document as a tree in which every key and value has its line and column, so that all
//! problems can be reported at once.
use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle};

use super::problem::{Place, Problem};

/// A value and where it starts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Nothing after the colon, `~` or `null`.
    Nothing,
    /// The text as written; `plain` if it has no quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    pub place: Place,
    pub node: Node,
}

impl Node {
    /// How messages refer to it: `a mapping`, `` `text` ``.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            Value::Nothing => "nothing".to_owned(),
            Value::Scalar { text, .. } => format!("`{text}`"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// Deeper than any configuration, shallow enough for the stack.
const MAX_DEPTH: usize = 64;
/// Aliases may multiply a document; no configuration has this many values.
const MAX_NODES: usize = 200_000;

/// Parses one document. An empty one is `Nothing`. Duplicate keys are reported, and the first one
/// counts.
///
/// # Errors
/// A syntax error, which ends parsing: one problem with its line and column.
pub(super) fn parse(text: &str, problems: &mut Vec<Problem>) -> Result<Node, Problem> {
    let mut builder =
        Builder { parser: Parser::new_from_str(text), anchors: BTreeMap::new(), nodes: 0, problems };
    let mut root = None;
    loop {
        let (event, place) = builder.next()?;
        match event {
            Event::StreamEnd => break,
            Event::DocumentStart(..) if root.is_some() => {
                return Err(Problem::at(place, "", "the file must contain a single YAML document"));
            }
            Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(_) => {
                root = Some(builder.node(event, place, 0)?);
            }
            _ => {}
        }
    }
    Ok(root.unwrap_or(Node { place: Place { line: 1, column: 1 }, value: Value::Nothing }))
}

struct Builder<'text, 'problems> {
    parser: Parser<'text, serde_saphyr::granit_parser::StrInput<'text>>,
    anchors: BTreeMap<usize, (Node, usize)>,
    nodes: usize,
    problems: &'problems mut Vec<Problem>,
}

impl<'text> Builder<'text, '_> {
    fn next(&mut self) -> Result<(Event<'text>, Place), Problem> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place(span.start))),
            Some(Err(error)) => {
                Err(Problem::at(place(*error.marker()), "", format!("invalid YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, Place { line: 1, column: 1 })),
        }
    }

    fn node(&mut self, event: Event<'text>, place: Place, depth: usize) -> Result<Node, Problem> {
        let before = self.nodes;
        self.count(1, place)?;
        if depth > MAX_DEPTH {
            return Err(Problem::at(place, "", format!("nested too deeply (limit {MAX_DEPTH} levels)")));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let nothing = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value =
                    if nothing { Value::Nothing } else { Value::Scalar { text: text.into_owned(), plain } };
                (value, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd | Event::StreamEnd, _) => break,
                        (Event::Comment(..), _) => {}
                        (event, place) => items.push(self.node(event, place, depth + 1)?),
                    }
                }
                (Value::List(items), anchor)
            }
            Event::MappingStart(_, anchor, _) => (self.map(depth)?, anchor),
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id).cloned() else {
                    return Err(Problem::at(
                        place,
                        "",
                        "the alias refers to a value that does not end before it",
                    ));
                };
                self.count(size, place)?;
                return Ok(Node { place, value: node.value });
            }
            other => return Err(Problem::at(place, "", format!("expected a value, got {other:?}"))),
        };
        let node = Node { place, value };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn map(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        loop {
            let (event, at) = match self.next()? {
                (Event::MappingEnd | Event::StreamEnd, _) => break,
                (Event::Comment(..), _) => continue,
                pair => pair,
            };
            let key = self.node(event, at, depth + 1)?;
            let (event, value_place) = loop {
                match self.next()? {
                    (Event::Comment(..), _) => {}
                    pair => break pair,
                }
            };
            let node = self.node(event, value_place, depth + 1)?;
            let (text, plain) = match key.value {
                Value::Scalar { text, plain } => (text, plain),
                // A model may be called `null`; an empty key has no use here.
                Value::Nothing => ("null".to_owned(), false),
                Value::List(_) | Value::Map(_) => {
                    return Err(Problem::at(
                        at,
                        "",
                        format!("expected a name as the key, got {}", key.describe()),
                    ));
                }
            };
            if plain && text == "<<" {
                merge(node, &mut merged);
            } else if entries.iter().any(|entry| entry.key == text) {
                self.problems.push(Problem::at(at, &text, "duplicate key"));
            } else {
                entries.push(Entry { key: text, place: at, node });
            }
        }
        for entry in merged {
            if !entries.iter().any(|own| own.key == entry.key) {
                entries.push(entry);
            }
        }
        Ok(Value::Map(entries))
    }

    fn count(&mut self, more: usize, place: Place) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > MAX_NODES {
            return Err(Problem::at(place, "", format!("too many values (limit {MAX_NODES})")));
        }
        Ok(())
    }
}

/// `<<: *base` or `<<: [*a, *b]`: keys that the mapping does not have itself.
fn merge(node: Node, into: &mut Vec<Entry>) {
    match node.value {
        Value::Map(entries) => {
            for entry in entries {
                if !into.iter().any(|known| known.key == entry.key) {
                    into.push(entry);
                }
            }
        }
        Value::List(nodes) => nodes.into_iter().for_each(|node| merge(node, into)),
        Value::Nothing | Value::Scalar { .. } => {}
    }
}

/// The parser counts columns from 0.
fn place(marker: Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Node {
        let mut problems = Vec::new();
        let node = parse(text, &mut problems).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        node
    }

    fn entry<'a>(node: &'a Node, key: &str) -> &'a Entry {
        let Value::Map(entries) = &node.value else { panic!("{node:?}") };
        entries.iter().find(|entry| entry.key == key).unwrap()
    }

    #[test]
    fn keys_and_values_have_their_places() {
        let root = tree("a: 1\n# note\nmodels: # here\n  churn: {mode: 'on'}\n");
        let churn = entry(&entry(&root, "models").node, "churn");
        assert_eq!(churn.place, Place { line: 4, column: 3 });
        let mode = entry(&churn.node, "mode");
        assert_eq!(mode.node.place, Place { line: 4, column: 17 });
        assert_eq!(mode.node.value, Value::Scalar { text: "on".to_owned(), plain: false });
    }

    #[test]
    fn an_absent_value_is_not_text() {
        assert_eq!(tree("").value, Value::Nothing);
        assert_eq!(tree("# only a comment\n").value, Value::Nothing);
        assert_eq!(entry(&tree("models:\n"), "models").node.value, Value::Nothing);
        assert_eq!(entry(&tree("a: '~'"), "a").node.describe(), "`~`");
    }

    #[test]
    fn aliases_and_merges_are_resolved() {
        let root = tree("base: &b {x: 1, y: 2}\nmore: {<<: *b, y: 3}\nsame: *b\n");
        let more = &entry(&root, "more").node;
        assert_eq!(entry(more, "y").node.describe(), "`3`");
        assert_eq!(entry(more, "x").node.describe(), "`1`");
        assert_eq!(entry(&root, "same").node.value, entry(&root, "base").node.value);
    }

    #[test]
    fn a_syntax_error_has_a_place() {
        for text in ["a: [1, 2\n", "a: b: c\n", "a:\n\t- 1\n", "--- 1\n--- 2\n", "{[1]: 2}\n", "a: *nobody\n"]
        {
            let problem = parse(text, &mut Vec::new()).unwrap_err();
            assert!(problem.place.is_some(), "{text:?} {problem:?}");
        }
    }

    #[test]
    fn a_document_that_expands_through_aliases_is_refused() {
        let mut text = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
        for level in 1..9 {
            let line = format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(","));
            text.push_str(&line);
        }
        let problem = parse(&text, &mut Vec::new()).unwrap_err();
        assert!(problem.text.contains("too many values"), "{problem:?}");
        let deep = "[".repeat(200);
        assert!(parse(&deep, &mut Vec::new()).is_err());
    }

    #[test]
    fn a_duplicate_key_is_reported() {
        let mut problems = Vec::new();
        parse("a: 1\na: 2\n", &mut problems).unwrap();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].place, Some(Place { line: 2, column: 1 }));
    }
}
