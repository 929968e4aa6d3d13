//! A profile that changes is used, and a broken one is not.
use serde_json::Value;

use super::{Folder, INPUT, Profiled, profile, scaled};
use crate::support::random::Random;
use crate::support::within;

async fn config_status(setup: &Profiled) -> Value {
    let page = setup.sidecar.page("/api/status").await;
    serde_json::from_str::<Value>(&page.body).unwrap()["config"].take()
}

#[tokio::test]
async fn a_profile_that_changes_is_used_and_a_broken_one_keeps_the_old() {
    let setup = Profiled::new("changed", "profile_check: refuse").await;
    let mut random = Random::new(7);
    let mut row = scaled(&mut random);
    row[0] = 1000.0;
    assert_eq!(setup.send("a", &[row.clone()]).await.code, 3);

    setup.folder.write("profile.yaml", "profile: 1\nrows: many\n");
    let status = within("the problem", async {
        loop {
            let status = config_status(&setup).await;
            if !status["problem"].is_null() {
                return status;
            }
        }
    })
    .await;
    let problem = status["problem"].as_str().unwrap();
    assert!(problem.contains("`models.changed.profile`") && problem.contains("profile.yaml:2:"), "{problem}");
    assert_eq!(setup.send("a", &[row.clone()]).await.code, 3, "the old one stays in use");
    assert_eq!(setup.findings().await["requests"], 2, "with all that was seen");

    let mut wider = profile();
    let feature = &mut wider.inputs.get_mut(INPUT).unwrap().features[0];
    (feature.max, feature.quantiles[6]) = (2000.0, 2000.0);
    setup.folder.write("profile.yaml", &wider.to_yaml());
    within("the new profile", async { while setup.send("a", &[row.clone()]).await.code != 0 {} }).await;
    assert!(config_status(&setup).await["problem"].is_null());
    setup.stop().await;
}

#[tokio::test]
async fn what_the_signature_does_not_have_is_a_problem_of_the_configuration() {
    let folder = Folder::new();
    let mut other = profile();
    let input = other.inputs.remove(INPUT).unwrap();
    other.inputs.insert("y".to_owned(), input);
    let path = folder.write("profile.yaml", &other.to_yaml());
    let setup = Profiled::start(folder, "other_input", &format!("profile: {}", path.display())).await;
    let page = within("the problem", async {
        loop {
            let page = setup.sidecar.page("/api/status").await.body;
            if page.contains("no input `y`") {
                return page;
            }
        }
    })
    .await;
    assert!(page.contains(&format!("`models.{}.profile`", setup.model)), "{page}");
    setup.send("a", &[vec![1e9; 10]]).await.ok();
    setup.stop().await;
}
