//! TensorFlow's dtypes: one table of numbers, names, element sizes and value fields.
use std::borrow::Cow;
use std::fmt;

/// A dtype by its number in `tensorflow.DataType`. Unknown numbers are allowed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DataType(i32);

/// A row of the table.
#[derive(Debug)]
pub struct DtypeInfo {
    pub dtype: DataType,
    /// TensorFlow's C++ name: `float`, `half`, `int32`.
    pub name: &'static str,
    /// The protobuf name: `DT_FLOAT`.
    pub enum_name: &'static str,
    /// Other spellings in common use, lowercase: NumPy's names and short forms.
    pub aliases: &'static [&'static str],
    /// Size of an element in `tensor_content`; `None` if elements have no fixed size.
    pub size: Option<usize>,
    /// The typed list for values that are not in `tensor_content`.
    pub list: ValueList,
    pub class: Class,
}

/// The family a dtype belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    Float,
    Signed,
    Unsigned,
    Bool,
    Complex,
    String,
    Quantized,
    /// Resource and variant: references to things inside the server, not values.
    Handle,
}

/// A typed list: the field of `TensorProto` for values that are not in `tensor_content`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ValueList {
    Float,
    Double,
    Int,
    String,
    SComplex,
    Int64,
    Bool,
    DComplex,
    /// The bits of half or bfloat16, one value in each int32.
    Half,
    ResourceHandle,
    Variant,
    Uint32,
    Uint64,
    /// Not repeated: one bytes field with one byte for each element of a float8 dtype or float4.
    Float8,
}

macro_rules! dtypes {
    ($(
        $id:ident = $number:literal, $name:literal, $size:expr, $list:ident, $class:ident, [$($alias:literal),*];
    )*) => {
        impl DataType {
            $(pub const $id: Self = Self($number);)*
        }

        const DTYPES: &[DtypeInfo] = &[$(DtypeInfo {
            dtype: DataType::$id,
            name: $name,
            enum_name: concat!("DT_", stringify!($id)),
            aliases: &[$($alias),*],
            size: $size,
            list: ValueList::$list,
            class: Class::$class,
        }),*];
    };
}

// Dtype n is in row n - 1, without gaps: `info` relies on it.
dtypes! {
    FLOAT = 1, "float", Some(4), Float, Float, ["float32", "f32"];
    DOUBLE = 2, "double", Some(8), Double, Float, ["float64", "f64"];
    INT32 = 3, "int32", Some(4), Int, Signed, ["i32"];
    UINT8 = 4, "uint8", Some(1), Int, Unsigned, ["u8"];
    INT16 = 5, "int16", Some(2), Int, Signed, ["i16"];
    INT8 = 6, "int8", Some(1), Int, Signed, ["i8"];
    STRING = 7, "string", None, String, String, ["str"];
    COMPLEX64 = 8, "complex64", Some(8), SComplex, Complex, ["c64"];
    INT64 = 9, "int64", Some(8), Int64, Signed, ["i64"];
    BOOL = 10, "bool", Some(1), Bool, Bool, ["boolean"];
    QINT8 = 11, "qint8", Some(1), Int, Quantized, [];
    QUINT8 = 12, "quint8", Some(1), Int, Quantized, [];
    QINT32 = 13, "qint32", Some(4), Int, Quantized, [];
    BFLOAT16 = 14, "bfloat16", Some(2), Half, Float, ["bf16"];
    QINT16 = 15, "qint16", Some(2), Int, Quantized, [];
    QUINT16 = 16, "quint16", Some(2), Int, Quantized, [];
    UINT16 = 17, "uint16", Some(2), Int, Unsigned, ["u16"];
    COMPLEX128 = 18, "complex128", Some(16), DComplex, Complex, ["c128"];
    HALF = 19, "half", Some(2), Half, Float, ["float16", "f16"];
    RESOURCE = 20, "resource", None, ResourceHandle, Handle, [];
    VARIANT = 21, "variant", None, Variant, Handle, [];
    UINT32 = 22, "uint32", Some(4), Uint32, Unsigned, ["u32"];
    UINT64 = 23, "uint64", Some(8), Uint64, Unsigned, ["u64"];
    FLOAT8_E5M2 = 24, "float8_e5m2", Some(1), Float8, Float, [];
    FLOAT8_E4M3FN = 25, "float8_e4m3fn", Some(1), Float8, Float, [];
    FLOAT8_E4M3FNUZ = 26, "float8_e4m3fnuz", Some(1), Float8, Float, [];
    FLOAT8_E4M3B11FNUZ = 27, "float8_e4m3b11fnuz", Some(1), Float8, Float, [];
    FLOAT8_E5M2FNUZ = 28, "float8_e5m2fnuz", Some(1), Float8, Float, [];
    INT4 = 29, "int4", Some(1), Int, Signed, ["i4"];
    UINT4 = 30, "uint4", Some(1), Int, Unsigned, ["u4"];
    INT2 = 31, "int2", Some(1), Int, Signed, ["i2"];
    UINT2 = 32, "uint2", Some(1), Int, Unsigned, ["u2"];
    FLOAT4_E2M1FN = 33, "float4_e2m1fn", Some(1), Float8, Float, [];
}

