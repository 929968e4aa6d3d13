//! What the checks report: findings about rows, findings about a caller, and their texts.
use std::borrow::Cow;

/// What is wrong with a value of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// More than three ranges of the training data below its minimum or above its maximum.
    OutOfRange,
    /// NaN or infinite, where the training data had none.
    NotFinite,
    /// Not one of the few values of the training data.
    UnknownCategory,
    /// A string without bytes, where the training data had none.
    EmptyText,
    /// A caller sends values that the training data excludes, and a known mistake explains them.
    Shifted,
    /// An answer has NaN or infinite values.
    AnswerNotFinite,
    /// The same answer to different requests.
    AnswerConstant,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::OutOfRange,
        Self::NotFinite,
        Self::UnknownCategory,
        Self::EmptyText,
        Self::Shifted,
        Self::AnswerNotFinite,
        Self::AnswerConstant,
    ];

    /// The word for metadata, metrics and logs, such as `OUT_OF_RANGE`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::NotFinite => "NOT_FINITE",
            Self::UnknownCategory => "UNKNOWN_CATEGORY",
            Self::EmptyText => "EMPTY_TEXT",
            Self::Shifted => "SHIFTED",
            Self::AnswerNotFinite => "ANSWER_NOT_FINITE",
            Self::AnswerConstant => "ANSWER_CONSTANT",
        }
    }
}

/// A finding about values of one request. Findings of the same kind about the same feature are one.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub kind: Kind,
    /// The position of the feature or channel; `None` for texts and whole tensors.
    pub feature: Option<usize>,
    /// How people call the feature; empty if `feature` is `None`.
    pub name: String,
    /// Sampled values of this request that have it.
    pub count: u32,
    /// The first of them, for the client only.
    pub value: Value,
    /// The smallest and the largest value of the training data, for [`Kind::OutOfRange`].
    pub range: Option<(f64, f64)>,
}

/// A value of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Number(f64),
    /// At most [`MAX_SHOWN_BYTES`] bytes of a string.
    Text(Vec<u8>),
}

/// Bytes of a string that a text for the client quotes.
pub const MAX_SHOWN_BYTES: usize = 32;

impl Finding {
    /// One line of ASCII for the client that sent the value.
    pub fn for_client(&self, input: &str) -> String {
        let shown = match &self.value {
            Value::Number(value) => number(*value),
            Value::Text(bytes) => bytes.escape_ascii().to_string(),
        };
        let place = self.place(input);
        match (self.kind, self.range) {
            (Kind::OutOfRange, Some((min, max))) => format!(
                "{place} is {shown}, far outside the training data ({} to {})",
                number(min),
                number(max)
            ),
            (Kind::NotFinite, _) => format!("{place} is {shown}; the training data has no such value"),
            (Kind::UnknownCategory, _) => {
                format!("{place} is `{shown}`, which the training data does not have")
            }
            _ => self.for_operator(input),
        }
    }

    /// One line of ASCII that has no value of a request and none of the training data.
    pub fn for_operator(&self, input: &str) -> String {
        let place = self.place(input);
        match self.kind {
            Kind::OutOfRange => format!("{place} is more than three ranges outside the training data"),
            Kind::NotFinite => format!("{place} is NaN or infinite; the training data has no such value"),
            Kind::UnknownCategory => format!("{place} has a value that the training data does not have"),
            Kind::EmptyText => format!("{place} has an empty string; the training data has none"),
            Kind::Shifted => format!("{place} does not match the training data"),
            Kind::AnswerNotFinite => format!("output {place} is NaN or infinite"),
            Kind::AnswerConstant => format!("output {place} is the same for different requests"),
        }
    }

    fn place(&self, input: &str) -> String {
        let input = input.escape_default();
        if self.feature.is_none() || self.name.is_empty() {
            return format!("`{input}`");
        }
        format!("`{input}` feature {}", self.name.escape_default())
    }
}

/// A number as people write it.
fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || (1e-4..1e7).contains(&size) { format!("{value}") } else { format!("{value:e}") }
}

