//! Commands and exit codes.

use std::process::{Command, Stdio};

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

/// As `… | head -1` does it, once it has its line.
#[test]
fn a_reader_that_has_seen_enough_ends_a_command_quietly() {
    let folder = Folder::new("");
    for arguments in [
        &["completions", "bash"][..],
        &["schema"],
        &["check"],
        &["sign", "--url", "https://a.example/", "--key", "k"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = folder.command();
        let child = command.args(arguments).stdout(writer);
        let child = child.stderr(Stdio::piped()).spawn();
        let ended = child.expect("it starts").wait_with_output();
        let ended = ended.expect("it ends");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(stderr, "", "{arguments:?}");
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn a_file_where_the_folder_of_the_store_is_to_be_is_called_one() {
    let folder = Folder::new("");
    std::fs::write(folder.path("data"), "").expect("a file");
    for path in ["data/events.db", "data/deeper/events.db"] {
        let path = folder.path(path).display().to_string();
        let mut command = folder.command();
        command.env("IMS_RECEIVER__STORE__PATH", path);
        let (code, stdout, stderr) = output(command.arg("serve"));
        let said = format!("{stdout}{stderr}");
        assert_eq!(code, 64, "{said}");
        assert!(said.contains("data is a file"), "{said}");
        assert!(!said.contains("chown"), "{said}");
    }
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
    let page = stderr.lines().find(|line| line.starts_with("look at it "));
    assert!(
        page.is_some_and(|line| line.contains("http://127.0.0.1:")),
        "{stderr}"
    );
}

#[test]
fn check_store_and_doctor_say_which_configuration_they_read() {
    let folder = crate::harness::Folder::with_log();
    let service = folder.start();
    // Named as one stands, shown as it is from everywhere.
    let file = folder.path("receiver.toml").display().to_string();
    let run = |arguments: &[&str]| {
        let mut command = folder.command();
        let (code, stdout, stderr) = output(command.args(arguments));
        (code, format!("{stderr}{stdout}"))
    };
    let (code, said) = run(&["check"]);
    assert_eq!(code, 0, "{said}");
    let line = format!("# configuration {file}: no problems\n");
    assert!(said.contains(&line), "{said}");
    let (code, said) = run(&["store", "check"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.starts_with(&format!("configuration {file}\n")),
        "{said}"
    );
    let url = format!("http://{}", service.admin);
    let (code, said) = run(&["doctor", "--admin", &url]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("{file}: no problems")), "{said}");
    std::fs::write(&file, "[server]\nlisten = 1\n").expect("the configuration");
    let (code, said) = run(&["check"]);
    assert_eq!(code, 64, "{said}");
    assert!(
        said.starts_with(&format!("configuration {file}\n")),
        "{said}"
    );
    let (code, said) = run(&["doctor", "--admin", &url]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&format!("{file}: ")), "{said}");
}

#[test]
fn sign_takes_the_url_by_the_name_that_send_has_for_it() {
    let signed = |option: &str| {
        let arguments = [
            "sign",
            option,
            "https://a.example/",
            "--key",
            "k",
            "--timestamp",
            "7",
        ];
        let (code, stdout, stderr) = output(program().args(arguments));
        assert_eq!(code, 0, "{stderr}");
        stdout
    };
    assert_eq!(signed("--url"), signed("--callback-url"));
}
