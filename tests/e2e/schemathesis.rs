//! The description of the API held against the running service, by a program
//! that reads it and tries everything that it says, and what it does not say.

use std::path::Path;
use std::process::Command;

use crate::harness::{Folder, accepted, body, output};

const INSTALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis/install");
const TOKEN: &str = "a-token-for-schemathesis";

#[test]
fn the_api_is_what_its_description_says() {
    let installed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemathesis");
    if !installed.join("installed").exists() {
        let (code, stdout, stderr) = output(Command::new(INSTALL).arg(&installed));
        assert_eq!(
            code, 0,
            "schemathesis needs python3 with pip; tests/run installs both: {stdout}{stderr}"
        );
    }
    let folder = Folder::with_log().set("admin.token", TOKEN);
    let service = folder.start();
    for number in 0..20 {
        accepted(service.ingest, &body(number));
    }
    let mut command = Command::new("python3");
    command
        .env("PYTHONPATH", installed.join("python"))
        .current_dir(folder.path("."))
        .args(["-m", "schemathesis.cli", "run"])
        .arg(format!("http://{}/openapi.json", service.admin))
        .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
        // The same requests every time, and few enough for a test run.
        .args(["--seed", "6", "--max-examples", "15", "--no-shrink"])
        .args(["--phases", "examples,coverage,fuzzing", "--workers", "1"])
        .args(["--checks", "all", "--request-timeout", "20"])
        // No schema says that a handler is configured, a glob closes its
        // brackets, or a redelivery names a filter.
        .args(["--exclude-checks", "positive_data_acceptance"])
        // An endless answer, and lines that it cannot make: their tests are
        // in `api`.
        .args(["--exclude-path", "/api/tail"])
        .args(["--exclude-path", "/api/import"])
        .args(["--suppress-health-check", "all", "--warnings", "off"]);
    let (code, stdout, stderr) = output(&mut command);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("passed"), "{stdout}");
}
