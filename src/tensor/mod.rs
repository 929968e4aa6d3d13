//! Layer 0: dtypes, shapes and casts between dtypes. No protobuf and no I/O.
mod cast;
mod dtype;
mod float8;
mod shape;

pub(crate) use cast::each_f64;
pub use cast::{Cast, CastFault, Exactness, FaultKind, Relation, relation};
pub use dtype::{Class, DataType, DtypeInfo, ValueList};
pub use shape::{PartialShape, Shape, ShapeError};
