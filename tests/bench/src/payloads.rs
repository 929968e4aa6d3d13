//! The request bodies: conforming ones of four sizes, and wrong ones with one correct reading or
//! none.
use crate::Outcome;
use crate::proto::{DOUBLE, FLOAT, Message, model_spec, shape};

pub const INPUT: &str = "input_tensor";
pub const OUTPUT: &str = "output_0";

/// How the values of a tensor are encoded.
pub enum Values {
    Content(Vec<u8>),
    FloatVal(Vec<u8>),
}

/// `payloads DIR`
pub fn run(words: &[String]) -> Outcome<i32> {
    let [dir] = words else {
        return Err("expected one folder".into());
    };
    std::fs::create_dir_all(dir)?;
    for (name, body) in all() {
        println!("{name} {}", body.len());
        std::fs::write(format!("{dir}/{name}.grpc"), body)?;
    }
    std::fs::write(format!("{dir}/answer.grpc"), answer())?;
    Ok(0)
}

/// Name and gRPC-framed PredictRequest.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let image = 224 * 224 * 3;
    let floats = |n| Values::Content(float_bytes(n));
    let doubles = numbers(128).flat_map(|x| f64::from(x).to_le_bytes());
    vec![
        ("S", request("m", FLOAT, &[1, 128], floats(128))),
        ("M", request("m", FLOAT, &[32, 128], Values::FloatVal(float_bytes(32 * 128)))),
        ("L", request("img", FLOAT, &[1, 224, 224, 3], floats(image))),
        ("XL", request("img", FLOAT, &[16, 224, 224, 3], floats(16 * image))),
        // One correct reading: these must arrive as S, S and L.
        ("S_nobatch", request("m", FLOAT, &[128], floats(128))),
        ("S_f64", request("m", DOUBLE, &[1, 128], Values::Content(doubles.collect()))),
        ("L_nobatch", request("img", FLOAT, &[224, 224, 3], floats(image))),
        // No correct reading: must be refused.
        ("S_bad", request("m", FLOAT, &[1, 127], floats(127))),
        // Conforms, for the slow model.
        ("S_slow", request("slow", FLOAT, &[1, 128], floats(128))),
    ]
}

/// The stub's only answer, gRPC-framed: float `[1,10]` as packed float_val.
pub fn answer() -> Vec<u8> {
    let tensor = tensor(FLOAT, &[1, 10], Values::FloatVal(float_bytes(10)));
    let spec = model_spec("m", Some(1)).bytes(3, b"serving_default");
    Message::new().entry(1, OUTPUT, &tensor).bytes(2, &spec.0).framed()
}

fn request(model: &str, dtype: u64, dims: &[i64], values: Values) -> Vec<u8> {
    let spec = model_spec(model, None).bytes(3, b"serving_default");
    Message::new().bytes(1, &spec.0).entry(2, INPUT, &tensor(dtype, dims, values)).framed()
}

pub fn tensor(dtype: u64, dims: &[i64], values: Values) -> Message {
    let tensor = Message::new().varint(1, dtype).bytes(2, &shape(dims).0);
    match values {
        Values::Content(raw) => tensor.bytes(4, &raw),
        Values::FloatVal(raw) => tensor.bytes(5, &raw),
    }
}

/// The same numbers on every run, each a multiple of 2^-24 below 1, so that a float represents them
/// exactly.
fn numbers(count: usize) -> impl Iterator<Item = f32> {
    let mut state: u64 = 0x2545_F491_4F6C_DD1D;
    (0..count).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 16_777_216.0
    })
}

fn float_bytes(count: usize) -> Vec<u8> {
    numbers(count).flat_map(f32::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_the_report_names() {
        let sizes: Vec<_> = all().into_iter().map(|(name, body)| (name, body.len())).collect();
        assert_eq!(sizes[..4], [("S", 575), ("M", 16_450), ("L", 602_189), ("XL", 9_633_872)]);
    }

    #[test]
    fn doubles_are_exact() {
        assert!(numbers(1000).all(|x| f64::from(x) as f32 == x && (0.0..1.0).contains(&x)));
    }
}
