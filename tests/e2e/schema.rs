//! `schema` and `completions`. The schema is judged by a validator that the
//! service does not use itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::output;

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ims-receiver"));
    // Neither command may look for a configuration.
    command.env("IMS_RECEIVER_CONFIG", "/does/not/exist.toml");
    command
}

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let entries = std::fs::read_dir(folder).expect("config/ is there");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect()
}

/// Prints, for each file, the places where it breaks the schema.
const VALIDATE: &str = r#"
import json, sys, tomllib
from jsonschema import Draft202012Validator
schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
found = {}
for path in sys.argv[2:]:
    config = tomllib.load(open(path, "rb"))
    found[path] = [
        [".".join(map(str, error.absolute_path)), error.message]
        for error in validator.iter_errors(config)
    ]
json.dump(found, sys.stdout)
"#;

/// What Debian's python3-jsonschema says about these files.
fn second_opinion(files: &[PathBuf]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let schema = folder.path().join("schema.json");
    let (code, stdout, stderr) = output(program().arg("schema"));
    assert_eq!(code, 0, "{stderr}");
    std::fs::write(&schema, stdout).expect("a file");
    let (code, stdout, stderr) = output(
        Command::new("/usr/bin/python3")
            .args(["-c", VALIDATE])
            .arg(&schema)
            .args(files),
    );
    assert_eq!(code, 0, "tests/run installs python3-jsonschema: {stderr}");
    serde_json::from_str(&stdout).expect("it prints JSON")
}

#[test]
fn the_examples_fit_the_schema() {
    let files = examples();
    assert!(files.len() >= 4, "{files:?}");
    let found = second_opinion(&files);
    for file in files {
        let found = &found[file.to_str().expect("UTF-8")];
        assert_eq!(*found, serde_json::json!([]), "{}", file.display());
    }
}

#[test]
fn what_is_wrong_is_wrong_for_both() {
    let good = include_str!("../../config/minimal.toml");
    let folder = tempfile::tempdir().expect("a folder");
    let cases = [
        ("[server]\nlsten = \"127.0.0.1:1\"\n", "server"),
        ("[store]\npaht = \"x\"\n", "store"),
        ("[handlers.x]\nkind = \"log\"\nurl = \"x\"\n", "handlers.x"),
        ("[handlers.x]\nkind = \"lgo\"\n", "handlers.x.kind"),
        ("[handlers.X]\nkind = \"log\"\n", "handlers"),
        ("[dispatch]\ndrain = \"8 s\"\n", "dispatch.drain"),
        ("[server]\nconnections_max = 0\n", "server.connections_max"),
        ("[sources.x]\nkind = \"http\"\npath = \"/x\"\n", "sources.x"),
        (
            "[sources.x]\nkind = \"http\"\npath = \"/x\"\nauth = { scheme = \"hmac_sha256\", keys = [\"k\"] }\n",
            "sources.x.auth",
        ),
    ];
    let files: Vec<PathBuf> = (0..cases.len())
        .map(|number| folder.path().join(format!("{number}.toml")))
        .collect();
    for (file, (wrong, _)) in files.iter().zip(cases) {
        std::fs::write(file, format!("{good}\n{wrong}")).expect("a file");
    }
    let theirs = second_opinion(&files);
    for (file, (wrong, place)) in files.iter().zip(cases) {
        let theirs = theirs[file.to_str().expect("UTF-8")].as_array();
        let theirs = theirs.expect("a list of errors");
        assert_eq!(theirs.len(), 1, "{wrong} {theirs:?}");
        assert_eq!(theirs[0][0], place, "{wrong} {theirs:?}");
        let (code, ours, _) = output(program().arg("--config").arg(file).arg("check"));
        assert_eq!(code, 64, "{wrong} {ours}");
        let named = |line: &str| line.starts_with(place);
        assert!(ours.lines().any(named), "{wrong} {ours}");
    }
}

#[test]
fn every_shell_has_its_completions() {
    for (shell, words) in [
        ("bash", "complete -F "),
        ("zsh", "#compdef ims-receiver"),
        ("fish", "complete -c ims-receiver"),
        ("elvish", "edit:completion:arg-completer[ims-receiver]"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let (code, stdout, stderr) = output(program().args(["completions", shell]));
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.contains(words), "{shell}: {stdout}");
        for command in ["serve", "explain", "completions"] {
            assert!(stdout.contains(command), "{shell} lacks {command}");
        }
    }
    let (code, _, stderr) = output(program().args(["completions", "tcsh"]));
    assert_eq!(code, 64);
    assert!(stderr.contains("powershell"), "{stderr}");
    assert_eq!(output(program().arg("completions")).0, 64);
}

#[test]
fn bash_takes_its_completions() {
    let (_, script, _) = output(program().args(["completions", "bash"]));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ims-receiver.bash");
    std::fs::write(&file, script).expect("a file");
    let ask = r#"source "$1"; COMP_WORDS=(ims-receiver ch); COMP_CWORD=1
        function=$(complete -p ims-receiver | sed 's/.*-F \([^ ]*\).*/\1/')
        "$function" ims-receiver ch ims-receiver; echo "${COMPREPLY[*]}""#;
    let (code, stdout, stderr) = output(
        Command::new("bash")
            .args(["--norc", "-c", ask, "bash"])
            .arg(&file),
    );
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(stdout.trim(), "check");
}