/// A known mistake in preparing the values of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mistake {
    /// The values are those before the scaler.
    NotScaled,
    /// The scaler was applied to values that were scaled already.
    ScaledTwice,
    /// 0 to 255 for 0 to 1.
    Times255,
    /// Divided by 255 once too often.
    Over255,
    /// -1 to 1 for 0 to 1.
    SymmetricForUnit,
    /// 0 to 1 for -1 to 1.
    UnitForSymmetric,
    /// Divided by the scale, but the mean was not subtracted.
    MeanNotSubtracted,
    /// BGR for RGB, or the reverse.
    ChannelsReversed,
    /// The features are in another order.
    Permuted,
    /// The model expects the logarithm.
    LogNotTaken,
    /// The logarithm was taken once too often.
    LogTakenTwice,
    /// Another unit: each value is multiplied by a power of ten.
    Unit,
    /// A fixed number stands for a missing value.
    MissingCoded,
    /// The feature always has the same value, which the training data does not have.
    Constant,
    /// Token ids of another vocabulary.
    Vocabulary,
}

impl Mistake {
    /// Every mistake, in the order in which equally likely ones are preferred.
    pub const ALL: [Self; 15] = [
        Self::MissingCoded,
        Self::Constant,
        Self::MeanNotSubtracted,
        Self::NotScaled,
        Self::LogNotTaken,
        Self::LogTakenTwice,
        Self::ScaledTwice,
        Self::Times255,
        Self::Over255,
        Self::SymmetricForUnit,
        Self::UnitForSymmetric,
        Self::ChannelsReversed,
        Self::Permuted,
        Self::Unit,
        Self::Vocabulary,
    ];

    /// The word for metadata, metrics and logs, such as `not_scaled`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotScaled => "not_scaled",
            Self::ScaledTwice => "scaled_twice",
            Self::Times255 => "times_255",
            Self::Over255 => "over_255",
            Self::SymmetricForUnit => "symmetric_for_unit",
            Self::UnitForSymmetric => "unit_for_symmetric",
            Self::MeanNotSubtracted => "mean_not_subtracted",
            Self::ChannelsReversed => "channels_reversed",
            Self::Permuted => "features_permuted",
            Self::LogNotTaken => "log_not_taken",
            Self::LogTakenTwice => "log_taken_twice",
            Self::Unit => "unit",
            Self::MissingCoded => "missing_coded",
            Self::Constant => "constant_feature",
            Self::Vocabulary => "other_vocabulary",
        }
    }
}

/// A finding about a caller: its rows are excluded by the training data, and this mistake brings
/// every affected feature back.
#[derive(Debug, Clone, PartialEq)]
pub struct CallerFinding {
    pub mistake: Mistake,
    /// Positions of the affected features, at most 16.
    pub features: Vec<usize>,
    /// What people call them.
    pub names: Vec<String>,
    /// How many features are affected and brought back.
    pub affected: usize,
    /// Features of the profile.
    pub total: usize,
    /// Different rows that the decision is based on.
    pub rows: u32,
    /// Base-10 logarithm of the likelihood ratio of the mistake over leaving the values as they
    /// are.
    pub log10_ratio: f64,
    /// What to add to the mistake's name.
    pub detail: Detail,
}

