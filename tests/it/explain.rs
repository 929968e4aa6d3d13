//! Errors of TensorFlow Serving reach the client with their code and text, followed by an
//! explanation unless it is switched off.
use prost::bytes::Bytes;
use tfs_sidecar::repair::policy::Mode;

use crate::support::client::Request;
use crate::support::dense;
use crate::support::fake_tfs::Act;
use crate::support::requests::{CLASSIFY, PREDICT, Predict, field, floats};
use crate::support::sidecar::{Setup, policy};

/// An error of a kernel, with characters that `grpc-message` must escape.
const KERNEL: &str =
    "Matrix size-incompatible: In[0]: [1,128], In[1]: [64,10]\n\t [[{{node d\u{e9}nse/MatMul}}]] 100%";

fn status(code: i32, text: &str) -> Act {
    Act::Status { code, text: text.to_owned() }
}

#[tokio::test]
async fn an_error_keeps_its_code_and_text_and_says_who_must_act() {
    let setup = Setup::new([dense::model()]).await;
    let cases = [
        (3, KERNEL, "client"),
        (5, "Op type not registered 'FancyOp' in binary running on host.", "platform"),
        (3, "You must feed a value for placeholder tensor 'keep_prob' with dtype float", "exporter"),
        (8, "Run() timeout exceeded while waiting in batching queue", "platform"),
    ];
    for (code, text, actor) in cases {
        setup.fake.script(PREDICT, 1, status(code, text));
        let reply = setup.client.predict(&dense::conforming()).await;
        assert_eq!(reply.code, code, "{}", reply.text);
        assert!(reply.text.starts_with(&format!("{text} [tfs-sidecar: ")), "{}", reply.text);
        assert!(reply.text.ends_with(&format!(" (act: {actor})]")), "{}", reply.text);
        assert_eq!(reply.details(), None);
    }
    // An unknown text stays as it is.
    setup.fake.script(PREDICT, 1, status(3, "a custom op's own words"));
    let reply = setup.client.predict(&dense::conforming()).await;
    assert_eq!((reply.code, reply.text.as_str()), (3, "a custom op's own words"));
    // The server's details are not changed.
    let details = Bytes::from_static(b"\x08\x03\x12\x01x");
    let act = Act::Details { code: 3, text: "Incompatible shapes: [3]".into(), details: details.clone() };
    setup.fake.script(PREDICT, 1, act);
    let reply = setup.client.predict(&dense::conforming()).await;
    assert!(reply.text.starts_with("Incompatible shapes: [3] [tfs-sidecar: "), "{}", reply.text);
    assert_eq!(reply.details(), Some(details));
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn errors_of_classify_and_of_unknown_models_are_explained_too() {
    let setup = Setup::new([dense::model()]).await;
    let classify = [field(1, &field(1, b"mlp")), field(2, &field(1, &field(1, b"")))].concat();
    setup.fake.script(CLASSIFY, 1, status(3, "Expected one input Tensor."));
    let reply = setup.client.call(Request::new(CLASSIFY, &classify)).await;
    assert_eq!(reply.code, 3);
    assert!(reply.text.starts_with("Expected one input Tensor. [tfs-sidecar: "), "{}", reply.text);
    let unknown = Predict::new("nope").input("x", floats(&[1], &[0.0])).bytes();
    let reply = setup.client.predict(&unknown).await;
    assert_eq!(reply.code, 5);
    let text = "Servable not found for request: Latest(nope) [tfs-sidecar: ";
    assert!(reply.text.starts_with(text), "{}", reply.text);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn errors_are_unchanged_if_explanations_or_the_sidecar_are_off() {
    let off = Setup::with([dense::model()], |config| policy(config, |policy| policy.mode = Mode::Off)).await;
    let silent =
        Setup::with([dense::model()], |config| policy(config, |policy| policy.explain_upstream = false))
            .await;
    for setup in [off, silent] {
        setup.fake.script(PREDICT, 1, status(3, KERNEL));
        let reply = setup.client.predict(&dense::conforming()).await;
        assert_eq!((reply.code, reply.text.as_str()), (3, KERNEL));
        let unknown = Predict::new("nope").input("x", floats(&[1], &[0.0])).bytes();
        let reply = setup.client.predict(&unknown).await;
        assert_eq!((reply.code, reply.text.as_str()), (5, "Servable not found for request: Latest(nope)"));
        setup.sidecar.stop().await;
    }
}
