//! The key `profile_check`: a word, or a section with the word under `on_finding`.
use serde_json::{Value as Json, json};

use super::cursor::Cursor;
use super::format::{Format, Kind, Scalar as _, Tree};
use super::scalars::{Choice, FilePath, Number};
use super::schema;
use super::table::{Field, Key, Keys as _, Reload, Table, keys};
use super::yaml::Value;
use crate::repair::policy::{OnFinding, ProfileCheck, ProfileFile};

const WORDS: Choice<OnFinding> =
    Choice(&[("off", OnFinding::Off), ("warn", OnFinding::Warn), ("refuse", OnFinding::Refuse)]);

static SECTION: Table<ProfileCheck> = Table {
    keys: keys! { ProfileCheck;
        on_finding: WORDS, live, "The word.";
        budget: Number::new(1, 1 << 20), live, "Values of one input of a request that are looked at, spread over the whole tensor.";
        sample: Number::new(1, 1 << 16), live, "Rows of a request that are looked at.";
        answers: Number::new(0, 1 << 20), live, "One answer in so many is looked at. 0: none.";
    },
    ..Table::EMPTY
};

/// How `profile` is written: the path of a file, which is read later.
pub(super) struct ProfilePath;

impl Format<Option<ProfileFile>> for ProfilePath {
    fn read(&self, at: &Cursor<'_>, to: &mut Option<ProfileFile>) {
        if let Some(path) = at.scalar(&FilePath) {
            *to = Some(ProfileFile::at(path));
        }
    }

    fn print(&self, value: &Option<ProfileFile>, _: &Option<ProfileFile>) -> Option<Tree> {
        value.as_ref().map(|file| FilePath.write(&file.path))
    }

    fn describe(&self, _: &Option<ProfileFile>) -> Kind {
        Kind::Value(FilePath.schema())
    }
}

/// How `profile_check` is written.
pub(super) struct Check;

impl Format<ProfileCheck> for Check {
    fn read(&self, at: &Cursor<'_>, to: &mut ProfileCheck) {
        if matches!(at.node.value, Value::Map(_)) {
            (&SECTION).read(at, to);
        } else if let Some(word) = at.scalar(&WORDS) {
            to.on_finding = word;
        }
    }

    fn print(&self, value: &ProfileCheck, _: &ProfileCheck) -> Option<Tree> {
        let word = ProfileCheck { on_finding: value.on_finding, ..ProfileCheck::default() };
        if *value == word {
            return Some(WORDS.write(&value.on_finding));
        }
        Some(Tree::Map(SECTION.entries(value, &ProfileCheck::default())))
    }

    fn describe(&self, default: &ProfileCheck) -> Kind {
        let words: Json = WORDS.schema();
        let section = schema::of(&(&SECTION).describe(default));
        Kind::Value(json!({
            "title": "`off`, `warn`, `refuse`, or `{on_finding, budget, sample, answers}`",
            "anyOf": [words, section],
        }))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::effective;
    use crate::config::load::{File, Settings, load};
    use crate::repair::policy::{OnFinding, ProfileCheck};

    fn check(text: &str) -> Result<ProfileCheck, String> {
        let text = format!("models: {{m: {{profile_check: {text}}}}}");
        let config = load(&Settings::default(), Some(File { name: "c.yaml", text: &text }))
            .map_err(|problems| problems.to_string())?;
        let printed = effective(&config);
        let again = load(&Settings::default(), Some(File { name: "c.yaml", text: &printed })).unwrap();
        assert_eq!(again, config, "{printed}");
        Ok(config.policy("m").defaults.profile_check)
    }

    #[test]
    fn it_is_a_word_or_a_section() {
        let default = ProfileCheck::default();
        assert_eq!(check("refuse"), Ok(ProfileCheck { on_finding: OnFinding::Refuse, ..default }));
        assert_eq!(check("{budget: 100}"), Ok(ProfileCheck { budget: 100, ..default }));
        let all = check("{on_finding: off, budget: 9, sample: 3, answers: 0}").unwrap();
        assert_eq!(all, ProfileCheck { on_finding: OnFinding::Off, budget: 9, sample: 3, answers: 0 });
        assert!(check("on").unwrap_err().contains("expected `off`, `warn` or `refuse`"));
        assert!(check("{budget: 0}").unwrap_err().contains("`models.m.profile_check.budget`"));
    }
}
