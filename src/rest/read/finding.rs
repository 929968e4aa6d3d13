//! What reading a body met: what it repaired, what is left to others, and what is wrong.

/// Findings of each severity that are kept. The others are counted.
const MAX_KEPT: usize = 32;
/// Bytes of a value or of a key that a finding shows.
const MAX_SHOWN: usize = 128;

/// What becomes of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// TF Serving ignores it, and so do we.
    Warning,
    /// The tensors show it: a missing or an undeclared input. Who checks them decides.
    Open,
    /// Read in the only right way, which TF Serving would not have done.
    Repaired,
    /// The body cannot be read.
    Problem,
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $kind:ident = $severity:ident,)*) => {
        /// What a finding is about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[doc = $doc])* $kind,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// What becomes of a finding of this kind.
            pub fn severity(self) -> Severity {
                match self {
                    $(Self::$kind => Severity::$severity,)*
                }
            }
        }
    };
}

kinds! {
    /// A key beside `instances` or `inputs`; a name in `inputs` that is not declared.
    IgnoredKey = Warning,
    /// A key of the body that was there before: the first counts.
    RepeatedKey = Warning,
    /// A name that is not declared. Its values are an input under this name.
    UndeclaredInput = Open,
    /// A declared input that no instance has.
    MissingInput = Open,
    /// `1.0` or `1e2` for an integer.
    IntegralFloat = Repaired,
    /// An object for `instances`, read as a list of one.
    BareObject = Repaired,
    /// The inputs' names in the body itself, read as if they were in `inputs`.
    NamesAtTop = Repaired,
    /// `"3.5"` for a number, with `string_numbers`.
    NumberInString = Repaired,
    /// `true` for a number, with `bool_numbers`.
    BoolAsNumber = Repaired,
    /// 0 or 1 for a bool, with `bool_numbers`.
    NumberAsBool = Repaired,
    /// A finite number that the dtype does not have.
    OutOfRange = Problem,
    /// A number that no double has, or `0e400`: RapidJSON does not parse it.
    TooBig = Problem,
    /// `1.5` for an integer.
    Inexact = Problem,
    Null = Problem,
    /// `true` or `false` for a number, without `bool_numbers`.
    BoolForNumber = Problem,
    /// 0 or 1 for a bool, without `bool_numbers`.
    BitForBool = Problem,
    /// Another number for a bool.
    NumberForBool = Problem,
    /// `"3.5"` for a number, without `string_numbers`.
    QuotedNumber = Problem,
    /// Another string for a number, or a string for a bool.
    StringForNumber = Problem,
    /// A number or a bool for a string.
    NumberForString = Problem,
    /// An object for a value, which is not `{"b64": "…"}`.
    ObjectForValue = Problem,
    /// `{"b64": "…"}` for a number or a bool.
    Base64ForNumber = Problem,
    BadBase64 = Problem,
    /// A list that is longer or shorter than the first of its level.
    Ragged = Problem,
    /// A list where the values before have none, or a value where they have a list.
    WrongLevel = Problem,
    /// More nested lists than TensorFlow has dimensions (254).
    TooDeep = Problem,
    /// A key that its object has twice.
    DuplicateKey = Problem,
    /// An input that other instances have.
    MissingKey = Problem,
    /// A key that other instances do not have, or a name that no input can have.
    UnknownKey = Problem,
    /// An object among values, or a value among objects.
    MixedKinds = Problem,
    /// Neither `instances` nor `inputs`.
    NoValues = Problem,
    /// Both `instances` and `inputs`.
    BothKeys = Problem,
    /// `instances` is not a list.
    NotAList = Problem,
    /// `instances` is an empty list.
    NoInstances = Problem,
    /// Values without names for a signature of several inputs.
    NamesNeeded = Problem,
    /// `signature_name` is not a string.
    SignatureName = Problem,
    /// No signature has this name.
    UnknownSignature = Problem,
    /// The signature has no inputs.
    NoInputs = Problem,
    /// Values for a resource, a variant or an unknown dtype.
    UnsupportedDtype = Problem,
    /// More elements or bytes than the limits allow.
    TooLarge = Problem,
    /// The body is JSON, but not an object.
    NotAnObject = Problem,
    Syntax = Problem,
}

/// One thing that reading met, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: Kind,
    /// The input that it is about; empty if it is about none.
    pub input: String,
    /// JSON pointer to the place; empty for the body itself.
    pub pointer: String,
    /// Position in the body, in bytes.
    pub offset: usize,
    /// What is wrong, for people. It holds names and dtypes, but no value.
    pub what: String,
    /// The value, cut after a hundred bytes or so.
    pub value: Option<String>,
}

/// The findings of a body in the order of reading: 32 of each severity, and how many more there
/// are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    counts: [u64; 4],
}

// === impl Findings ===

impl Findings {
    /// The findings that were kept.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.kept.iter()
    }

    /// How many findings of a severity there are, kept or not.
    pub fn count(&self, severity: Severity) -> u64 {
        self.counts[severity as usize]
    }

    /// Whether the body cannot be read.
    pub fn has_problems(&self) -> bool {
        self.count(Severity::Problem) > 0
    }

    pub fn is_empty(&self) -> bool {
        self.counts == [0; 4]
    }

    /// Whether further findings of this severity are only counted.
    pub(super) fn is_full(&self, kind: Kind) -> bool {
        self.count(kind.severity()) >= MAX_KEPT as u64
    }

    /// Counts findings for which there is no room.
    pub(super) fn add_unkept(&mut self, kind: Kind, count: u64) {
        self.counts[kind.severity() as usize] += count;
    }

    /// Counts a finding, and makes it if there is room for it.
    pub(super) fn add(&mut self, kind: Kind, make: impl FnOnce() -> Finding) {
        let count = &mut self.counts[kind.severity() as usize];
        *count += 1;
        if *count <= MAX_KEPT as u64 {
            self.kept.push(make());
        }
    }
}

/// Bytes of a body as text, cut to a length that fits in a message.
pub(super) fn shown(bytes: &[u8]) -> String {
    match bytes.get(..MAX_SHOWN) {
        Some(begin) if bytes.len() > MAX_SHOWN => {
            let end =
                (0..4).map(|back| begin.len() - back).find(|end| std::str::from_utf8(&begin[..*end]).is_ok());
            format!("{}...", String::from_utf8_lossy(&begin[..end.unwrap_or(MAX_SHOWN)]))
        }
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Appends a step to a JSON pointer.
pub(super) fn step(pointer: &mut String, name: &str) {
    pointer.push('/');
    for letter in shown(name.as_bytes()).chars() {
        match letter {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            letter => pointer.push(letter),
        }
    }
}
