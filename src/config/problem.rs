//! What is wrong with a configuration: every problem with its key, place and hint.
use crate::sorting;
use std::fmt;

pub use crate::yaml::Place;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key path (`models.churn.mode`), the flag (`--mode`) or the environment variable; empty
    /// for the document itself.
    pub key: String,
    /// Where in the file, unless it comes from elsewhere.
    pub place: Option<Place>,
    pub text: String,
    /// How to fix it.
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { key: key.into(), place: None, text: text.into(), hint: None }
    }

    /// A problem whose key and place are not known yet.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::new("", text)
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

/// All problems of a configuration: first those of the file in its order, then those of flags and
/// environment variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// The configuration file, if there is one.
    pub file: Option<String>,
    pub list: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(file: Option<String>, mut list: Vec<Problem>) -> Self {
        sorting::by_key(&mut list, |problem| (problem.place.is_none(), problem.place));
        Self { file, list }
    }

    /// Each problem with its place and its hint, on a line of its own.
    pub fn lines(&self) -> Vec<String> {
        let line = |problem: &Problem| {
            let hint = problem.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
            format!("{}{problem}{hint}", self.place(problem))
        };
        self.list.iter().map(line).collect()
    }

    /// `file.yaml:3:9: `, or nothing for a problem outside the file.
    fn place(&self, problem: &Problem) -> String {
        problem.place.map_or_else(String::new, |Place { line, column }| {
            format!("{}:{line}:{column}: ", self.file.as_deref().unwrap_or("configuration"))
        })
    }
}

impl std::error::Error for Problems {}

/// One line per problem (`file.yaml:3:9: key: expected ..., got ...`), each followed by its hint.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list.len() {
            1 => f.write_str("the configuration has a problem")?,
            count => write!(f, "the configuration has {count} problems")?,
        }
        for problem in &self.list {
            write!(f, "\n  {}{problem}", self.place(problem))?;
            if let Some(hint) = &problem.hint {
                write!(f, "\n    hint: {hint}")?;
            }
        }
        Ok(())
    }
}

/// `` `a`, `b` or `c` `` with the conjunction `or`.
pub(super) fn list(names: &[&str], conjunction: &str) -> String {
    let mut text = String::new();
    for (index, name) in names.iter().enumerate() {
        match index {
            0 => {}
            _ if index + 1 == names.len() => {
                text.push(' ');
                text.push_str(conjunction);
                text.push(' ');
            }
            _ => text.push_str(", "),
        }
        text.push('`');
        text.push_str(name);
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
                Problem::new("--mode", "expected a mode, got `x`"),
                Problem::at(Place { line: 9, column: 2 }, "b", "second"),
                Problem::at(Place { line: 2, column: 5 }, "a", "first").hint("do this"),
            ],
        );
        insta::assert_snapshot!(problems, @r"
        the configuration has 3 problems
          c.yaml:2:5: `a`: first
            hint: do this
          c.yaml:9:2: `b`: second
          `--mode`: expected a mode, got `x`
        ");
    }

    #[test]
    fn names_are_listed_with_commas_and_a_conjunction() {
        assert_eq!(list(&["a", "b", "c"], "or"), "`a`, `b` or `c`");
        assert_eq!(list(&["a"], "or"), "`a`");
    }
}
