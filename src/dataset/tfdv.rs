//! Reads the statistics that TensorFlow Data Validation has computed
//! (`tensorflow_metadata/proto/v0/statistics.proto`), as a message or a TFRecord file of them.
use super::Fault;
use super::example::wire;
use super::given::{Column, Given};
use crate::profile::describe::Numbers;
use crate::profile::{FeatureProfile, MAX_TEXT_BYTES, MAX_VALUES, QUANTILES, TextProfile};
use crate::sorting;
use crate::tensor::DataType;
use crate::wire::Rope;
use crate::wire::scan::{Field, Reader, Wire};

/// Numbers of fields; a test compares them with the `.proto` file.
pub(super) mod field {
    pub(in crate::dataset) const LIST_DATASETS: u32 = 1;
    pub(in crate::dataset) const DATASET_NAME: u32 = 1;
    pub(in crate::dataset) const DATASET_NUM_EXAMPLES: u32 = 2;
    pub(in crate::dataset) const DATASET_FEATURES: u32 = 3;
    pub(in crate::dataset) const FEATURE_NAME: u32 = 1;
    pub(in crate::dataset) const FEATURE_TYPE: u32 = 2;
    pub(in crate::dataset) const FEATURE_NUM_STATS: u32 = 3;
    pub(in crate::dataset) const FEATURE_STRING_STATS: u32 = 4;
    pub(in crate::dataset) const FEATURE_PATH: u32 = 8;
    pub(in crate::dataset) const PATH_STEP: u32 = 1;
    pub(in crate::dataset) const COMMON_NUM_NON_MISSING: u32 = 1;
    pub(in crate::dataset) const COMMON_NUM_MISSING: u32 = 2;
    pub(in crate::dataset) const COMMON_TOT_NUM_VALUES: u32 = 8;
    pub(in crate::dataset) const NUM_COMMON_STATS: u32 = 1;
    pub(in crate::dataset) const NUM_MEAN: u32 = 2;
    pub(in crate::dataset) const NUM_STD_DEV: u32 = 3;
    pub(in crate::dataset) const NUM_NUM_ZEROS: u32 = 4;
    pub(in crate::dataset) const NUM_MIN: u32 = 5;
    pub(in crate::dataset) const NUM_MEDIAN: u32 = 6;
    pub(in crate::dataset) const NUM_MAX: u32 = 7;
    pub(in crate::dataset) const NUM_HISTOGRAMS: u32 = 8;
    pub(in crate::dataset) const HISTOGRAM_NUM_NAN: u32 = 1;
    pub(in crate::dataset) const HISTOGRAM_BUCKETS: u32 = 3;
    pub(in crate::dataset) const HISTOGRAM_TYPE: u32 = 4;
    pub(in crate::dataset) const BUCKET_LOW_VALUE: u32 = 1;
    pub(in crate::dataset) const BUCKET_HIGH_VALUE: u32 = 2;
    pub(in crate::dataset) const BUCKET_SAMPLE_COUNT: u32 = 4;
    pub(in crate::dataset) const STRING_COMMON_STATS: u32 = 1;
    pub(in crate::dataset) const STRING_UNIQUE: u32 = 2;
    pub(in crate::dataset) const STRING_TOP_VALUES: u32 = 3;
    pub(in crate::dataset) const STRING_RANK_HISTOGRAM: u32 = 5;
    pub(in crate::dataset) const RANK_BUCKETS: u32 = 1;
    pub(in crate::dataset) const RANK_LOW: u32 = 1;
    pub(in crate::dataset) const RANK_HIGH: u32 = 2;
    pub(in crate::dataset) const RANK_LABEL: u32 = 4;
    pub(in crate::dataset) const RANK_SAMPLE_COUNT: u32 = 5;
    pub(in crate::dataset) const TOP_VALUE: u32 = 2;
    pub(in crate::dataset) const TOP_FREQUENCY: u32 = 3;
}

/// `FeatureNameStatistics.Type`, and `Histogram.HistogramType.QUANTILES`.
const INT: u64 = 0;
const QUANTILES_TYPE: u64 = 1;
/// The slice of all examples among others, as TFDV names it (`DEFAULT_SLICE_KEY`).
const ALL_EXAMPLES: &[u8] = b"All Examples";