/// What a mistake's text names beside the features.
#[derive(Debug, Clone, PartialEq)]
pub enum Detail {
    None,
    /// What scaler the training data went through: `StandardScaler`.
    Scaler(&'static str),
    /// The sent values are 10 to this power times those expected.
    PowerOfTen(i32),
    /// How missing values are coded: `-999`, `NaN`, or `a fixed number`.
    Code(&'static str),
    /// At which position each of `features` is sent.
    Order(Vec<usize>),
    /// What logarithm: `log`, `log1p`.
    Function(&'static str),
}

impl CallerFinding {
    /// One line of ASCII without any value of a request: what the caller sends, how sure that is
    /// and what to do. It follows the caller's name: "sends `x` unscaled: ...".
    pub fn text(&self, input: &str) -> String {
        let input = input.escape_default();
        let counted = format!("{} of {} features", self.affected, self.total);
        let which = self.which();
        match self.mistake {
            Mistake::NotScaled => {
                let (before, transform) = match self.detail {
                    Detail::Scaler("MinMaxScaler") => ("MinMaxScaler", "scale"),
                    Detail::Scaler(scaler) => (scaler, "standardize"),
                    _ => ("preprocessing", "standardize"),
                };
                format!(
                    "sends `{input}` unscaled: {counted} match the training data before {before}; apply the \
                     scaler in the client or declare `transform: {transform}`"
                )
            }
            Mistake::ScaledTwice => format!(
                "sends `{input}` scaled twice: {counted} match the training data scaled once more; remove \
                 one of the scalers"
            ),
            Mistake::MeanNotSubtracted => format!(
                "sends `{input}` without the mean subtracted: {counted} match the training data before it; \
                 subtract the mean in the client or declare `transform: standardize`"
            ),
            Mistake::Times255 => format!(
                "sends `{input}` 255 times too large: {counted} match the training data times 255; divide by \
                 255 in the client or declare `transform: scale`"
            ),
            Mistake::Over255 => format!(
                "sends `{input}` 255 times too small: {counted} match the training data over 255; divide by \
                 255 only once"
            ),
            Mistake::SymmetricForUnit => format!(
                "sends `{input}` from -1 to 1 where the training data is from 0 to 1: {counted}; add 1 and \
                 divide by 2 in the client or declare `transform: scale`"
            ),
            Mistake::UnitForSymmetric => format!(
                "sends `{input}` from 0 to 1 where the training data is from -1 to 1: {counted}; multiply by \
                 2 and subtract 1 in the client or declare `transform: scale`"
            ),
            Mistake::ChannelsReversed => format!(
                "sends the channels of `{input}` in reverse order (BGR for RGB or the reverse): {counted} \
                 match the training data in the other order; reverse them in the client"
            ),
            Mistake::Permuted => self.permuted(&input.to_string()),
            Mistake::LogNotTaken => {
                let function = if let Detail::Function(name) = self.detail { name } else { "log" };
                format!(
                    "sends `{input}` without the logarithm: {counted} ({which}) match the training data after \
                     {function}; take it in the client"
                )
            }
            Mistake::LogTakenTwice => format!(
                "sends the logarithm of `{input}` once too often: {counted} ({which}); take it once less in \
                 the client"
            ),
            Mistake::Unit => {
                let power = if let Detail::PowerOfTen(power) = self.detail { power } else { 0 };
                format!(
                    "sends `{input}` in another unit: {which} is 10^{power} times the training data; convert \
                     it in the client"
                )
            }
            Mistake::MissingCoded => {
                let code = if let Detail::Code(code) = self.detail { code } else { "a fixed number" };
                format!(
                    "sends {code} for missing values of `{input}` ({which}), which the training data does not \
                     have; fill them as in training"
                )
            }
            Mistake::Constant => format!(
                "sends the same value of `{input}` ({which}) in every row, one that the training data does \
                 not have; check where it comes from"
            ),
            Mistake::Vocabulary => format!(
                "sends token ids of `{input}` beyond the training data: they are of another vocabulary; use \
                 the tokenizer that the model was trained with"
            ),
        }
    }

    fn permuted(&self, input: &str) -> String {
        let Detail::Order(order) = &self.detail else { return format!("permutes the features of `{input}`") };
        if self.affected == 2 && self.names.len() == 2 {
            let (one, other) = (self.names[0].escape_default(), self.names[1].escape_default());
            return format!(
                "swaps features {one} and {other} of `{input}`; send them in the order of the training data"
            );
        }
        let pairs =
            self.names.iter().zip(order).map(|(name, at)| format!("{} at {at}", name.escape_default()));
        let more = if self.affected > order.len() { ", ..." } else { "" };
        format!(
            "sends {} of {} features of `{input}` in another order ({}{more}); send them in the order of the \
             training data",
            self.affected,
            self.total,
            pairs.collect::<Vec<_>>().join(", ")
        )
    }

    /// The affected features by name.
    fn which(&self) -> Cow<'static, str> {
        let mut names: Vec<String> =
            self.names.iter().take(4).map(|name| name.escape_default().to_string()).collect();
        if self.affected > names.len() {
            names.push(format!("{} more", self.affected - names.len()));
        }
        let word = if self.affected == 1 { "feature" } else { "features" };
        format!("{word} {}", names.join(", ")).into()
    }
}
