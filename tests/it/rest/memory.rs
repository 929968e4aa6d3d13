//! What a large body takes: itself and its tensor.
use std::collections::HashMap;
use std::sync::Arc;

use super::*;
use crate::support::dense;
use crate::support::fake_tfs::FakeTfs;
use crate::support::fake_tfs::model::Compute;
use crate::support::process::Process;
use crate::support::requests::floats;
use crate::support::rest::Http;

const IMAGES: usize = 16;
const NUMBERS: usize = 224 * 224 * 3;

#[tokio::test]
async fn a_large_body_takes_itself_and_its_tensor_and_one_megabyte() {
    let compute: Compute = Arc::new(|request, _| {
        let rows = dense::dims(&request.inputs["image"])[0];
        Ok(HashMap::from([("y".to_owned(), floats(&[rows], &vec![1.0; rows as usize]))]))
    });
    let signature = Sig::new("serving_default").input("image", FLOAT, &[-1, 224, 224, 3]);
    let model = Model::new(dense::MODEL).computing(1, [signature.output("y", FLOAT, &[-1])], compute);
    let fake = FakeTfs::start([model]);
    let program = Process::start(fake.addr(), "rest_listen: 127.0.0.1:0");
    program.ready().await;
    let ask = |images: usize| {
        let pixel = "[0.123456,0.5,0.25]";
        let line = format!("[{}]", vec![pixel; 224].join(","));
        let image = format!("[{}]", vec![line.as_str(); 224].join(","));
        format!("{{\"instances\":[{}]}}", vec![image.as_str(); images].join(","))
    };
    let mut http = Http::connect(program.rest.as_deref().unwrap()).await;
    http.call(&Ask::predict(dense::MODEL, ask(1))).await.ok();
    let (body, before) = (ask(IMAGES), program.peak_memory());
    let answer = http.call(&Ask::predict(dense::MODEL, &body)).await.ok();
    assert_eq!(answer.json()["predictions"].as_array().unwrap().len(), IMAGES);
    let taken = program.peak_memory() - before;
    let allowed = (body.len() + 4 * IMAGES * NUMBERS) as f64 / f64::from(1 << 20) + 1.0;
    assert!(taken <= allowed, "{taken:.1} of {allowed:.1} MiB");
}
