//! Joining requests and slicing the answer gives every member its own rows, whatever their dtypes,
//! encodings and chunks are.
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit.max(1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize % from.len()]
    }

    fn element(&mut self, dtype: DataType) -> Vec<u8> {
        match dtype.size() {
            None => (0..self.below(7)).map(|_| self.below(256) as u8).collect(),
            Some(_) if dtype == DataType::BOOL => vec![self.below(2) as u8],
            Some(size) => (0..size).map(|_| self.below(256) as u8).collect(),
        }
    }
}

#[derive(Debug, Clone)]
struct Input {
    name: String,
    dtype: DataType,
    is_scalar: bool,
    inner: Vec<i64>,
}

fn dtypes() -> Vec<DataType> {
    DataType::all()
        .filter(|dtype| {
            let wanted = format!("x:{dtype}[-1] -> y:float[-1]");
            sharable(&signature(&wanted), false).is_ok()
        })
        .collect()
}

fn inputs(random: &mut Random, dtypes: &[DataType]) -> Vec<Input> {
    let count = 1 + random.below(3);
    let mut all: Vec<Input> = (0..count)
        .map(|at| Input {
            name: format!("in{at}"),
            dtype: random.pick(dtypes),
            is_scalar: at > 0 && random.below(4) == 0,
            inner: (0..random.below(3)).map(|_| random.below(4) as i64).collect(),
        })
        .collect();
    all.iter_mut().filter(|input| input.is_scalar).for_each(|input| input.inner.clear());
    all
}

/// The elements of one member's input, some of them alike.
fn values(random: &mut Random, input: &Input, rows: u64) -> Vec<Vec<u8>> {
    let count = rows as i64 * input.inner.iter().product::<i64>();
    let alike = random.below(3) == 0;
    let one = random.element(input.dtype);
    (0..count).map(|_| if alike { one.clone() } else { random.element(input.dtype) }).collect()
}

