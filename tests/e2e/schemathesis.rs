//! The description of the API held against the running service, by a program
//! that reads it and tries everything that it says, and what it does not say.

use std::path::Path;
use std::process::Command;

use crate::harness::{Folder, accepted, body, output};

const INSTALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis/install");
const CHECKS: &str = "not_a_server_error,content_type_conformance,\
response_headers_conformance,response_schema_conformance,ignored_auth";
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
        .args(["--seed", "6", "--max-examples", "40", "--no-shrink"])
        // One at a time: its phase of coverage, and threads, meet a fault of
        // CPython 3.11 now and then ("AST constructor recursion depth mismatch").
        .args(["--phases", "examples,fuzzing", "--workers", "1"])
        // The description says what is answered, not yet how long each word may
        // be, so a word that it admits may still be refused with 400.
        .args(["--checks", CHECKS, "--request-timeout", "20"])
        // An endless answer, and a body that this program cannot make: their
        // tests are in `api`.
        .args(["--exclude-path", "/api/tail"])
        .args(["--exclude-path", "/api/import"])
        .args(["--suppress-health-check", "all", "--warnings", "off"]);
    let (code, stdout, stderr) = output(&mut command);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("passed"), "{stdout}");
}
