//! The program as users start it: flags, environment variables, exit codes, stdout and stderr.
use std::process::Command;

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
    assert_eq!((exit.code, exit.stdout.starts_with("tfs-sidecar ")), (Some(0), true));
    let exit = tfs_sidecar(&["nonsense"], &[]);
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(2), ""));
}

#[test]
fn a_healthcheck_fails_if_no_sidecar_runs() {
    // Nothing listens on port 9 (`discard`). The address is derived from the one that the sidecar
    // would listen on.
    let exit = tfs_sidecar(&["healthcheck"], &[("TFS_SIDECAR_ADMIN_LISTEN", "0.0.0.0:9")]);
    assert_eq!(exit.code, Some(1));
    assert!(exit.stderr.contains("127.0.0.1:9") && exit.stderr.contains("hint: "), "{}", exit.stderr);
}
