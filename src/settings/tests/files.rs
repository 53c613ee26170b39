//! Finding the file, and the files that come with the project.

use std::fs;

use super::*;

const NO_ENV: [(String, String); 0] = [];

/// The files in `config/`, with every file that they name put into `folder`.
fn examples(folder: &Path) -> BTreeMap<String, String> {
    let authority = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(config).unwrap() {
        let entry = entry.unwrap();
        if entry
            .path()
            .extension()
            .is_none_or(|ending| ending != "toml")
        {
            continue;
        }
        let mut text = fs::read_to_string(entry.path()).unwrap();
        for name in [
            "ims-keys",
            "production-keys",
            "staging-keys",
            "admin-token",
            "metrics-token",
            "cms-token",
            "access-key-id",
            "access-key-secret",
        ] {
            let file = folder.join(name);
            let secret: String = format!("{name}{KEY}").chars().take(32).collect();
            fs::write(&file, secret).unwrap();
            text = text.replace(&format!("/run/secrets/{name}"), file.to_str().unwrap());
        }
        let file = folder.join("alarm-url");
        fs::write(&file, "https://chat.example/robot?token=x\n").unwrap();
        text = text.replace("/run/secrets/alarm-url", file.to_str().unwrap());
        let file = folder.join("subtitles-env");
        fs::write(&file, "UPLOAD_TOKEN=x\n").unwrap();
        text = text.replace("/run/secrets/subtitles-env", file.to_str().unwrap());
        // Any program that is there will do for the user's own.
        text = text.replace("/usr/local/bin/make-subtitles", "/bin/true");
        let file = folder.join("ca.pem");
        fs::write(&file, authority.cert.pem()).unwrap();
        text = text.replace("/etc/ims-receiver/ca.pem", file.to_str().unwrap());
        found.insert(entry.file_name().into_string().unwrap(), text);
    }
    found
}

/// What an example leaves to the environment: the image's, the URL that only
/// its user knows.
fn environment(name: &str) -> Vec<(String, String)> {
    let urls = (
        "IMS_RECEIVER__SOURCES__DEFAULT__CALLBACK_URLS".to_owned(),
        r#"["https://callbacks.example.com/ims/callback"]"#.to_owned(),
    );
    match name {
        "container.toml" => vec![urls],
        _ => Vec::new(),
    }
}

#[test]
fn every_example_loads() {
    let folder = tempfile::tempdir().unwrap();
    let examples = examples(folder.path());
    for name in [
        "receiver.toml",
        "minimal.toml",
        "forward.toml",
        "shell.toml",
        "behind-proxy.toml",
        "queue.toml",
        "container.toml",
    ] {
        assert!(examples.contains_key(name), "{name}");
    }
    for (name, text) in examples {
        let loaded = from_toml(&text, Path::new(&name), environment(&name));
        let loaded = loaded.unwrap_or_else(|error| panic!("{name}: {error}"));
        let exposed = |w: &&Warning| !w.0.problem.contains("is open to other users");
        let warnings: Vec<_> = loaded.warnings.iter().filter(exposed).collect();
        assert!(warnings.is_empty(), "{name}: {warnings:?}");
        let mut settings = text.lines().filter(|line| !line.starts_with("# "));
        assert!(!settings.any(|line| line.contains("\"none\"")), "{name}");
    }
}

/// The reference with the lines in force that are commented out.
fn reference() -> Value {
    let text = include_str!("../../../config/receiver.toml");
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest,
        _ => line,
    });
    let text: Vec<&str> = lines.collect();
    let table: toml::Table = toml::from_str(&text.join("\n")).unwrap();
    serde_json::to_value(table).unwrap()
}

