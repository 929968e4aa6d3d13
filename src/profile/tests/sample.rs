//! Reading a sample from every dtype, both carriers and any chunks.
use super::data::Random;
use crate::profile::{Budget, By, Sample};
use crate::tensor::{Cast, Class, DataType, Exactness, Shape};
use crate::wire::{Rope, TensorView, emit};

/// An encoded tensor in chunks of this size.
fn encoded(dtype: DataType, dims: &[i64], values: &[f64], list: bool, chunk: usize) -> Rope {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut bytes = Vec::new();
    Cast::new(DataType::DOUBLE, dtype, Exactness::Round).unwrap().convert(&raw, &mut bytes);
    let field = if list {
        emit::packed(dtype.info().unwrap().list, dtype, &bytes)
    } else {
        emit::content(Rope::from(bytes))
    };
    let tensor = emit::new_tensor(dtype, &Shape::from(dims), &field);
    (0..tensor.len()).step_by(chunk).map(|at| tensor.slice(at..tensor.len().min(at + chunk))).collect()
}

fn read(sample: &mut Sample, message: &Rope, by: By, features: usize, budget: Budget) -> bool {
    sample.read(message, &TensorView::of(message).unwrap(), by, features, budget)
}

#[test]
fn every_real_dtype_is_read_from_both_carriers_in_any_chunks() {
    let mut sample = Sample::default();
    let mut seen = 0;
    for dtype in DataType::all() {
        let info = dtype.info().unwrap();
        if Cast::new(DataType::DOUBLE, dtype, Exactness::Round).is_none() || info.class == Class::Complex {
            continue;
        }
        seen += 1;
        // Every format has these.
        let values: Vec<f64> = (0..24).map(|at| f64::from(u8::from(at % 5 < 2))).collect();
        for list in [false, true] {
            for chunk in [1, 3, 1000] {
                let message = encoded(dtype, &[6, 4], &values, list, chunk);
                assert!(read(&mut sample, &message, By::Feature, 4, Budget::default()), "{dtype} {list}");
                assert_eq!(sample.values, values, "{dtype} {list} {chunk}");
                let of = (sample.features, sample.groups, sample.rows, sample.total_rows, sample.whole_rows);
                assert_eq!(of, (4, 1, 6, 6, true));
            }
        }
    }
    assert_eq!(seen, 23, "dtypes with real numbers");
}

#[test]
fn a_large_tensor_is_read_at_equal_distances() {
    let mut random = Random::new(3);
    let values: Vec<f64> = (0..2 * 40 * 50 * 3).map(|_| f64::from(random.below(1000) as u32)).collect();
    let mut sample = Sample::default();
    let budget = Budget { values: 300, rows: 64 };
    for (dtype, list) in [(DataType::FLOAT, false), (DataType::FLOAT, true), (DataType::INT32, false)] {
        for chunk in [100, 100_000] {
            let message = encoded(dtype, &[2, 40, 50, 3], &values, list, chunk);
            assert!(read(&mut sample, &message, By::Channel, 3, budget));
            assert_eq!((sample.rows, sample.groups, sample.whole_rows), (2, 50, false));
            let expected: Vec<f64> = (0..2)
                .flat_map(|row| (0..50).map(move |group| (row * 2000 + group * 40) * 3))
                .flat_map(|at| values[at..at + 3].to_vec())
                .collect();
            assert_eq!(sample.values, expected);
        }
    }
    // Varints must be counted, so they are read from the beginning, up to a bound.
    let message = encoded(DataType::INT32, &[2, 40, 50, 3], &values, true, 100_000);
    assert!(read(&mut sample, &message, By::Channel, 3, budget));
    assert_eq!((sample.rows, sample.values.len()), (1, 300));
    assert!(sample.values.iter().all(|value| values.contains(value)));
    let capacity = sample.values.capacity();
    for _ in 0..10 {
        assert!(read(&mut sample, &message, By::Channel, 3, budget));
    }
    assert_eq!(sample.values.capacity(), capacity, "it allocates nothing in the steady state");
}

#[test]
fn rows_are_spread_over_the_batch() {
    let values: Vec<f64> = (0..1000 * 4).map(f64::from).collect();
    let message = encoded(DataType::DOUBLE, &[1000, 4], &values, false, 777);
    let mut sample = Sample::default();
    assert!(read(&mut sample, &message, By::Feature, 4, Budget { values: 4096, rows: 10 }));
    assert_eq!((sample.rows, sample.groups, sample.total_rows), (10, 1, 1000));
    assert_eq!(sample.row(3), [1200.0, 1201.0, 1202.0, 1203.0]);
    // Values that share their statistics, and a vector of one value each.
    assert!(read(&mut sample, &message, By::Whole, 1, Budget::default()));
    assert_eq!((sample.features, sample.groups, sample.rows), (1, 4, 64));
    let vector = encoded(DataType::DOUBLE, &[1000], &values[..1000], false, 777);
    assert!(read(&mut sample, &vector, By::Whole, 1, Budget::default()));
    assert_eq!((sample.rows, sample.row(1)), (64, [15.0].as_slice()));
    let scalar = encoded(DataType::DOUBLE, &[], &values[..1], false, 777);
    assert!(read(&mut sample, &scalar, By::Whole, 1, Budget::default()));
    assert_eq!((sample.rows, sample.total_rows), (1, 1));
}

#[test]
fn a_tensor_that_does_not_fit_is_not_read() {
    let mut sample = Sample::default();
    let mut refuses = |dtype, dims: &[i64], count: usize, features| {
        let values: Vec<f64> = vec![1.0; count];
        for list in [false, true] {
            let message = encoded(dtype, dims, &values, list, 10);
            assert!(!read(&mut sample, &message, By::Feature, features, Budget::default()), "{dims:?}");
            assert!(sample.values.is_empty() && sample.rows == 0);
        }
    };
    // Another number of features, no values, too few, too many, negative and immense dims.
    refuses(DataType::FLOAT, &[2, 3], 6, 4);
    refuses(DataType::FLOAT, &[0, 4], 0, 4);
    refuses(DataType::INT64, &[2, 4], 7, 4);
    refuses(DataType::INT64, &[2, 4], 9, 4);
    refuses(DataType::FLOAT, &[-1, 4], 4, 4);
    refuses(DataType::FLOAT, &[i64::MAX, 4], 4, 4);
    refuses(DataType::COMPLEX64, &[1, 2], 2, 2);
    let text = emit::new_tensor(DataType::STRING, &Shape::from([1].as_slice()), &Rope::new());
    let message = Rope::from(text.to_vec());
    assert!(!read(&mut sample, &message, By::Whole, 1, Budget::default()));
}
