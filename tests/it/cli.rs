//! The program as users start it: flags, environment variables, exit codes, stdout and stderr.
use std::path::Path;
use std::process::Command;

use crate::support::dense;
use crate::support::fake_tfs::FakeTfs;

struct Exit {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs the program with these arguments and only these environment variables.
fn tfs_sidecar(arguments: &[&str], variables: &[(&str, &str)]) -> Exit {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tfs-sidecar"));
    let output = command.args(arguments).env_clear().envs(variables.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Exit { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn a_flag_overrides_its_environment_variable() {
    let variables = [
        ("TFS_SIDECAR_LISTEN", "127.0.0.1:1"),
        ("TFS_SIDECAR_MODEL", "a,b"),
        ("MODEL_NAME", "model"),
        ("TFS_SIDECAR_MODE", ""),
    ];
    let printed = tfs_sidecar(&["check", "--print"], &variables).stdout;
    assert!(
        printed.contains("\nlisten: 127.0.0.1:1\n")
            && printed.contains("\n  a:\n")
            && printed.contains("\n  b:\n"),
        "{printed}"
    );
    assert!(!printed.contains("\n  model:\n") && printed.contains("mode: repair"), "{printed}");
    let printed = tfs_sidecar(&["check", "--print", "--listen", "127.0.0.1:2"], &variables).stdout;
    assert!(printed.contains("\nlisten: 127.0.0.1:2\n"), "{printed}");
    let printed = tfs_sidecar(&["check", "--print"], &[("MODEL_NAME", "half_plus_two")]).stdout;
    assert!(printed.contains("\n  half_plus_two:\n"), "{printed}");
}

#[test]
fn errors_name_the_environment_variable() {
    let exit = tfs_sidecar(&["run"], &[("TFS_SIDECAR_MODE", "loose"), ("TFS_SIDECAR_WORKERS", "many")]);
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(2), ""));
    assert!(
        exit.stderr.contains("`TFS_SIDECAR_MODE`: expected")
            && exit.stderr.contains("`TFS_SIDECAR_WORKERS`: expected"),
        "{}",
        exit.stderr
    );
}

#[test]
fn data_goes_to_stdout_and_messages_to_stderr() {
    let exit = tfs_sidecar(&["check", "--print"], &[]);
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    let exit = tfs_sidecar(&["check"], &[]);
    assert_eq!(
        (exit.code, exit.stdout.as_str(), exit.stderr.as_str()),
        (Some(0), "", "the configuration has no problems\n")
    );
    let exit = tfs_sidecar(&["--version"], &[]);
    let version = format!("tfs-sidecar {} (", env!("CARGO_PKG_VERSION"));
    assert_eq!((exit.code, exit.stdout.starts_with(&version)), (Some(0), true), "{}", exit.stdout);
    assert!(exit.stdout.contains("tls"), "a feature: {}", exit.stdout);
    let exit = tfs_sidecar(&["nonsense"], &[]);
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(2), ""));
}

#[test]
fn every_command_is_completed_and_has_a_page() {
    let help = tfs_sidecar(&["help"], &[]).stdout;
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names: Vec<&str> = commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 8, "{help}");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = tfs_sidecar(&["completions", shell], &[]);
        assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""), "{shell}");
        for name in &names {
            assert!(script.stdout.contains(name), "{shell}: {name}");
        }
    }
    let page = tfs_sidecar(&["man"], &[]).stdout;
    for name in names.iter().filter(|name| **name != "help") {
        assert!(page.contains(&name.replace('-', "\\-")), "{name}");
        let page = tfs_sidecar(&["man", name], &[]);
        assert!(page.stdout.contains(&format!(".TH tfs-sidecar-{name} 1")), "{}", page.stdout);
    }
}