#[test]
fn the_reference_has_every_key_and_states_the_real_defaults() {
    let reference = reference();
    let schema = Schema::new();
    let mut defaults = 0;
    for table in [
        "server",
        "admin",
        "store",
        "dispatch",
        "telemetry",
        "sources.default",
        "sources.default.auth",
        "sources.queue",
        "sources.queue.credentials",
        "sources.relay.auth",
        "handlers.audit",
        "handlers.cms",
        "handlers.cms.retry",
        "handlers.subtitles",
    ] {
        let node = schema.at(&reference, table.split('.'));
        let stated = &reference
            .pointer(&format!("/{}", table.replace('.', "/")))
            .unwrap();
        for key in node.keys() {
            // What every handler has is explained once, below the second one.
            let common = ["events", "sources", "outcome", "retry"].contains(&key);
            if ["handlers.audit", "handlers.subtitles"].contains(&table) && common {
                continue;
            }
            let stated = stated.get(key);
            assert!(
                stated.is_some(),
                "{table}.{key} is not in config/receiver.toml"
            );
            let child = schema.child(&node, key, &Value::Null);
            let default = child
                .attribute("default")
                .filter(|value| !value.is_object());
            if let Some(default) = default {
                assert_eq!(stated, Some(default), "{table}.{key}");
                defaults += 1;
            }
        }
    }
    assert!(defaults > 29, "{defaults}");
}

#[test]
fn the_file_is_looked_for_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = ["one.toml", "two.toml"].map(|name| folder.path().join(name));
    fs::write(&one, BASE).unwrap();
    fs::write(&two, BASE).unwrap();
    let env = || [("IMS_RECEIVER_CONFIG".to_owned(), two.display().to_string())].into_iter();
    assert_eq!(load(Some(&one), env()).unwrap().path, one);
    assert_eq!(load(None, env()).unwrap().path, two);
    let missing = folder.path().join("none.toml");
    let error = load(Some(&missing), env()).unwrap_err();
    assert!(matches!(error, LoadError::Unreadable { .. }), "{error}");
    assert!(
        error.to_string().contains("none.toml: No such file"),
        "{error}"
    );
}

#[test]
fn without_a_file_the_smallest_one_is_shown_and_works() {
    let nowhere = [PathBuf::from("/does/not/exist.toml")];
    let error = super::super::load::search(&nowhere).unwrap_err();
    let shown = error.to_string();
    assert!(shown.contains("/does/not/exist.toml"), "{shown}");
    assert!(!shown.contains("none\""), "{shown}");
    let start = shown.find("# The smallest").unwrap();
    let example = loaded(&shown[start..], &[]);
    assert_eq!(example.warnings, []);
    let SchemeConfig::Ims(ims) = &example.settings.sources[0].auth else {
        panic!()
    };
    let key = ims.keys[0].expose_secret();
    assert_eq!(key.len(), 32);
    for kind in [char::is_uppercase, char::is_lowercase, char::is_numeric] {
        assert!(key.contains(kind), "{key}");
    }
    assert_ne!(
        super::super::load::search(&nowhere)
            .unwrap_err()
            .to_string(),
        shown
    );
}

#[test]
fn syntax_errors_have_a_place() {
    for (toml, line, column) in [
        ("[server]\nlisten = \n", 2, 10),
        ("[server]\nlisten = 'a'\nlisten = 'b'\n", 3, 1),
        ("x = 99999999999999999999999", 1, 5),
    ] {
        match load_with(toml, &[]) {
            Err(LoadError::Syntax {
                line: l, column: c, ..
            }) => assert_eq!((l, c), (line, column), "{toml}"),
            other => panic!("{toml}: {other:?}"),
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("latin1.toml");
    fs::write(&path, b"# a\n# caf\xe9\n").unwrap();
    let error = load(Some(&path), NO_ENV.into_iter()).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("line 2, column 6: is not UTF-8"),
        "{error}"
    );
    let error = load(Some(folder.path()), NO_ENV.into_iter()).unwrap_err();
    assert!(error.to_string().contains("Is a directory"), "{error}");
}

#[test]
fn a_broken_authority_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    for (content, words) in [
        ("", "holds no PEM certificate"),
        (
            "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
            "its PEM is broken",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "something else than certificates",
        ),
    ] {
        fs::write(&path, content).unwrap();
        let lines = refused(
            &with("handlers.cms", &format!("ca_file = '{}'", path.display())),
            &[],
        );
        assert!(
            lines[0].starts_with("handlers.cms.ca_file: ") && lines[0].contains(words),
            "{lines:?}"
        );
    }
}
