//! What a tensor is: dtypes, shapes and casts between dtypes. No protobuf and no I/O.
mod dtype;
mod shape;
pub use dtype::{Class, DataType, DtypeInfo, ValueList};
pub use shape::{PartialShape, Shape, ShapeError};
