//! What one client does wrong, by kind: its most frequent mistakes, in bounded memory.
use std::sync::Arc;
use std::time::SystemTime;

use crate::repair::fix::Language;

/// Bytes of a name, and of the text of a change or problem; more are cut off.
const MAX_NAME: usize = 96;
const MAX_TEXT: usize = 240;

/// One thing that a request did wrong. The names and the text may be of any length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mistake<'a> {
    pub model: &'a str,
    /// The version that the request was checked against, if its model is known.
    pub version: Option<i64>,
    pub signature: &'a str,
    /// An alias of the signature, or empty for the whole request.
    pub input: &'a str,
    /// The name of a rule or a reason.
    pub kind: &'static str,
    pub outcome: &'static str,
    /// What a repair changed, or the text of a problem, without tensor values.
    pub text: &'a str,
}

/// A mistake that a client repeats.
#[derive(Debug, Clone)]
pub(crate) struct Repeated {
    pub language: Language,
    pub model: Arc<str>,
    pub version: Option<i64>,
    pub signature: Arc<str>,
    pub input: Arc<str>,
    pub kind: &'static str,
    pub outcome: &'static str,
    pub count: u64,
    pub first: SystemTime,
    pub last: SystemTime,
    /// Of the last one.
    pub text: Arc<str>,
}

/// The mistakes of one client. A new one takes the place of the rarest if there are too many.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    kinds: Vec<Repeated>,
    /// Those that lost their place.
    pub(super) unlisted: u64,
}

impl Repeated {
    pub(super) fn new(language: Language, mistake: &Mistake<'_>, now: SystemTime) -> Self {
        Self {
            language,
            model: cut(mistake.model, MAX_NAME).into(),
            version: mistake.version,
            signature: cut(mistake.signature, MAX_NAME).into(),
            input: cut(mistake.input, MAX_NAME).into(),
            kind: mistake.kind,
            outcome: mistake.outcome,
            count: 1,
            first: now,
            last: now,
            text: cut(mistake.text, MAX_TEXT).into(),
        }
    }

    /// Whether the mistake is of this kind: all but the version and the text is the same.
    fn is(&self, language: Language, mistake: &Mistake<'_>) -> bool {
        self.kind == mistake.kind
            && self.outcome == mistake.outcome
            && self.language == language
            && *self.input == *cut(mistake.input, MAX_NAME)
            && *self.signature == *cut(mistake.signature, MAX_NAME)
            && *self.model == *cut(mistake.model, MAX_NAME)
    }

    /// The last such mistake.
    pub(super) fn as_mistake(&self) -> Mistake<'_> {
        let Self { model, version, signature, input, kind, outcome, text, .. } = self;
        Mistake { model, version: *version, signature, input, kind, outcome, text }
    }
}

impl Kinds {
    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Repeated> {
        self.kinds.iter()
    }

    /// Counts a mistake; at most `max` kinds are kept.
    pub(super) fn add(&mut self, language: Language, mistake: &Mistake<'_>, now: SystemTime, max: usize) {
        if let Some(kind) = self.kinds.iter_mut().find(|kind| kind.is(language, mistake)) {
            kind.count += 1;
            kind.last = now;
            kind.version = mistake.version.or(kind.version);
            let text = cut(mistake.text, MAX_TEXT);
            if *kind.text != *text {
                kind.text = text.into();
            }
            return;
        }
        if self.kinds.len() >= max.max(1) {
            self.drop_rarest();
        }
        self.kinds.push(Repeated::new(language, mistake, now));
    }

    /// Adds the mistakes of a client that is no longer listed by itself. At most `max` are kept.
    pub(super) fn merge(&mut self, others: Self, max: usize) {
        self.unlisted += others.unlisted;
        for other in others.kinds {
            if let Some(kind) =
                self.kinds.iter_mut().find(|kind| kind.is(other.language, &other.as_mistake()))
            {
                kind.count += other.count;
                kind.first = kind.first.min(other.first);
                kind.last = kind.last.max(other.last);
            } else if self.kinds.len() < max {
                self.kinds.push(other);
            } else {
                self.unlisted += other.count;
            }
        }
    }

    fn drop_rarest(&mut self) {
        let counts = self.kinds.iter().map(|kind| kind.count).enumerate();
        if let Some((at, _)) = counts.min_by_key(|(_, count)| *count) {
            self.unlisted += self.kinds.swap_remove(at).count;
        }
    }
}

/// The text without what is beyond `bytes`.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}