fn shape(input: &Input, rows: u64) -> Shape {
    let rows = (!input.is_scalar).then_some(rows as i64);
    rows.into_iter().chain(input.inner.iter().copied()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn every_member_gets_the_answer_to_its_own_rows(seed in 1_u64.., cut in 1_usize..300) {
        let mut random = Random(seed);
        let inputs = inputs(&mut random, &dtypes());
        let declared = |input: &Input| {
            let dims = shape(input, 1);
            let dims: Vec<i64> = dims.iter().enumerate()
                .map(|(at, size)| if at == 0 && !input.is_scalar { -1 } else { *size }).collect();
            format!("{}:{}{}", input.name, input.dtype, Shape::from(dims.as_slice()))
        };
        let text: Vec<String> = inputs.iter().map(declared).collect();
        let signature = signature(&format!("{} -> y:float[-1]", text.join(" ")));
        prop_assert_eq!(sharable(&signature, false), Ok(Fixed::Any));

        // The requests, each with values and encodings of its own; the scalars are the same.
        let scalars: BTreeMap<String, Vec<Vec<u8>>> =
            inputs.iter().map(|input| (input.name.clone(), values(&mut random, input, 1))).collect();
        let (mut parts, mut sent, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..=random.below(5) {
            let rows = 1 + random.below(4);
            let mut message = emit::field(1, emit::field(1, Rope::from(b"m".to_vec())));
            let mut own = BTreeMap::new();
            let mut order: Vec<&Input> = inputs.iter().collect();
            let turn = random.below(order.len() as u64) as usize % order.len();
            order.rotate_left(turn);
            for input in order {
                let elements = if input.is_scalar { scalars[&input.name].clone() } else { values(&mut random, input, rows) };
                let fields = encoded(input.dtype, &elements, random.pick(&CARRIERS));
                message.append(entry(2, &input.name, input.dtype, &shape(input, rows), &fields));
                own.insert(input.name.clone(), elements);
            }
            let message = chunked(&message, cut);
            let view = PredictView::scan(&message).unwrap();
            let part = Part::of(&signature, &message, &view);
            prop_assert!(part.is_ok(), "{:?}: {part:?}", request(&message));
            parts.push((view, part.unwrap()));
            sent.push(own);
            sizes.push(rows);
        }

        // All have the same key, and the joined request has the rows of all.
        let state = std::hash::RandomState::new();
        let keys: Vec<u128> = parts.iter().map(|(view, part)| key(&state, view, part, &[])).collect();
        prop_assert!(keys.iter().all(|key| *key == keys[0]));
        let total: u64 = sizes.iter().sum();
        let filled = total + random.below(4);
        let all: Vec<&Part> = parts.iter().map(|(_, part)| part).collect();
        let joined = join(&signature, &all, filled);
        let decoded = request(&joined);
        prop_assert_eq!(decoded.inputs.len(), inputs.len());
        for input in &inputs {
            let tensor = &decoded.inputs[&input.name];
            prop_assert_eq!(tensor.dtype, input.dtype.number());
            let expected = shape(input, filled).to_vec();
            prop_assert_eq!(dims(tensor), expected);
            let mut expected: Vec<Vec<u8>> = if input.is_scalar {
                scalars[&input.name].clone()
            } else {
                sent.iter().flat_map(|own| own[&input.name].clone()).collect()
            };
            let row = input.inner.iter().product::<i64>() as usize;
            for _ in total..if input.is_scalar { total } else { filled } {
                expected.extend_from_within(expected.len() - row..);
            }
            prop_assert_eq!(elements(tensor), expected, "{:?}", input);
        }

        // A server that returns what it got, in an encoding of its choice.
        let mut answer = Rope::new();
        for input in inputs.iter().filter(|input| !input.is_scalar) {
            let tensor = &decoded.inputs[&input.name];
            let mut carrier = random.pick(&CARRIERS);
            let values = elements(tensor);
            if carrier == Carrier::Short && values.iter().any(|value| *value != values[0]) {
                carrier = Carrier::Packed;
            }
            let fields = encoded(input.dtype, &values, carrier);
            answer.append(entry(1, &input.name, input.dtype, &shape(input, filled), &fields));
        }
        answer.append(emit::field(2, emit::field(1, Rope::from(b"m".to_vec()))));
        let answer = chunked(&answer, cut);
        let mut slicer = Slicer::new(&answer, filled).unwrap();
        for (own, rows) in sent.iter().zip(&sizes) {
            let slice = response(&slicer.next(*rows).unwrap());
            prop_assert_eq!(&slice.model_spec.as_ref().unwrap().name, "m");
            for input in inputs.iter().filter(|input| !input.is_scalar) {
                let tensor = &slice.outputs[&input.name];
                let expected = shape(input, *rows).to_vec();
                prop_assert_eq!((dims(tensor), tensor.dtype), (expected, input.dtype.number()));
                prop_assert_eq!(&elements(tensor), &own[&input.name], "{:?}", input);
            }
        }
        prop_assert!(slicer.next(filled - total + 1).is_err());
    }

    #[test]
    fn arbitrary_bytes_do_not_make_slicing_or_comparing_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        rows in 0_u64..5,
    ) {
        let answer = Rope::from(bytes);
        if let Ok(mut slicer) = Slicer::new(&answer, rows) {
            let _ = slicer.next(rows);
        }
        let _ = compare(&answer, &answer);
    }

    #[test]
    fn a_changed_byte_does_not_make_anything_panic(seed in 1_u64.., at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut random = Random(seed);
        let dtype = random.pick(&dtypes());
        let input = Input { name: "x".into(), dtype, is_scalar: false, inner: vec![2] };
        let elements = values(&mut random, &input, 3);
        let fields = encoded(dtype, &elements, random.pick(&CARRIERS));
        let change = |message: Rope| {
            let mut bytes = message.to_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            Rope::from(bytes)
        };
        let signature = signature(&format!("x:{dtype}[-1,2] -> y:float[-1]"));
        let message = change(entry(2, "x", dtype, &shape(&input, 3), &fields));
        if let Ok(view) = PredictView::scan(&message)
            && let Ok(part) = Part::of(&signature, &message, &view)
        {
            prop_assert!(PredictRequest::decode(join(&signature, &[&part], 4).to_bytes()).is_ok());
        }
        let whole = entry(1, "x", dtype, &shape(&input, 3), &fields);
        let answer = change(whole.clone());
        if let Ok(mut slicer) = Slicer::new(&answer, 3) {
            let _ = (slicer.next(1), slicer.next(2));
        }
        let _ = compare(&answer, &whole);
    }
}