/// The number of a reference dtype, such as `DT_FLOAT_REF` of a graph variable, is that of its base
/// plus this.
const REF: i32 = 100;

// === impl DataType ===

impl DataType {
    /// The value of an absent field in proto3.
    pub const INVALID: Self = Self(0);

    /// The dtype of this number, known or not.
    pub const fn from_number(number: i32) -> Self {
        Self(number)
    }

    /// The number in `tensorflow.DataType`.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// The dtypes of the table, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        DTYPES.iter().map(|info| info.dtype)
    }

    /// The row of the table; `None` for `DT_INVALID`, for reference dtypes and for unknown numbers.
    pub fn info(self) -> Option<&'static DtypeInfo> {
        usize::try_from(self.0).ok()?.checked_sub(1).and_then(|row| DTYPES.get(row))
    }

    /// TensorFlow's C++ name: `float`, `float_ref`; `dtype 77` for an unknown number.
    pub fn name(self) -> Cow<'static, str> {
        match (self.info(), self.base()) {
            (Some(info), _) => Cow::Borrowed(info.name),
            (None, Some(base)) => Cow::Owned(format!("{}_ref", base.name)),
            (None, None) if self == Self::INVALID => Cow::Borrowed("INVALID"),
            (None, None) => Cow::Owned(format!("dtype {}", self.0)),
        }
    }

    /// The protobuf name: `DT_FLOAT`, `DT_FLOAT_REF`; `dtype 77` for an unknown number.
    pub fn enum_name(self) -> Cow<'static, str> {
        match (self.info(), self.base()) {
            (Some(info), _) => Cow::Borrowed(info.enum_name),
            (None, Some(base)) => Cow::Owned(format!("{}_REF", base.enum_name)),
            (None, None) if self == Self::INVALID => Cow::Borrowed("DT_INVALID"),
            (None, None) => self.name(),
        }
    }

    /// Parses a name in any case: `float`, `float32`, `DT_FLOAT`, `f32`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let is = |spelling: &&str| text.eq_ignore_ascii_case(spelling);
        DTYPES
            .iter()
            .find(|info| is(&info.name) || is(&info.enum_name) || info.aliases.iter().any(is))
            .map(|info| info.dtype)
    }

    /// Size of an element in `tensor_content`; `None` for string, resource, variant and unknown
    /// dtypes.
    pub fn size(self) -> Option<usize> {
        self.info()?.size
    }

    /// The dtype that a reference dtype refers to.
    fn base(self) -> Option<&'static DtypeInfo> {
        Self(self.0.checked_sub(REF)?).info()
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name())
    }
}

impl fmt::Debug for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.enum_name())
    }
}

// === impl ValueList ===

/// Field number, field name and native dtype of each list.
const LISTS: &[(ValueList, u32, &str, Option<DataType>)] = &[
    (ValueList::Float, 5, "float_val", Some(DataType::FLOAT)),
    (ValueList::Double, 6, "double_val", Some(DataType::DOUBLE)),
    (ValueList::Int, 7, "int_val", Some(DataType::INT32)),
    (ValueList::String, 8, "string_val", None),
    (ValueList::SComplex, 9, "scomplex_val", Some(DataType::COMPLEX64)),
    (ValueList::Int64, 10, "int64_val", Some(DataType::INT64)),
    (ValueList::Bool, 11, "bool_val", Some(DataType::BOOL)),
    (ValueList::DComplex, 12, "dcomplex_val", Some(DataType::COMPLEX128)),
    (ValueList::Half, 13, "half_val", None),
    (ValueList::ResourceHandle, 14, "resource_handle_val", None),
    (ValueList::Variant, 15, "variant_val", None),
    (ValueList::Uint32, 16, "uint32_val", Some(DataType::UINT32)),
    (ValueList::Uint64, 17, "uint64_val", Some(DataType::UINT64)),
    (ValueList::Float8, 18, "float8_val", None),
];

