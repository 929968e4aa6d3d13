//! STUB: the closed set of reasons.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    RankTooLow,
    RankTooHigh,
    DimMismatch,
    ShapeMismatch,
    ShapeAmbiguous,
    ShapeNotConcrete,
    BatchMismatch,
    StaticBatch,
    DtypeMismatch,
    CastOutOfRange,
    CastInexact,
    ContentSize,
    ValueCount,
    ValueField,
    StringInContent,
    NameUnknown,
    NameAmbiguous,
    InputMissing,
    InputExtra,
    OutputUnknown,
    SignatureUnknown,
    ModelUnknown,
    NotAnExample,
    Malformed,
    TooLarge,
    QueueFull,
    Deadline,
    Draining,
    UpstreamUnavailable,
}

impl Reason {
    pub const ALL: &'static [Self] = &[Self::RankTooLow, Self::RankTooHigh, Self::DimMismatch, Self::ShapeMismatch, Self::ShapeAmbiguous, Self::ShapeNotConcrete, Self::BatchMismatch, Self::StaticBatch, Self::DtypeMismatch, Self::CastOutOfRange, Self::CastInexact, Self::ContentSize, Self::ValueCount, Self::ValueField, Self::StringInContent, Self::NameUnknown, Self::NameAmbiguous, Self::InputMissing, Self::InputExtra, Self::OutputUnknown, Self::SignatureUnknown, Self::ModelUnknown, Self::NotAnExample, Self::Malformed, Self::TooLarge, Self::QueueFull, Self::Deadline, Self::Draining, Self::UpstreamUnavailable];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RankTooLow => "RANK_TOO_LOW",
            Self::RankTooHigh => "RANK_TOO_HIGH",
            Self::DimMismatch => "DIM_MISMATCH",
            Self::ShapeMismatch => "SHAPE_MISMATCH",
            Self::ShapeAmbiguous => "SHAPE_AMBIGUOUS",
            Self::ShapeNotConcrete => "SHAPE_NOT_CONCRETE",
            Self::BatchMismatch => "BATCH_MISMATCH",
            Self::StaticBatch => "STATIC_BATCH",
            Self::DtypeMismatch => "DTYPE_MISMATCH",
            Self::CastOutOfRange => "CAST_OUT_OF_RANGE",
            Self::CastInexact => "CAST_INEXACT",
            Self::ContentSize => "CONTENT_SIZE",
            Self::ValueCount => "VALUE_COUNT",
            Self::ValueField => "VALUE_FIELD",
            Self::StringInContent => "STRING_IN_CONTENT",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::NameAmbiguous => "NAME_AMBIGUOUS",
            Self::InputMissing => "INPUT_MISSING",
            Self::InputExtra => "INPUT_EXTRA",
            Self::OutputUnknown => "OUTPUT_UNKNOWN",
            Self::SignatureUnknown => "SIGNATURE_UNKNOWN",
            Self::ModelUnknown => "MODEL_UNKNOWN",
            Self::NotAnExample => "NOT_AN_EXAMPLE",
            Self::Malformed => "MALFORMED",
            Self::TooLarge => "TOO_LARGE",
            Self::QueueFull => "QUEUE_FULL",
            Self::Deadline => "DEADLINE",
            Self::Draining => "DRAINING",
            Self::UpstreamUnavailable => "UPSTREAM_UNAVAILABLE",
        }
    }
}
