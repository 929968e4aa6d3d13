//! What is wrong with a configuration: every problem with its key, its place and a hint.
use std::fmt;

/// A line and a column of the configuration file, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key path (`models.churn.mode`), the flag (`--mode`) or the environment variable; empty
    /// for the document itself.
    pub key: String,
    /// Where in the file, when it stands there.
    pub place: Option<Place>,
    /// Expected this, found that.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { key: key.into(), place: None, text: text.into(), hint: None }
    }

    pub fn at(place: Place, key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: Some(place), ..Self::new(key, text) }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() { f.write_str(&self.text) } else { write!(f, "`{}`: {}", self.key, self.text) }
    }
}

/// All problems of a configuration, in the order of the file, those of flags and variables last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The configuration file, when there is one.
    pub file: Option<String>,
    pub list: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(file: Option<String>, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| (problem.place.is_none(), problem.place));
        Self { file, list }
    }
}

impl std::error::Error for Problems {}

/// One line a problem (`file.yaml:3:9: key: expected ..., found ...`), each followed by its hint.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list.len() {
            1 => f.write_str("the configuration has a problem")?,
            count => write!(f, "the configuration has {count} problems")?,
        }
        for problem in &self.list {
            f.write_str("\n  ")?;
            if let Some(Place { line, column }) = problem.place {
                write!(f, "{}:{line}:{column}: ", self.file.as_deref().unwrap_or("configuration"))?;
            }
            write!(f, "{problem}")?;
            if let Some(hint) = &problem.hint {
                write!(f, "\n    hint: {hint}")?;
            }
        }
        Ok(())
    }
}

/// `` `a`, `b` or `c` ``: how a message lists what it knows.
pub(super) fn any_of<S: AsRef<str>>(names: &[S]) -> String {
    let mut text = String::new();
    for (index, name) in names.iter().enumerate() {
        match index {
            0 => {}
            _ if index + 1 == names.len() => text.push_str(" or "),
            _ => text.push_str(", "),
        }
        text.push('`');
        text.push_str(name.as_ref());
        text.push('`');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_listed_in_the_order_of_the_file() {
        let problems = Problems::new(
            Some("c.yaml".to_owned()),
            vec![
                Problem::new("--mode", "expected a mode, found `x`"),
                Problem::at(Place { line: 9, column: 2 }, "b", "second"),
                Problem::at(Place { line: 2, column: 5 }, "a", "first").hint("do this"),
            ],
        );
        insta::assert_snapshot!(problems, @r"
        the configuration has 3 problems
          c.yaml:2:5: `a`: first
            hint: do this
          c.yaml:9:2: `b`: second
          `--mode`: expected a mode, found `x`
        ");
    }

    #[test]
    fn names_are_listed_as_people_do() {
        assert_eq!(any_of(&["a", "b", "c"]), "`a`, `b` or `c`");
        assert_eq!(any_of(&["a"]), "`a`");
    }
}
