//! Commands and exit codes.

use std::process::Command;

use crate::harness::{Folder, output};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ims-receiver"))
}

#[test]
fn without_a_configuration_the_way_to_one_is_shown() {
    let empty = tempfile::tempdir().expect("a folder");
    let missing = empty.path().join("receiver.toml");
    let (code, _, stderr) = output(program().arg("--config").arg(&missing).arg("serve"));
    assert_eq!(code, 64);
    assert!(stderr.contains("receiver.toml"), "{stderr}");
    assert!(!stderr.contains(r#"scheme = "none""#), "{stderr}");
}

#[test]
fn the_known_vector_is_signed() {
    let (code, stdout, _) = output(program().args([
        "sign",
        "--url",
        "https://www.example.com/your/callback",
        "--timestamp",
        "1519375990",
        "--key",
        "test123",
    ]));
    assert_eq!(code, 0);
    let expected =
        "X-ICE-TIMESTAMP: 1519375990\nX-ICE-SIGNATURE: c72b60894140fa98920f1279219b7ed4\n";
    assert_eq!(stdout, expected);
}

#[test]
fn usage_errors_are_64_and_help_is_0() {
    assert_eq!(output(program().arg("--no-such-flag")).0, 64);
    assert_eq!(output(program().arg("no-such-command")).0, 64);
    assert_eq!(output(program().arg("--help")).0, 0);
}

#[test]
fn check_names_every_problem_and_serve_refuses_alike() {
    let folder = Folder::new(
        "[handlers.a]\nkind = \"log\"\ntimeout = \"soon\"\n[handlers.b]\nkind = \"lgo\"\n",
    );
    let (code, stdout, _) = output(folder.command().arg("check"));
    assert_eq!(code, 64);
    assert!(stdout.contains("handlers.a.timeout: "), "{stdout}");
    assert!(stdout.contains("handlers.b.kind: "), "{stdout}");
    assert!(!folder.path("data").exists(), "check makes no file");
    assert_eq!(output(folder.command().arg("serve")).0, 64);
}

#[test]
fn the_demo_ends_by_itself_and_acks_all() {
    let (code, stdout, stderr) = output(program().args(["demo", "--count", "3"]));
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(stdout.lines().count(), 3, "{stdout}");
    assert!(stderr.contains("acked 3"), "{stderr}");
}
