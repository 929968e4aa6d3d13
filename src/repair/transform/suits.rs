//! Whether transforms suit the declaration of their input.
use super::images::depth;
use super::{Phase, Transform, Transforms, before_transpose};
use crate::signature::TensorInfo;
use crate::tensor::{Class, DataType, PartialShape, relation};

/// Why the transforms cannot be made for this input; none of them is then. `None` if they can.
pub fn unsuited(transforms: &Transforms, info: &TensorInfo) -> Option<String> {
    let one = transforms.list.iter().find_map(|transform| {
        one(transforms, transform, info).map(|why| format!("`{}` {why}", transform.name()))
    });
    // The declared axes are those after `transpose`.
    let last = info.shape.dims().map(|dims| dims.last().copied());
    one.or_else(|| match last {
        Some(Some(size)) if size < 0 => None,
        Some(last) => unsuited_features(transforms, last),
        None => None,
    })
}

fn one(transforms: &Transforms, transform: &Transform, info: &TensorInfo) -> Option<String> {
    let dtype = info.dtype;
    match transform {
        Transform::Standardize(_) | Transform::Scale { .. } | Transform::Clip { .. } => {
            let is_float = dtype.info().is_some_and(|dtype| dtype.class == Class::Float);
            (!is_float || dtype.size() == Some(1))
                .then(|| format!("is for floats, and this input is {dtype}"))
        }
        Transform::Transpose(axes) => match info.shape.dims() {
            _ if dtype.size().is_none() => Some(format!("is for numbers, and this input is {dtype}")),
            Some(dims) if before_transpose(dims, axes).is_some() => None,
            _ => Some(format!("has {} axes, and this input is {}", axes.len(), info.shape)),
        },
        Transform::DecodeBase64 | Transform::Lowercase => {
            let is_image = transforms.list.iter().any(|other| matches!(other, Transform::DecodeImage(_)));
            let text = dtype == DataType::STRING || (is_image && *transform == Transform::DecodeBase64);
            (!text).then(|| format!("is for strings, and this input is {dtype}"))
        }
        Transform::DecodeImage(image) => {
            let pixels = pixels(transforms, info);
            let channels = depth(image.channels);
            let is_number =
                matches!(dtype, DataType::UINT8 | DataType::FLOAT | DataType::HALF | DataType::DOUBLE);
            if !is_number {
                return Some(format!("makes uint8 or floats, and this input is {dtype}"));
            }
            match pixels {
                Some([_, _, depth]) if depth == channels => None,
                _ => Some(format!("makes [N,height,width,{channels}], and this input is {}", info.shape)),
            }
        }
        Transform::RelabelDtype { to, .. } => relation(*to, dtype)
            .is_none()
            .then(|| format!("makes {to}, which is never cast to {dtype}, the dtype of this input")),
    }
}

/// Height, width and channels of the declared image, before its axes are moved. Height and width
/// may be -1.
pub(super) fn pixels(transforms: &Transforms, info: &TensorInfo) -> Option<[i64; 3]> {
    let PartialShape::Known(declared) = &info.shape else { return None };
    let shape = match transforms.axes() {
        Some(axes) => before_transpose(declared, axes)?,
        None => declared.clone(),
    };
    match shape[..] {
        [_, height, width, depth] => Some([height, width, depth]),
        _ => None,
    }
}

/// Why the numbers are not for a tensor whose last axis, after its axes were moved, has this size.
pub(super) fn unsuited_features(transforms: &Transforms, features: Option<i64>) -> Option<String> {
    let numbers = transforms.numbers()?;
    let other = |(at, one): (usize, &super::Numbers)| {
        let has = one.features().filter(|has| features != i64::try_from(*has).ok())?;
        Some((at, has))
    };
    let (at, has) = numbers.iter().enumerate().find_map(other)?;
    let name = transforms.of(Phase::Numbers).nth(at).map_or("", Transform::name);
    let features = features.map_or("none".to_owned(), |features| features.to_string());
    Some(format!("`{name}` has numbers for {has} features, and this input has {features}"))
}
