//! Parses `--name value` arguments and rejects names the command does not know.
use crate::Outcome;
use std::str::FromStr;

#[derive(Debug)]
pub struct Args(Vec<(String, String)>);

impl Args {
    pub fn parse(words: &[String], known: &[&str]) -> Outcome<Self> {
        let mut pairs = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").unwrap_or("");
            if !known.contains(&name) {
                return Err(format!("unknown option {word}").into());
            }
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            pairs.push((name.to_owned(), value.clone()));
        }
        Ok(Self(pairs))
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// The last value given.
    pub fn get<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).last()
    }

    pub fn need<'a>(&'a self, name: &'a str) -> Outcome<&'a str> {
        self.get(name).ok_or_else(|| format!("--{name} is needed").into())
    }

    pub fn number<T: FromStr>(&self, name: &str) -> Outcome<Option<T>> {
        self.get(name)
            .map(|v| v.parse().map_err(|_| format!("--{name}: not a number: {v}").into()))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn repeated_and_missing() {
        let args = Args::parse(&words("--a 1 --b x --a 2"), &["a", "b", "c"]).unwrap();
        assert_eq!(args.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(args.number::<u32>("a").unwrap(), Some(2));
        assert!(args.number::<u32>("b").is_err());
        assert!(args.need("c").is_err());
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert!(Args::parse(&words("--d 1"), &["a"]).is_err());
        assert!(Args::parse(&words("--a"), &["a"]).is_err());
    }
}
