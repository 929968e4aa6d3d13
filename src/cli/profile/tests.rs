//! `profile build`, `show` and `diff` on files, as people call them.
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::*;
use crate::cli::main;

/// A folder of a test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tfs-sidecar-profile-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.join(name), text).unwrap();
        self.file(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/profile").join(name).display().to_string()
}

fn run(arguments: &[&str]) -> Exit {
    main(["tfs-sidecar", "profile"].iter().chain(arguments).map(OsString::from))
}

fn built(folder: &Folder, arguments: &[&str]) -> Profile {
    let out = folder.file("out.yaml");
    assert_eq!(run(&[&["build", "--out", &out], arguments].concat()), Exit::Success, "{arguments:?}");
    load(Path::new(&out)).unwrap()
}

#[test]
fn a_model_s_own_warm_up_requests_make_a_profile() {
    let folder = Folder::new("warm-up");
    let warm_up = fixture("tf_serving_warmup_requests");
    let profile = built(&folder, &[&warm_up, "--model", "mlp", "--signature-name", "serving_default"]);
    assert_eq!((profile.model.as_deref(), profile.rows), (Some("mlp"), 200));
    assert_eq!(profile.sources, ["tf_serving_warmup_requests"]);
    assert_eq!(profile.inputs["x"].features.len(), 3);
}

#[test]
fn raw_data_and_a_scaler_make_both_sides() {
    let folder = Folder::new("scaler");
    let scaler =
        folder.write("s.json", r#"{"kind": "standard", "mean": [40, 3e4, 1.2], "scale": [12, 4e4, 1.1]}"#);
    let (npy, csv) = (fixture("x.npy"), fixture("x.csv"));
    let one = built(&folder, &["--raw", &npy, "--input", "x", "--scaler", &scaler]);
    let x = &one.inputs["x"];
    assert_eq!(x.raw.as_ref().unwrap()[2].integral, 1.0);
    assert!(x.features[0].mean.abs() < 1.0 && x.scaler.is_some());
    // The scaled data and the raw data in two files.
    let columns = "x=age,income,children";
    let scaled = folder.write("scaled.csv", "age,income,children\n0.5,0.1,0\n-0.5,-0.1,1\n");
    let two = built(&folder, &[&scaled, "--raw", &csv, "--columns", columns, "--scaler", &scaler]);
    assert_eq!(two.inputs["x"].raw.as_ref().unwrap().len(), 3);
    assert_eq!(two.inputs["x"].features[0].max, 0.5);
    assert_eq!(two.inputs["x"].names, ["age", "income", "children"]);
    // Only one input of several can be meant.
    assert_eq!(run(&["build", "--raw", &csv, "--scaler", &scaler]), Exit::Usage);
    assert_eq!(run(&["build", "--raw", &csv]), Exit::Usage);
    assert_eq!(run(&["build", &csv, "--scaler", &format!("other={scaler}")]), Exit::Usage);
}

#[test]
fn a_profile_is_drawn_within_80_columns() {
    let folder = Folder::new("show");
    let profile = built(
        &folder,
        &[&fixture("x.csv"), "--columns", "x=age,income,children", "--columns", "country=country"],
    );
    let text = show::text(&profile, None, 20);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    insta::assert_snapshot!(text, @r"
    model any, signature any, 200 rows
    from x.csv

    input country: string
      200 strings of 2 bytes; 2 different ones
      `de`                         ████████████████████████████ 50 %
      `fr`                         ████████████████████████████ 50 %

    input x: float, 3 features
                             min                    max             mean       std
      age                  9.799 ▁▁▂▃▄▄▄██▇▇▆▄▄▃▂▁▁ 66.94          38.42     10.47
      income               852.8 █▇▅▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁ 210600         31860     33910
      children                 0 ▇ █ ▆ ▂ ▁ ▁        5               1.12    0.9673
                      0 (30 %), 1 (36 %), 2 (26 %), 3 (6.5 %), 4 (0.5 %), 5 (0.5 %)
    ");
    let wide = Profile {
        inputs: [(
            "x".to_owned(),
            crate::profile::TensorProfile {
                features: vec![crate::profile::FeatureProfile::empty(); 30],
                names: Vec::new(),
                ..profile.inputs["x"].clone()
            },
        )]
        .into(),
        ..profile
    };
    let text = show::text(&wide, Some("x"), 20);
    assert!(text.contains("and 10 more features (--features 0 shows all)"), "{text}");
}

#[test]
fn two_profiles_are_compared_as_diff_does() {
    let folder = Folder::new("diff");
    let same = fixture("x.csv");
    let columns = ["--columns", "x=age,income,children"];
    let before = built(&folder, &[&[same.as_str()], &columns[..]].concat());
    let a = folder.write("a.yaml", &before.to_yaml());
    assert_eq!(run(&["diff", &a, &a]), Exit::Success);
    let text = std::fs::read_to_string(&same).unwrap();
    let moved = folder.write("moved.csv", &text.replace("age,income,children", "income,age,children"));
    let after = built(&folder, &[&[moved.as_str()], &columns[..]].concat());
    let b = folder.write("b.yaml", &after.to_yaml());
    assert_eq!(run(&["diff", &a, &b]), Exit::Failure);
    assert_eq!(run(&["diff", &a, &folder.file("absent")]), Exit::Usage);
    assert_eq!(run(&["diff", &a, &moved]), Exit::Usage);
    insta::assert_snapshot!(diff::text(&before, &after, 20), @r"
    input x: 2 of 3 features moved
      age: PSI 12.03: mean 38.42 -> 31860 (+3039.7 std), std 10.47 -> 33910
      income: PSI 12.03: mean 31860 -> 38.42 (-0.9 std), std 33910 -> 10.47
    ");
}

/// Incomes half as large again: the example of docs/preprocessing.md.
#[test]
fn the_comparison_in_the_documentation_is_what_the_program_prints() {
    let folder = Folder::new("documented");
    let text = std::fs::read_to_string(fixture("x.csv")).unwrap();
    let higher = |line: &str| {
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        if let Ok(income) = cells[1].parse::<f64>() {
            cells[1] = (income * 1.5).to_string();
        }
        cells.join(",")
    };
    let february = text.lines().map(higher).collect::<Vec<_>>().join("\n");
    let february = folder.write("february.csv", &february);
    let columns = ["--columns", "dense_input=age,income,children"];
    let before = built(&folder, &[&[fixture("x.csv").as_str()], &columns[..]].concat());
    let after = built(&folder, &[&[february.as_str()], &columns[..]].concat());
    let page = include_str!("../../../docs/preprocessing.md");
    let printed = diff::text(&before, &after, 20);
    assert!(page.contains(&format!("```text\n{printed}```")), "{printed}");
}
