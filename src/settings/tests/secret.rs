//! Secrets: read from files, and never shown.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::settings::secrets::{read_keys, read_one};

fn file(content: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    file
}

#[test]
fn files_of_keys_are_read_generously() {
    for content in [
        "one\ntwo\n",
        "\u{feff}one\r\ntwo\r\n",
        "\n  one \t\n\n\ttwo",
        "one\n\u{a0}\ntwo\u{3000}\n\n",
    ] {
        let keys = read_keys(file(content.as_bytes()).path()).unwrap();
        let keys: Vec<&str> = keys.iter().map(|key| key.expose_secret()).collect();
        assert_eq!(keys, ["one", "two"], "{content:?}");
    }
}

#[test]
fn what_is_wrong_in_a_file_is_named_by_its_line() {
    for (content, words) in [
        (&b""[..], "nothing but blank lines"),
        (b"\n \r\n", "nothing but blank lines"),
        (b"one\ncanary two\n", "line 2 has a blank"),
        (b"canary\n\nx\ncanary\n", "line 4 repeats line 1"),
        (b"one\ncan\xffary\n", "line 2 is not UTF-8"),
        (b"can\0ary", "line 1 has a blank or a control character"),
        (&[b'c'; 70_000], "larger than 64 KiB"),
    ] {
        let file = file(content);
        let error = read_keys(file.path()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
    assert!(
        read_one(file(b"a\n\nb\n").path())
            .unwrap_err()
            .to_string()
            .contains("line 3 is one too many")
    );
    assert_eq!(
        read_one(file(b"\xef\xbb\xbf a \r\n").path())
            .unwrap()
            .expose_secret(),
        "a"
    );
}

#[test]
fn every_secret_can_come_from_a_file() {
    let [token, url, headers, keys] = [
        &b"token\n"[..],
        b"https://h.example/x?t=1\n",
        b"X-Robot: a b\nauthorization2: c\n",
        b"Abcdefghijklmnopqrst\nBbcdefghijklmnopqrst\n",
    ]
    .map(file);
    let path = |file: &tempfile::NamedTempFile| file.path().display().to_string();
    let toml = format!(
        r#"
        [admin]
        listen = "0.0.0.0:9090"
        token_file = "{token}"
        [sources.a]
        kind = "http"
        path = "/a"
        callback_urls = ["https://h.example/a"]
        auth = {{ scheme = "ims", keys_file = "{keys}" }}
        [handlers.f]
        kind = "forward"
        url_file = "{url}"
        bearer_token_file = "{token}"
        headers_file = "{headers}"
        "#,
        token = path(&token),
        keys = path(&keys),
        url = path(&url),
        headers = path(&headers),
    );
    let loaded = loaded(&toml, &[]);
    assert_eq!(loaded.warnings, []);
    let s = loaded.settings;
    assert_eq!(s.admin.token.unwrap().expose_secret(), "token");
    let SchemeConfig::Ims(ims) = &s.sources[0].auth else {
        panic!()
    };
    assert_eq!(ims.keys.len(), 2);
    let HandlerConfig::Forward(forward) = &s.handlers[0].handler else {
        panic!()
    };
    assert_eq!(forward.url.expose_secret(), "https://h.example/x?t=1");
    let names: Vec<&str> = forward
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["authorization2", "x-robot"]);

    fs::set_permissions(keys.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = warnings(&toml);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("warning: sources.a.auth.keys_file: "),
        "{warnings:?}"
    );
}

const CANARY: &str = "C4naryC4naryC4nary";

/// Every place that may hold a secret, right and wrong in turn.
fn canaries() -> Vec<String> {
    let mut all = Vec::new();
    for value in [
        format!("'{CANARY}'"),
        format!("'{CANARY} {CANARY}'"),
        format!("\"{CANARY}\\u0007ü\""),
        format!("['{CANARY}']"),
        format!("{{ {CANARY}_ = '{CANARY}' }}").replace(&format!("{CANARY}_"), "x"),
        format!("'https://{CANARY}:{CANARY}@h.example/p?{CANARY}=1'"),
        format!("'https://{CANARY}:{CANARY}@:99999/{CANARY}'"),
    ] {
        for key in ["url", "bearer_token", "headers", "kind_", "retry"] {
            all.push(with("handlers.cms", &format!("{key} = {value}")));
        }
        all.push(with(
            "handlers.cms",
            &format!("headers = {{ X-A = {value} }}"),
        ));
        for key in ["token", "metrics_token"] {
            all.push(with("admin", &format!("{key} = {value}")));
        }
        for key in ["otlp_endpoint", "otlp_headers"] {
            all.push(with("telemetry", &format!("{key} = {value}")));
        }
        all.push(with("sources.default", &format!("auth = {value}")));
        for key in ["endpoint", "credentials"] {
            all.push(with("sources.queue", &format!("{key} = {value}")));
        }
        for key in ["access_key_id", "access_key_secret", "security_token"] {
            let line = format!("{key} = {value}");
            all.push(with("sources.queue.credentials", &line));
        }
        all.push(with_auth(&format!("scheme = 'ims'\nkeys = {value}")));
        all.push(with_auth(&format!("scheme = 'ims'\nkeys = [{value}]")));
        all.push(with_auth(&format!(
            "scheme = 'ims'\nkeys = [{value}, {value}]"
        )));
        all.push(with("server", &format!("body_bytes_max = {value}")));
    }
    all
}

#[test]
fn a_secret_never_shows() {
    let (mut accepted, mut refused) = (0, 0);
    for toml in canaries() {
        let shown = match load_with(&toml, &[]) {
            Ok(loaded) => {
                accepted += 1;
                format!("{}{:?}{loaded:?}", masked(&loaded), loaded.warnings)
            }
            Err(error) => {
                refused += 1;
                format!("{error}{error:?}")
            }
        };
        assert!(!shown.contains(CANARY), "{toml}\n{shown}");
    }
    assert!(accepted > 5 && refused > 20, "{accepted} {refused}");
}

#[test]
fn a_broken_file_does_not_show_its_line() {
    for broken in [
        "keys = ['C4naryC4naryC4nary'",
        "x = 'C4naryC4naryC4nary",
        "token = C4naryC4naryC4nary",
        "C4naryC4naryC4nary",
    ] {
        let toml = format!("{BASE}\n[admin]\n{broken}\n");
        let error = load_with(&toml, &[]).unwrap_err();
        assert!(matches!(error, LoadError::Syntax { .. }), "{error}");
        let shown = format!("{error}{error:?}");
        assert!(!shown.contains(CANARY), "{shown}");
        assert!(shown.starts_with("receiver.toml, line "), "{shown}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
}

#[test]
fn masked_shows_all_but_the_secrets() {
    let toml = with(
        "handlers.cms",
        "url = 'https://u:p@h.example:8443/a/b?t=1'\nheaders = { X-Team = 'C4nary' }",
    );
    let loaded = loaded(&toml, &[("IMS_RECEIVER__ADMIN__TOKEN", "C4nary")]);
    let shown: toml::Table = toml::from_str(masked(&loaded)).unwrap();
    let cms = &shown["handlers"]["cms"];
    assert_eq!(
        cms["url"].as_str(),
        Some("https://***:***@h.example:8443/a/b?***")
    );
    assert_eq!(cms["headers"]["X-Team"].as_str(), Some("***"));
    assert_eq!(cms["retry"]["max_age"].as_str(), Some("3d"));
    assert_eq!(cms["concurrency"].as_integer(), Some(16));
    assert_eq!(shown["admin"]["token"].as_str(), Some("***"));
    assert_eq!(
        shown["server"]["body_bytes_max"].as_integer(),
        Some(1_048_576)
    );
    assert_eq!(
        shown["handlers"]["audit"]["body_bytes_max"].as_integer(),
        Some(8192)
    );
    let auth = &shown["sources"]["default"]["auth"];
    assert_eq!(auth["keys"][0].as_str(), Some("***"));
    assert_eq!(auth["tolerance"].as_str(), Some("5m"));
}

/// The problems of a configuration whose three secrets are at `path`.
fn problems_of_secrets_at(path: &Path) -> Vec<Problem> {
    let path = path.display();
    let toml = format!(
        r#"
        [admin]
        listen = "0.0.0.0:9090"
        token_file = "{path}"
        [sources.a]
        kind = "http"
        path = "/a"
        callback_urls = ["https://h.example/a"]
        auth = {{ scheme = "ims", keys_file = "{path}" }}
        [handlers.f]
        kind = "forward"
        url = "https://h.example/"
        bearer_token_file = "{path}"
        "#
    );
    match from_toml(&toml, Path::new("t.toml"), []) {
        Err(LoadError::Settings(error)) => error.problems,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_missing_secret_of_ours_comes_with_the_command_that_makes_one() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("it's new");
    for problem in problems_of_secrets_at(&missing) {
        let hint = problem.hint.unwrap();
        assert!(hint.contains("create the file"), "{hint}");
        let Some((_, command)) = hint.split_once("a new one: ") else {
            // Their service gives it to them; a random one would be of no use.
            assert_eq!(problem.key, "handlers.f.bearer_token_file");
            continue;
        };
        let shell = std::process::Command::new("sh")
            .args(["-c", command])
            .status();
        assert!(shell.unwrap().success(), "{command}");
        let made = read_one(&missing).unwrap();
        assert_eq!(made.expose_secret().len(), 32);
        assert!(
            made.expose_secret()
                .bytes()
                .all(|b| b.is_ascii_alphanumeric())
        );
        let mode = missing.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
        fs::remove_file(&missing).unwrap();
    }
}

#[test]
fn a_folder_in_place_of_a_secret_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let problems = problems_of_secrets_at(folder.path());
    assert_eq!(problems.len(), 3);
    for problem in problems {
        let hint = problem.hint.unwrap();
        assert!(hint.contains("container engines"), "{hint}");
        let ours = problem.key != "handlers.f.bearer_token_file";
        assert_eq!(hint.contains("a new one: "), ours, "{hint}");
    }
}