#[test]
fn a_healthcheck_fails_if_no_sidecar_runs() {
    // Nothing listens on port 9 (`discard`). The address is derived from the one that the sidecar
    // would listen on.
    let exit = tfs_sidecar(&["healthcheck"], &[("TFS_SIDECAR_ADMIN_LISTEN", "0.0.0.0:9")]);
    assert_eq!(exit.code, Some(1));
    assert!(exit.stderr.contains("127.0.0.1:9") && exit.stderr.contains("hint: "), "{}", exit.stderr);
}

/// A file of a test, with this content.
fn file(name: &str, content: &[u8]) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_unknown_variable_is_a_warning_on_stderr() {
    let variables = [("TFS_SIDECAR_LISTNE", "127.0.0.1:1"), ("TFS_SIDECAR_SERVICE_HOST", "10.0.0.1")];
    let warning = "unknown environment variable `TFS_SIDECAR_LISTNE` (did you mean `TFS_SIDECAR_LISTEN`?)";
    let ended = tfs_sidecar(&["check", "--print"], &variables);
    assert_eq!((ended.code, ended.stderr), (Some(0), format!("warning: {warning}\n")));
    assert!(ended.stdout.starts_with("upstream: "), "{}", ended.stdout);
    // `run` logs it, in the format of its log. It ends here, because it cannot listen.
    let nowhere = file("not-a-folder", b"") + "/admin.sock";
    let admin = format!("unix://{nowhere}");
    let run = ["run", "--log-format", "json", "--listen", "127.0.0.1:0", "--admin-listen", &admin];
    let ended = tfs_sidecar(&run, &variables);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let first: serde_json::Value = serde_json::from_str(ended.stderr.lines().next().unwrap()).unwrap();
    assert_eq!((&first["level"], first["message"].as_str()), (&"WARN".into(), Some(warning)));
    let ended = tfs_sidecar(&["run", "--mode", "loose"], &variables);
    assert!(
        ended.code == Some(2) && ended.stderr.starts_with(&format!("warning: {warning}\n")),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_refused_request_is_a_failure_and_a_wrong_file_a_mistake_of_the_user() {
    let fake = FakeTfs::start([dense::model()]);
    let explain = |options: &[&str]| {
        let server = ["explain", "--upstream", fake.addr(), "--model", dense::MODEL];
        tfs_sidecar(&[&server[..], options].concat(), &[])
    };
    let code = |options: &[&str]| explain(options).code;
    let conforming = file("conforming", &dense::conforming());
    assert_eq!(code(&["--request", &conforming]), Some(0));
    let refused = explain(&["--input", "input_tensor:float[1,127]"]);
    assert_eq!((refused.code, refused.stderr.as_str()), (Some(1), ""));
    assert!(refused.stdout.ends_with("refused: DIM_MISMATCH\n"), "{}", refused.stdout);
    assert_eq!(code(&["--request", "/nowhere/request"]), Some(2));
    let garbage = file("garbage", b"\xff\xff\xff");
    assert_eq!(code(&["--request", &garbage]), Some(2));
    assert_eq!(code(&["--signature", &garbage, "--request", &conforming]), Some(2));
    let empty = file("empty", b"");
    assert_eq!(code(&["--signature", &empty, "--request", &conforming]), Some(2));
    assert_eq!(code(&["--model", "absent", "--input", "x:float[1]"]), Some(2), "two models");
    assert_eq!(code(&["--input", "x:float[1]", "--config", "/nowhere/c.yaml"]), Some(2));
    assert_eq!(code(&[]), Some(2), "no request");
    let other = ["signature", "--upstream", fake.addr(), "--model", "absent"];
    assert_eq!(tfs_sidecar(&other, &[]).code, Some(1));
}

#[test]
fn the_model_and_the_server_can_come_from_the_configuration() {
    let fake = FakeTfs::start([dense::model(), dense::model_named("other")]);
    let text =
        |models: &str| format!("upstream: {}\nlisten: 127.0.0.1:1234\nmodels: {{{models}}}\n", fake.addr());
    let config = file("one.yaml", text("mlp: {mode: strict}").as_bytes());
    let ended = tfs_sidecar(&["signature", "--example"], &[("TFS_SIDECAR_CONFIG", &config)]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.stdout.starts_with("model 'mlp' version 2\n"), "{}", ended.stdout);
    assert!(ended.stdout.contains("\ngrpcurl -plaintext -d @ 127.0.0.1:1234 "), "{}", ended.stdout);
    let explain = ["explain", "--input", "input_tensor:float[128]", "--config"];
    let ended = tfs_sidecar(&[&explain[..], &[&config]].concat(), &[]);
    assert!(ended.stdout.ends_with("refused: RANK_TOO_LOW\n"), "{}", ended.stdout);
    let several = file("several.yaml", text("mlp: {}, other: {}").as_bytes());
    let ended = tfs_sidecar(&["signature", "--config", &several], &[]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("expected one model, got 2\nhint: choose one with --model NAME"),
        "{}",
        ended.stderr
    );
    assert_eq!(tfs_sidecar(&["signature", "--config", &several, "--model", "other"], &[]).code, Some(0));
}

#[test]
fn check_reports_files_and_names_that_are_not_there() {
    let fake = FakeTfs::start([dense::model()]);
    let signatures = "serving_default: {aliases: {x: input}}";
    let text = format!(
        "listen_tls: {{cert: /nowhere/c.pem, key: /nowhere/k.pem}}
models: {{mlp: {{signatures: {{{signatures}}}}}, absent: {{}}}}
"
    );
    let config = file("check.yaml", text.as_bytes());
    let ended = tfs_sidecar(&["check", "--print", "--config", &config, "--upstream", fake.addr()], &[]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    let stderr = ended.stderr.replace(fake.addr(), "ADDR");
    insta::assert_snapshot!(stderr, @r"
    error: the configuration has 4 problems
      `listen_tls.cert`: cannot read /nowhere/c.pem as PEM: I/O error: No such file or directory (os error 2)
      `listen_tls.key`: cannot read /nowhere/k.pem as PEM: I/O error: No such file or directory (os error 2)
      `models.absent`: `ADDR` does not serve this model: Servable not found for request: Latest(absent)
      `models.mlp.signatures.serving_default.aliases.x`: signature `serving_default` has no input `input` (it has `input_tensor`)
    ");
    // Nothing listens on the port of `discard`: not the user's mistake.
    let plain = file("plain.yaml", b"models: {mlp: {}}");
    let ended =
        tfs_sidecar(&["check", "--config", &plain, "--upstream", "127.0.0.1:9", "--timeout", "2s"], &[]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("cannot read the signatures of model 'mlp' from `127.0.0.1:9`"),
        "{}",
        ended.stderr
    );
    let ended = tfs_sidecar(&["check", "--config", &plain], &[("TFS_SIDECAR_UPSTREAM", "127.0.0.1:9")]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let ended = tfs_sidecar(&["check", "--upstream", fake.addr()], &[]);
    assert!(ended.code == Some(0) && ended.stderr.contains("declares no models"), "{}", ended.stderr);
}

#[test]
fn check_compares_profiles_with_the_signatures() {
    let fake = FakeTfs::start([dense::model()]);
    let of = "{count: 200, min: -3, max: 3, mean: 0, std: 1, quantiles: [-2, -2, -1, 0, 1, 2, 2]}";
    let check = |input: &str| {
        let profile =
            format!("profile: 1\nrows: 200\ninputs: {{{input}: {{dtype: float, features: [{of}]}}}}\n");
        let profile = file(&format!("{input}.yaml"), profile.as_bytes());
        let config = format!("models: {{mlp: {{profile: {profile}}}}}");
        let config = file(&format!("check_{input}.yaml"), config.as_bytes());
        tfs_sidecar(&["check", "--config", &config, "--upstream", fake.addr()], &[])
    };
    let ended = check("input_tensor");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let ended = check("elsewhere");
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let expected = "`models.mlp.profile`: the profile has another input: signature `serving_default` has no \
                    input `elsewhere` (it has `input_tensor`)";
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
}
