//! The traffic census of a running sidecar: `/api/traffic`, and the forecast for a new version.
use serde_json::{Value, json};

use crate::support::admin;
use crate::support::client::Request;
use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::requests::{DOUBLE, FLOAT, Predict, content, floats};
use crate::support::sidecar::{Setup, TestSidecar};
use crate::support::within;

async fn api(sidecar: &TestSidecar, path: &str) -> Value {
    let page = sidecar.page(path).await;
    assert_eq!(page.status, 200, "{path}: {}", page.body);
    serde_json::from_str(&page.body).unwrap()
}

fn wide(width: i64) -> Sig {
    Sig::new("serving_default").input("x", FLOAT, &[-1, width]).output("y", FLOAT, &[-1, width])
}

fn values(rows: i64, width: i64) -> Vec<f32> {
    vec![0.0; (rows * width) as usize]
}

/// Sends rows of this width as this client.
async fn send(setup: &Setup, model: &str, client: &str, shape: &[i64]) -> i32 {
    let count = shape.iter().product();
    let message = Predict::new(model).input("x", floats(shape, &values(1, count))).bytes();
    setup.client.call(Request::predict(&message).metadata("user-agent", client)).await.code
}

fn forms_of(traffic: &Value, model: &str) -> Vec<Value> {
    let forms = traffic["forms"].as_array().unwrap();
    forms.iter().filter(|form| form["model"] == model).cloned().collect()
}

#[tokio::test]
async fn requests_are_counted_by_form_and_no_value_is_kept() {
    let model = "census_forms";
    let setup = Setup::new([Model::new(model).version(3, [wide(4)])]).await;
    for rows in [2, 7, 5] {
        assert_eq!(send(&setup, model, "app/1.0", &[rows, 4]).await, 0);
    }
    assert_eq!(send(&setup, model, "app/1.0", &[4]).await, 0);
    assert_eq!(send(&setup, model, "other/2.0", &[1, 5]).await, 3);
    let secret = Predict::new(model).input("x", content(DOUBLE, &[1, 4], 77.25_f64.to_le_bytes().repeat(4)));
    let call = Request::predict(&secret.bytes()).metadata("user-agent", "app/1.0");
    assert_eq!(setup.client.call(call).await.code, 0);
    let traffic = api(&setup.sidecar, "/api/traffic").await;
    assert_eq!(
        (&traffic["format"], &traffic["missed"], &traffic["sidecars"]),
        (&1.into(), &0.into(), &1.into())
    );
    let forms = forms_of(&traffic, model);
    assert_eq!(forms.len(), 4, "{traffic}");
    let most = &forms[0];
    assert_eq!(
        (&most["requests"], &most["client"], &most["version"]),
        (&3.into(), &"app/1.0".into(), &3.into())
    );
    assert_eq!((&most["rows"], &most["verdict"]), (&json!([2, 7]), &"conforming".into()));
    assert_eq!(
        (&most["inputs"][0]["shape"], &most["inputs"][0]["dtype"]),
        (&"[N,4]".into(), &"float".into())
    );
    let find = |shape: &str| forms.iter().find(|form| form["inputs"][0]["shape"] == shape).unwrap();
    assert_eq!(find("[4]")["findings"], json!([["add_batch_dim", "x"]]));
    assert_eq!(
        (&find("[1,5]")["verdict"], &find("[1,5]")["client"]),
        (&"rejected".into(), &"other/2.0".into())
    );
    assert!(!traffic.to_string().contains("77.25"));
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn nothing_is_kept_where_the_census_is_off_or_nothing_is_checked() {
    let model = "census_off";
    let setup =
        Setup::with([Model::new(model).version(1, [wide(4)])], |config| config.traffic_census = false).await;
    assert_eq!(send(&setup, model, "app/1.0", &[1, 4]).await, 0);
    assert_eq!(forms_of(&api(&setup.sidecar, "/api/traffic").await, model).len(), 0);
    setup.sidecar.stop().await;
    let setup = Setup::new([Model::new(model).version(1, [wide(4)])]).await;
    let message = Predict::new(model).input("x", floats(&[1, 4], &values(1, 4))).bytes();
    let dry = Request::predict(&message).metadata("tfs-sidecar-dry-run", "1");
    assert_eq!(setup.client.call(dry).await.code, 0);
    assert_eq!(
        forms_of(&api(&setup.sidecar, "/api/traffic").await, model).len(),
        0,
        "a dry run is no traffic"
    );
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn the_forecast_is_made_when_a_version_appears() {
    let model = "census_forecast";
    let versions = || Model::new(model);
    let setup = Setup::new([versions().version(1, [wide(4)])]).await;
    assert_eq!(send(&setup, model, "narrow/1.0", &[2, 4]).await, 0);
    assert_eq!(send(&setup, model, "wide/1.0", &[2, 8]).await, 3);
    setup.fake.serve(versions().version(1, [wide(4)]).version(2, [wide(8)]));
    let mut forecast = Value::Null;
    within("the forecast", async {
        while forecast.is_null() {
            forecast = api(&setup.sidecar, "/api/changes").await[0]["forecast"].clone();
        }
    })
    .await;
    assert_eq!(forecast["callers"], json!({"refused": 1, "better": 1}), "{forecast}");
    assert_eq!(forecast["summary"], "callers 2: 1 better than before, 1 would be refused");
    let worst = &forecast["forms"][0];
    assert_eq!(
        (&worst["client"], &worst["class"], &worst["inputs"]),
        (&"narrow/1.0".into(), &"refused".into(), &"x:float[N,4]".into())
    );
    assert!(worst["text"].as_str().unwrap().contains("expected 8 in [-1,8]"), "{worst}");
    let metrics = admin::Metrics::read(&setup.sidecar.admin).await;
    assert_eq!(metrics.sum("tfs_sidecar_forecast_refused_clients", &[("model", model)]), 1.0);
    assert!(metrics.sum("tfs_sidecar_traffic_forms", &[]) >= 2.0);
    // And so it is.
    assert_eq!(
        (send(&setup, model, "narrow/1.0", &[2, 4]).await, send(&setup, model, "wide/1.0", &[2, 8]).await),
        (3, 0)
    );
    setup.sidecar.stop().await;
}