/// Reads a `DatasetFeatureStatisticsList`: the statistics of all examples, or of the first slice.
pub(super) fn read(message: &Rope, given: &mut Given) -> Result<(), Fault> {
    let mut chosen: Option<Rope> = None;
    each(message, &mut |number, field, _| {
        if number == field::LIST_DATASETS && field.wire == Wire::Bytes {
            let dataset = message.slice(field.payload.clone());
            let mut is_all = false;
            each(&dataset, &mut |number, field, _| {
                is_all |= number == field::DATASET_NAME
                    && *dataset.slice(field.payload.clone()).to_bytes() == *ALL_EXAMPLES;
                Ok(())
            })?;
            if chosen.is_none() || is_all {
                chosen = Some(dataset);
            }
        }
        Ok(())
    })?;
    let dataset =
        chosen.ok_or_else(|| Fault::new("these are no statistics: there is no data set in them"))?;
    let mut rows = 0;
    let mut features = Vec::new();
    each(&dataset, &mut |number, field, _| {
        match (number, field.wire) {
            (field::DATASET_NUM_EXAMPLES, Wire::Varint) => rows = field.varint,
            (field::DATASET_FEATURES, Wire::Bytes) => features.push(dataset.slice(field.payload.clone())),
            _ => {}
        }
        Ok(())
    })?;
    for feature in &features {
        if let Some((name, column)) = self::feature(feature)? {
            given.add(name, column)?;
        }
    }
    given.rows = given.rows.saturating_add(rows);
    Ok(())
}

type Each<'a> = &'a mut dyn FnMut(u32, &Field, f64) -> Result<(), Fault>;

/// Passes the fields of a message with their numbers, and their values as doubles if they are
/// numbers.
fn each(message: &Rope, to: Each<'_>) -> Result<(), Fault> {
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field().map_err(wire)? {
        let bytes =
            |length: usize| message.slice(field.payload.start..field.payload.start + length).to_bytes();
        let value = match field.wire {
            Wire::Varint => field.varint as f64,
            Wire::Fixed64 => bytes(8).as_ref().try_into().map_or(0.0, f64::from_le_bytes),
            Wire::Fixed32 => {
                bytes(4).as_ref().try_into().map_or(0.0, |bytes| f64::from(f32::from_le_bytes(bytes)))
            }
            Wire::Bytes | Wire::Group => f64::NAN,
        };
        to(field.number, &field, value)?;
    }
    Ok(())
}

fn text(message: &Rope, field: &Field) -> String {
    let end = field.payload.end.min(field.payload.start + MAX_TEXT_BYTES + 1);
    String::from_utf8_lossy(&message.slice(field.payload.start..end).to_bytes()).into_owned()
}

fn feature(message: &Rope) -> Result<Option<(String, Column)>, Fault> {
    let (mut name, mut kind, mut numbers, mut strings) = (String::new(), INT, None, None);
    each(message, &mut |number, field, _| {
        let inside = || message.slice(field.payload.clone());
        match (number, field.wire) {
            (field::FEATURE_NAME, Wire::Bytes) => name = text(message, field),
            (field::FEATURE_TYPE, Wire::Varint) => kind = field.varint,
            (field::FEATURE_NUM_STATS, Wire::Bytes) => numbers = Some(inside()),
            (field::FEATURE_STRING_STATS, Wire::Bytes) => strings = Some(inside()),
            (field::FEATURE_PATH, Wire::Bytes) => {
                let path = inside();
                let mut steps = Vec::new();
                each(&path, &mut |number, field, _| {
                    if number == field::PATH_STEP && field.wire == Wire::Bytes {
                        steps.push(text(&path, field));
                    }
                    Ok(())
                })?;
                name = steps.join(".");
            }
            _ => {}
        }
        Ok(())
    })?;
    let column = match (numbers, strings) {
        (Some(numbers), _) => {
            let dtype = if kind == INT { DataType::INT64 } else { DataType::FLOAT };
            Column::Numbers(dtype, self::numbers(&numbers, kind == INT)?)
        }
        (None, Some(strings)) => Column::Texts(self::strings(&strings)?),
        // Structures, and bytes without statistics of their values.
        (None, None) => return Ok(None),
    };
    Ok(Some((name, column)))
}

/// Values that are there, and examples without any.
fn common(message: &Rope) -> Result<(f64, f64), Fault> {
    let (mut present, mut missing, mut values) = (0.0, 0.0, 0.0);
    each(message, &mut |number, _, value| {
        match number {
            field::COMMON_NUM_NON_MISSING => present = value,
            field::COMMON_NUM_MISSING => missing = value,
            field::COMMON_TOT_NUM_VALUES => values = value,
            _ => {}
        }
        Ok(())
    })?;
    Ok((if values > 0.0 { values } else { present }, missing))
}

