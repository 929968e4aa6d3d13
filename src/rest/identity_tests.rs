//! JSON of an answer, read as a request and written again, is the same JSON: for every dtype.
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::random::Random;
use super::read::{Options, read};
use super::write::{Format, predict};
use crate::proto::tensorflow::serving::{PredictRequest, PredictResponse};
use crate::proto::tensorflow::{TensorProto, TensorShapeProto, tensor_shape_proto::Dim};
use crate::signature::{Signature, TensorInfo};
use crate::tensor::{DataType, PartialShape};
use crate::wire::Rope;

const MAX: u64 = 1 << 20;

/// The answer with these outputs as JSON, in one line.
fn write(outputs: HashMap<String, TensorProto>, format: Format) -> String {
    let message = PredictResponse { outputs, model_spec: None }.encode_to_vec();
    let json = predict(&Rope::from(Bytes::from(message)), format, MAX as usize).unwrap().json;
    String::from_utf8(json).unwrap()
}

/// A request of the values of an answer.
fn asked(json: &str) -> String {
    json.replacen("\"predictions\"", "\"instances\"", 1).replacen("\"outputs\"", "\"inputs\"", 1)
}

fn tensor(dtype: DataType, dims: &[usize], random: &mut Random) -> TensorProto {
    let dim = dims.iter().map(|size| Dim { size: *size as i64, name: String::new() }).collect();
    let tensor_shape = Some(TensorShapeProto { dim, unknown_rank: false });
    let mut tensor = TensorProto { dtype: dtype.number(), tensor_shape, ..TensorProto::default() };
    let elements: usize = dims.iter().product();
    let Some(size) = dtype.size() else {
        let text =
            |random: &mut Random| -> Vec<u8> { (0..random.below(9)).map(|_| random.next() as u8).collect() };
        tensor.string_val = (0..elements).map(|_| text(random).into()).collect();
        return tensor;
    };
    let bound = match dtype {
        DataType::BOOL | DataType::UINT2 => Some(2),
        DataType::UINT4 | DataType::FLOAT4_E2M1FN => Some(16),
        DataType::INT4 => Some(8),
        DataType::INT2 => Some(2),
        _ => None,
    };
    let byte = |random: &mut Random| bound.map_or(random.next(), |bound| random.below(bound)) as u8;
    tensor.tensor_content = (0..elements * size).map(|_| byte(random)).collect::<Vec<u8>>().into();
    tensor
}

/// A signature with these inputs, of any size.
fn signature(inputs: &HashMap<String, TensorProto>, rank: usize) -> Arc<Signature> {
    let mut inputs: Vec<TensorInfo> = inputs
        .iter()
        .map(|(name, tensor)| TensorInfo {
            alias: name.clone(),
            tensor_name: name.clone(),
            dtype: DataType::from_number(tensor.dtype),
            shape: PartialShape::Known(vec![-1; rank].into_iter().collect()),
            has_default: false,
        })
        .collect();
    inputs.sort_by(|left, right| left.alias.cmp(&right.alias));
    let (name, method_name) = ("serving_default".to_owned(), String::new());
    Arc::new(Signature { name, inputs, outputs: Vec::new(), method_name })
}

#[test]
fn json_of_an_answer_is_read_and_written_the_same_for_every_dtype() {
    let mut random = Random::new(1);
    let values = |dtype: &DataType| !matches!(*dtype, DataType::RESOURCE | DataType::VARIANT);
    let dtypes: Vec<DataType> = DataType::all().filter(values).collect();
    assert_eq!(dtypes.len(), 31);
    for round in 0..100 * dtypes.len() {
        let dtype = dtypes[round % dtypes.len()];
        let rank = random.below(4) as usize;
        let dims: Vec<usize> = (0..rank).map(|_| 1 + random.below(3) as usize).collect();
        let format = if rank == 0 || random.below(2) == 0 { Format::Column } else { Format::Row };
        // Bytes that are no text need the suffix, in TF Serving too.
        let name = if dtype == DataType::STRING { "y_bytes" } else { "y" };
        let mut outputs = HashMap::from([(name.to_owned(), tensor(dtype, &dims, &mut random))]);
        if random.below(2) == 0 {
            outputs.insert("z".to_owned(), tensor(DataType::INT32, &dims, &mut random));
        }
        let json = write(outputs.clone(), format);
        let signature = signature(&outputs, rank);
        let options = Options {
            integral_floats: false,
            string_numbers: false,
            bool_numbers: false,
            max_elements: MAX,
            max_bytes: MAX,
            as_served: false,
        };
        let choose = |_: &str| Some(Arc::clone(&signature));
        let body = asked(&json);
        let read =
            read(body.as_bytes(), &choose, &options).unwrap_or_else(|wrong| panic!("{body}: {wrong:?}"));
        assert!(read.findings.is_empty(), "{body}: {:?}", read.findings);
        let request = PredictRequest::decode(read.message(b"").to_bytes()).unwrap();
        for (name, sent) in &outputs {
            let read = &request.inputs[name];
            assert_eq!((read.dtype, &read.tensor_shape), (sent.dtype, &sent.tensor_shape), "{body}");
            // Of NaN, only that it is one comes back.
            if !json.contains("NaN") {
                assert_eq!(read.tensor_content, sent.tensor_content, "{dtype} {body}");
                assert_eq!(read.string_val, sent.string_val, "{body}");
            }
        }
        let again = write(request.inputs, format);
        assert_eq!(sorted(&again), sorted(&json), "{dtype}");
    }
}

/// Members are in a random order, as in TF Serving. Apart from that, every byte is compared.
fn sorted(json: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = json.lines().map(|line| line.trim_end_matches(',')).collect();
    lines.sort_unstable();
    lines
}