impl ValueList {
    /// Every list, in the order of their field numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        LISTS.iter().map(|row| row.0)
    }

    /// The field's number in `TensorProto`.
    pub const fn field(self) -> u32 {
        // LISTS has the order of the variants, which a test checks.
        LISTS[self as usize].1
    }

    /// The list with this field number.
    pub fn from_field(field: u32) -> Option<Self> {
        LISTS.iter().find(|row| row.1 == field).map(|row| row.0)
    }

    /// The field's name in `TensorProto`.
    pub const fn name(self) -> &'static str {
        LISTS[self as usize].2
    }

    /// The dtype of the elements on the wire; `None` for bit patterns, strings and handles.
    pub const fn native(self) -> Option<DataType> {
        LISTS[self as usize].3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_matches_tensorflow() {
        let rows: Vec<String> = DTYPES
            .iter()
            .map(|i| {
                let size = i.size.map_or_else(|| "-".to_owned(), |size| size.to_string());
                format!("{} {} {} {size} {}", i.dtype.number(), i.name, i.enum_name, i.list.field())
            })
            .collect();
        let expected = [
            "1 float DT_FLOAT 4 5",
            "2 double DT_DOUBLE 8 6",
            "3 int32 DT_INT32 4 7",
            "4 uint8 DT_UINT8 1 7",
            "5 int16 DT_INT16 2 7",
            "6 int8 DT_INT8 1 7",
            "7 string DT_STRING - 8",
            "8 complex64 DT_COMPLEX64 8 9",
            "9 int64 DT_INT64 8 10",
            "10 bool DT_BOOL 1 11",
            "11 qint8 DT_QINT8 1 7",
            "12 quint8 DT_QUINT8 1 7",
            "13 qint32 DT_QINT32 4 7",
            "14 bfloat16 DT_BFLOAT16 2 13",
            "15 qint16 DT_QINT16 2 7",
            "16 quint16 DT_QUINT16 2 7",
            "17 uint16 DT_UINT16 2 7",
            "18 complex128 DT_COMPLEX128 16 12",
            "19 half DT_HALF 2 13",
            "20 resource DT_RESOURCE - 14",
            "21 variant DT_VARIANT - 15",
            "22 uint32 DT_UINT32 4 16",
            "23 uint64 DT_UINT64 8 17",
            "24 float8_e5m2 DT_FLOAT8_E5M2 1 18",
            "25 float8_e4m3fn DT_FLOAT8_E4M3FN 1 18",
            "26 float8_e4m3fnuz DT_FLOAT8_E4M3FNUZ 1 18",
            "27 float8_e4m3b11fnuz DT_FLOAT8_E4M3B11FNUZ 1 18",
            "28 float8_e5m2fnuz DT_FLOAT8_E5M2FNUZ 1 18",
            "29 int4 DT_INT4 1 7",
            "30 uint4 DT_UINT4 1 7",
            "31 int2 DT_INT2 1 7",
            "32 uint2 DT_UINT2 1 7",
            "33 float4_e2m1fn DT_FLOAT4_E2M1FN 1 18",
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn each_number_has_its_own_row() {
        for (row, info) in DTYPES.iter().enumerate() {
            assert_eq!(info.dtype.number(), row as i32 + 1);
            assert_eq!(info.dtype.info().map(|found| found.name), Some(info.name));
        }
        for number in [i32::MIN, -1, 0, 34, 77, 100, 101, 133, i32::MAX] {
            assert!(DataType::from_number(number).info().is_none(), "{number}");
            assert_eq!(DataType::from_number(number).size(), None);
        }
    }

    #[test]
    fn references_and_unknown_numbers_have_names() {
        for info in DTYPES {
            let reference = DataType::from_number(info.dtype.number() + 100);
            assert_eq!(reference.name(), format!("{}_ref", info.name));
            assert_eq!(reference.enum_name(), format!("{}_REF", info.enum_name));
        }
        assert_eq!(DataType::from_number(77).to_string(), "dtype 77");
        assert_eq!(DataType::from_number(134).to_string(), "dtype 134");
        assert_eq!(DataType::from_number(100).to_string(), "dtype 100");
        assert_eq!(DataType::from_number(i32::MIN).to_string(), "dtype -2147483648");
        assert_eq!(DataType::INVALID.to_string(), "INVALID");
        assert_eq!(format!("{:?}", DataType::INVALID), "DT_INVALID");
    }

    #[test]
    fn every_spelling_is_parsed_and_unambiguous() {
        let mut seen = std::collections::HashMap::new();
        for info in DTYPES {
            for spelling in [info.name, info.enum_name].iter().chain(info.aliases) {
                assert_eq!(DataType::parse(spelling), Some(info.dtype));
                assert_eq!(DataType::parse(&spelling.to_uppercase()), Some(info.dtype));
                assert_eq!(seen.insert(spelling.to_lowercase(), info.dtype), None, "{spelling} twice");
            }
        }
        for (text, dtype) in
            [("float16", DataType::HALF), (" Float64 ", DataType::DOUBLE), ("dt_int64", DataType::INT64)]
        {
            assert_eq!(DataType::parse(text), Some(dtype));
        }
        for text in ["", "DT_", "float128", "invalid", "float_ref", "1"] {
            assert_eq!(DataType::parse(text), None, "{text}");
        }
    }

    #[test]
    fn lists_are_in_the_order_of_their_variants() {
        for (row, &(list, field, name, native)) in LISTS.iter().enumerate() {
            assert_eq!(list as usize, row);
            assert_eq!(ValueList::from_field(field), Some(list));
            assert_eq!((list.field(), list.name(), list.native()), (field, name, native));
            if let Some(info) = native.and_then(DataType::info) {
                assert_eq!(info.list, list);
            }
        }
        assert_eq!(ValueList::from_field(4), None);
        assert_eq!(ValueList::from_field(19), None);
    }
}
