//! A YAML document as a tree in which every key and value has its line and column, so that all
//! problems can be reported at once.
use std::collections::{BTreeMap, HashSet};

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle};

/// A line and a column of a file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// What is wrong with the document itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub place: Place,
    /// The key that it is about; empty for the document.
    pub key: String,
    pub text: String,
}

impl Fault {
    fn at(place: Place, key: &str, text: impl Into<String>) -> Self {
        Self { place, key: key.to_owned(), text: text.into() }
    }
}

/// A value and where it starts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
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
pub(crate) struct Entry {
    pub key: String,
    pub place: Place,
    pub node: Node,
}

impl Node {
    /// How messages refer to it: `a mapping`, `` `text` ``.
    pub(crate) fn describe(&self) -> String {
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
/// A text counts as one more value for each of this many bytes, because aliases multiply it too.
const BYTES_OF_A_VALUE: usize = 64;

/// Parses one document. An empty one is `Nothing`. Duplicate keys are reported, and the first one
/// counts. It has at most `max_nodes` keys and values, also after aliases have multiplied it.
///
/// # Errors
/// A syntax error, which ends parsing: one fault with its line and column.
pub(crate) fn parse(text: &str, max_nodes: usize, faults: &mut Vec<Fault>) -> Result<Node, Fault> {
    let mut builder =
        Builder { parser: Parser::new_from_str(text), anchors: BTreeMap::new(), nodes: 0, max_nodes, faults };
    let mut root = None;
    loop {
        let (event, place) = builder.next()?;
        match event {
            Event::StreamEnd => break,
            Event::DocumentStart(..) if root.is_some() => {
                return Err(Fault::at(place, "", "the file must contain a single YAML document"));
            }
            Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(_) => {
                root = Some(builder.node(event, place, 0)?);
            }
            _ => {}
        }
    }
    Ok(root.unwrap_or(Node { place: Place { line: 1, column: 1 }, value: Value::Nothing }))
}

struct Builder<'text, 'faults> {
    parser: Parser<'text, serde_saphyr::granit_parser::StrInput<'text>>,
    anchors: BTreeMap<usize, (Node, usize)>,
    nodes: usize,
    max_nodes: usize,
    faults: &'faults mut Vec<Fault>,
}

impl<'text> Builder<'text, '_> {
    fn next(&mut self) -> Result<(Event<'text>, Place), Fault> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place(span.start))),
            Some(Err(error)) => {
                Err(Fault::at(place(*error.marker()), "", format!("invalid YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, Place { line: 1, column: 1 })),
        }
    }

    fn node(&mut self, event: Event<'text>, place: Place, depth: usize) -> Result<Node, Fault> {
        let before = self.nodes;
        self.count(1, place)?;
        if depth > MAX_DEPTH {
            return Err(Fault::at(place, "", format!("nested too deeply (limit {MAX_DEPTH} levels)")));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                self.count(text.len() / BYTES_OF_A_VALUE, place)?;
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
                    return Err(Fault::at(
                        place,
                        "",
                        "the alias refers to a value that does not end before it",
                    ));
                };
                self.count(size, place)?;
                return Ok(Node { place, value: node.value });
            }
            other => return Err(Fault::at(place, "", format!("expected a value, got {other:?}"))),
        };
        let node = Node { place, value };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn map(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut keys: HashSet<String> = HashSet::new();
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
                    return Err(Fault::at(
                        at,
                        "",
                        format!("expected a name as the key, got {}", key.describe()),
                    ));
                }
            };
            if plain && text == "<<" {
                merge(node, &mut merged);
            } else if keys.contains(&text) {
                self.faults.push(Fault::at(at, &text, "duplicate key"));
            } else {
                keys.insert(text.clone());
                entries.push(Entry { key: text, place: at, node });
            }
        }
        for entry in merged {
            if keys.insert(entry.key.clone()) {
                entries.push(entry);
            }
        }
        Ok(Value::Map(entries))
    }

    fn count(&mut self, more: usize, place: Place) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > self.max_nodes {
            return Err(Fault::at(place, "", format!("too many values (limit {})", self.max_nodes)));
        }
        Ok(())
    }
}

/// `<<: *base` or `<<: [*a, *b]`: keys that the mapping does not have itself.
fn merge(node: Node, into: &mut Vec<Entry>) {
    match node.value {
        Value::Map(entries) => {
            into.extend(entries);
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
        let mut faults = Vec::new();
        let node = parse(text, 1000, &mut faults).unwrap();
        assert!(faults.is_empty(), "{faults:?}");
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
            let fault = parse(text, 1000, &mut Vec::new()).unwrap_err();
            assert!(fault.place.line > 0, "{text:?} {fault:?}");
        }
    }

    #[test]
    fn a_document_that_expands_through_aliases_is_refused() {
        let mut text = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
        for level in 1..9 {
            let line = format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(","));
            text.push_str(&line);
        }
        let fault = parse(&text, 1000, &mut Vec::new()).unwrap_err();
        assert!(fault.text.contains("too many values"), "{fault:?}");
        let deep = "[".repeat(200);
        assert!(parse(&deep, 1000, &mut Vec::new()).is_err());
    }

    #[test]
    fn a_duplicate_key_is_reported() {
        let mut faults = Vec::new();
        parse("a: 1\na: 2\n", 1000, &mut faults).unwrap();
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].place, Place { line: 2, column: 1 });
    }
}
