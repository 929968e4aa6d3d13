//! Names in a request: inputs, outputs, signatures, models, versions and labels.
use crate::support::client::Request;
use crate::support::dense::{self, CASE, INPUT, OUTPUT};
use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::requests::{CLASSIFY, FLOAT, INT64, PREDICT, Predict, field, floats, int64s, outputs};
use crate::support::sidecar::Setup;

#[tokio::test]
async fn the_name_of_the_only_input_is_corrected() {
    let setup = Setup::new([dense::model_named("names")]).await;
    for (sent, rule) in [
        ("serving_default_input_tensor:0", "rename_tensor_name"),
        ("serving_default_input_tensor", "rename_tensor_name"),
        ("x", "rename_single"),
    ] {
        let request = Predict::new("names").input(sent, floats(&[128], &CASE.input_tensor)).bytes();
        let reply = setup.client.predict(&request).await.ok();
        assert_eq!(
            reply.repairs(),
            [
                format!("input_tensor;{rule};{sent}->input_tensor"),
                "input_tensor;add_batch_dim;[128]->[1,128]".to_owned()
            ]
        );
        dense::assert_case(&outputs(&reply.message)[OUTPUT].float_val);
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn unknown_and_extra_names_are_refused_with_the_declared_ones() {
    let sig = Sig::new("serving_default").input("item", INT64, &[-1]).input("user", INT64, &[-1]).output(
        "y",
        FLOAT,
        &[-1],
    );
    let setup = Setup::new([Model::new("m").version(1, [sig])]).await;
    let ids = || int64s(&[1], &[7]);
    let unknown = Predict::new("m").input("itm", ids()).input("user", ids());
    let reply = setup.client.predict(&unknown.bytes()).await;
    assert_eq!(reply.reason(), "NAME_UNKNOWN");
    assert!(reply.text.contains("item") && reply.text.contains("itm"), "{}", reply.text);
    let extra = Predict::new("m").input("item", ids()).input("user", ids()).input("other", ids());
    assert_eq!(setup.client.predict(&extra.bytes()).await.reason(), "INPUT_EXTRA");
    let output = Predict::new("m").input("item", ids()).input("user", ids()).output("z");
    assert_eq!(setup.client.predict(&output.bytes()).await.reason(), "OUTPUT_UNKNOWN");
    // A missing input may have a default that the metadata does not show, so the server decides.
    let missing = Predict::new("m").input("item", ids());
    let reply = setup.client.predict(&missing.bytes()).await;
    assert_eq!(reply.code, 3);
    assert!(reply.text.starts_with("input size does not match signature: 1!=2"), "{}", reply.text);
    assert_eq!(setup.fake.only(PREDICT).message, missing.bytes());
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn unknown_models_versions_and_signatures_get_the_codes_of_tensorflow_serving() {
    let setup = Setup::new([dense::model()]).await;
    let ok = || floats(&[1, 128], &[0.5; 128]);
    let reply = setup.client.predict(&Predict::new("nope").input("x", ok()).bytes()).await;
    assert_eq!(reply.code, 5);
    assert!(reply.text.starts_with("Servable not found for request: Latest(nope)"), "{}", reply.text);
    let reply = setup.client.predict(&Predict::new(dense::MODEL).version(9).input(INPUT, ok()).bytes()).await;
    assert_eq!(reply.code, 5);
    assert!(reply.text.starts_with("Servable not found for request: Specific(mlp, 9)"), "{}", reply.text);
    let reply =
        setup.client.predict(&Predict::new(dense::MODEL).label("nope").input(INPUT, ok()).bytes()).await;
    assert_eq!(reply.code, 3);
    assert!(reply.text.starts_with("Unrecognized servable version label: nope"), "{}", reply.text);
    let reply =
        setup.client.predict(&Predict::new(dense::MODEL).signature("nope").input(INPUT, ok()).bytes()).await;
    assert_eq!((reply.code, reply.reason().as_str()), (9, "SIGNATURE_UNKNOWN"));
    assert!(reply.text.contains("serving_default"), "{}", reply.text);
    // For Classify, TensorFlow Serving uses another code than for Predict.
    let spec = [field(1, b"mlp"), field(3, b"nope")].concat();
    let classify = [field(1, &spec), field(2, &field(1, &field(1, b"")))].concat();
    let reply = setup.client.call(Request::new(CLASSIFY, &classify)).await;
    assert_eq!(reply.code, 3, "{}", reply.text);
    let reply = setup.client.predict(&field(2, b"")).await;
    assert_eq!(reply.code, 3, "no model spec: {}", reply.text);
    assert_eq!(setup.fake.count(PREDICT), 0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_request_without_a_signature_name_gets_the_only_signature() {
    let sig = Sig::new("score").input("x", FLOAT, &[-1, 2]).output("y", FLOAT, &[-1, 2]);
    let setup = Setup::new([Model::new("m").version(1, [sig])]).await;
    let reply =
        setup.client.predict(&Predict::new("m").input("x", floats(&[1, 2], &[0.5; 2])).bytes()).await.ok();
    let repairs = reply.repairs();
    assert!(repairs.len() == 1 && repairs[0].starts_with(";only_signature;"), "{repairs:?}");
    assert!(repairs[0].ends_with("->score"), "{repairs:?}");
    setup.sidecar.stop().await;
}
