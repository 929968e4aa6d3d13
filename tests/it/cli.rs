//! The program as a user starts it: flags and variables, exit codes, and what goes to which stream.
use std::process::Command;

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs the program with these arguments and no other variables than these.
fn tfs_sidecar(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tfs-sidecar"));
    let output = command.args(arguments).env_clear().envs(variables.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn a_flag_wins_over_its_variable() {
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
fn a_wrong_variable_is_told_by_its_name() {
    let ended = tfs_sidecar(&["run"], &[("TFS_SIDECAR_MODE", "loose"), ("TFS_SIDECAR_WORKERS", "many")]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    assert!(
        ended.stderr.contains("`TFS_SIDECAR_MODE`: expected")
            && ended.stderr.contains("`TFS_SIDECAR_WORKERS`: expected"),
        "{}",
        ended.stderr
    );
}

#[test]
fn data_goes_to_stdout_and_the_rest_to_stderr() {
    let ended = tfs_sidecar(&["check", "--print"], &[]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let ended = tfs_sidecar(&["check"], &[]);
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (Some(0), "", "the configuration has no problems\n")
    );
    let ended = tfs_sidecar(&["--version"], &[]);
    assert_eq!((ended.code, ended.stdout.starts_with("tfs-sidecar ")), (Some(0), true));
    let ended = tfs_sidecar(&["nonsense"], &[]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
}

#[test]
fn a_probe_without_a_sidecar_fails() {
    // Nobody listens on the port of `discard`; the address comes from what the sidecar itself would
    // listen on.
    let ended = tfs_sidecar(&["healthcheck"], &[("TFS_SIDECAR_ADMIN_LISTEN", "0.0.0.0:9")]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("127.0.0.1:9") && ended.stderr.contains("hint: "), "{}", ended.stderr);
}