fn numbers(message: &Rope, is_int: bool) -> Result<FeatureProfile, Fault> {
    let mut profile = FeatureProfile::empty();
    let ((mut values, mut missing), mut nan, mut zeros, mut median) = ((0.0, 0.0), 0.0_f64, 0.0, f64::NAN);
    let mut points: Vec<(f64, f64)> = Vec::new();
    let mut has_quantiles = false;
    each(message, &mut |number, field, value| {
        let inside = || message.slice(field.payload.clone());
        match (number, field.wire) {
            (field::NUM_COMMON_STATS, Wire::Bytes) => (values, missing) = common(&inside())?,
            (field::NUM_MEAN, _) => profile.mean = value,
            (field::NUM_STD_DEV, _) => profile.std = value,
            (field::NUM_NUM_ZEROS, _) => zeros = value,
            (field::NUM_MIN, _) => profile.min = value,
            (field::NUM_MEDIAN, _) => median = value,
            (field::NUM_MAX, _) => profile.max = value,
            (field::NUM_HISTOGRAMS, Wire::Bytes) => {
                let histogram = histogram(&inside())?;
                nan = nan.max(histogram.nan);
                if histogram.points.len() > 1 && (histogram.is_quantiles || !has_quantiles) {
                    has_quantiles |= histogram.is_quantiles;
                    points = histogram.points;
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    let count = values + missing;
    let finite = (values - nan).max(0.0);
    profile.count = count as u64;
    if count > 0.0 {
        profile.missing = ((missing + nan) / count).min(1.0);
    }
    // proto3 does not write zeros.
    for field in [&mut profile.min, &mut profile.max, &mut profile.mean, &mut profile.std] {
        *field = if field.is_nan() { 0.0 } else { *field };
    }
    if finite == 0.0 || ![profile.min, profile.max, profile.mean, profile.std].iter().all(|v| v.is_finite()) {
        return Ok(FeatureProfile {
            count: profile.count,
            missing: profile.missing,
            ..FeatureProfile::empty()
        });
    }
    if profile.min > profile.max {
        return Err(Fault::new("a minimum is above its maximum"));
    }
    profile.zero = (zeros / finite).clamp(0.0, 1.0);
    profile.integral = if is_int { 1.0 } else { profile.zero };
    profile.mean = profile.mean.clamp(profile.min, profile.max);
    profile.std = profile.std.clamp(0.0, profile.max / 2.0 - profile.min / 2.0);
    let median = if median.is_nan() { 0.0 } else { median };
    if points.is_empty() {
        points = vec![(0.0, profile.min), (0.5, median), (1.0, profile.max)];
    }
    let mut last = profile.min;
    profile.quantiles = QUANTILES.map(|share| {
        let value = if share == 0.5 { median } else { between(&points, share) };
        last = value.clamp(profile.min, profile.max).max(last);
        last
    });
    Ok(profile)
}

struct Histogram {
    nan: f64,
    is_quantiles: bool,
    /// Shares, and the values that these shares of the values are below. Both ascend.
    points: Vec<(f64, f64)>,
}

fn histogram(message: &Rope) -> Result<Histogram, Fault> {
    let (mut nan, mut kind, mut buckets) = (0.0, 0, Vec::new());
    each(message, &mut |number, field, value| {
        match (number, field.wire) {
            (field::HISTOGRAM_NUM_NAN, Wire::Varint) => nan = value,
            (field::HISTOGRAM_TYPE, Wire::Varint) => kind = field.varint,
            (field::HISTOGRAM_BUCKETS, Wire::Bytes) => {
                let (mut low, mut high, mut count) = (0.0, 0.0, 0.0);
                each(&message.slice(field.payload.clone()), &mut |number, _, value| {
                    match number {
                        field::BUCKET_LOW_VALUE => low = value,
                        field::BUCKET_HIGH_VALUE => high = value,
                        field::BUCKET_SAMPLE_COUNT => count = value,
                        _ => {}
                    }
                    Ok(())
                })?;
                buckets.push((low, high, count));
            }
            _ => {}
        }
        Ok(())
    })?;
    let all: f64 = buckets.iter().map(|(_, _, count)| count).sum();
    let mut points = Vec::new();
    if all > 0.0 && all.is_finite() && buckets.iter().all(|(low, high, count)| low <= high && *count >= 0.0) {
        let mut below = 0.0;
        points.extend(buckets.first().map(|(low, _, _)| (0.0, *low)));
        for (_, high, count) in &buckets {
            below += count;
            points.push((below / all, *high));
        }
    }
    let ascend = points.is_sorted_by(|one, other| one.0 <= other.0 && one.1 <= other.1);
    Ok(Histogram {
        nan,
        is_quantiles: kind == QUANTILES_TYPE,
        points: if ascend { points } else { Vec::new() },
    })
}

/// The value below which a share lies, straight between the points.
fn between(points: &[(f64, f64)], share: f64) -> f64 {
    let at = points.partition_point(|(below, _)| *below < share);
    match (points.get(at.saturating_sub(1)), points.get(at)) {
        (Some(low), Some(high)) if high.0 > low.0 => {
            low.1 + (high.1 - low.1) * (share - low.0) / (high.0 - low.0)
        }
        (_, Some(found)) | (Some(found), None) => found.1,
        (None, None) => f64::NAN,
    }
}

fn strings(message: &Rope) -> Result<TextProfile, Fault> {
    let ((mut count, mut missing), mut unique) = ((0.0, 0.0), 0);
    let (mut ranked, mut top) = (Vec::new(), Vec::new());
    each(message, &mut |number, field, value| {
        let inside = || message.slice(field.payload.clone());
        match (number, field.wire) {
            (field::STRING_COMMON_STATS, Wire::Bytes) => (count, missing) = common(&inside())?,
            (field::STRING_UNIQUE, Wire::Varint) => unique = value as u64,
            (field::STRING_TOP_VALUES, Wire::Bytes) => {
                let inside = inside();
                let (mut value_of, mut times) = (String::new(), 0.0);
                each(&inside, &mut |number, field, value| {
                    match (number, field.wire) {
                        (field::TOP_VALUE, Wire::Bytes) => value_of = text(&inside, field),
                        (field::TOP_FREQUENCY, _) => times = value,
                        _ => {}
                    }
                    Ok(())
                })?;
                top.push((value_of, times));
            }
            (field::STRING_RANK_HISTOGRAM, Wire::Bytes) => {
                let histogram = inside();
                each(&histogram, &mut |number, field, _| {
                    if number == field::RANK_BUCKETS && field.wire == Wire::Bytes {
                        ranked.extend(rank(&histogram.slice(field.payload.clone()))?);
                    }
                    Ok(())
                })?;
            }
            _ => {}
        }
        Ok(())
    })?;
    let mut values = if ranked.len() >= top.len() { ranked } else { top };
    // A longer string was cut, and is not what occurred.
    values.retain(|(text, times)| text.len() <= MAX_TEXT_BYTES && *times > 0.0);
    sorting::by(&mut values, |one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
    values.truncate(MAX_VALUES);
    let complete = values.len() as u64 == unique && unique > 0;
    let all = count + missing;
    let shares: Vec<(String, f64)> =
        values.into_iter().map(|(text, times)| (text, (times / all.max(1.0)).min(1.0))).collect();
    let mut length = Numbers::default();
    if complete {
        // The lengths themselves are not in the statistics; each string counts by its share.
        for (text, share) in &shares {
            for _ in 0..(share * 1000.0).ceil() as u64 {
                length.add(text.len() as f64);
            }
        }
    }
    let length = FeatureProfile { count: all as u64, ..length.profile() };
    let empty = shares.iter().find(|(text, _)| text.is_empty()).map_or(0.0, |(_, share)| *share);
    let missing = if all > 0.0 { missing / all } else { 0.0 };
    Ok(TextProfile { count: all as u64, empty: (empty + missing).min(1.0), length, values: shares, complete })
}

/// The string of a bucket of a single rank.
fn rank(message: &Rope) -> Result<Option<(String, f64)>, Fault> {
    let (mut low, mut high, mut label, mut count) = (0, 0, String::new(), 0.0);
    each(message, &mut |number, field, value| {
        match (number, field.wire) {
            (field::RANK_LOW, Wire::Varint) => low = field.varint,
            (field::RANK_HIGH, Wire::Varint) => high = field.varint,
            (field::RANK_LABEL, Wire::Bytes) => label = text(message, field),
            (field::RANK_SAMPLE_COUNT, _) => count = value,
            _ => {}
        }
        Ok(())
    })?;
    Ok((low == high).then_some((label, count)))
}
