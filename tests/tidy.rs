//! The house rules that a machine can hold: layers, banned words, file sizes.

use std::path::{Path, PathBuf};

/// The layers, innermost first. A module imports from its own layer and from
/// those before it.
const LAYERS: [&[&str]; 5] = [
    &[
        "clock",
        "escape",
        "request",
        "signature",
        "event",
        "delivery",
        "filter",
        "throttle",
    ],
    &["handler", "store", "trace"],
    &["dispatch", "ingest"],
    &["server", "mns"],
    &[
        "settings",
        "key_files",
        "app",
        "lifecycle",
        "telemetry",
        "sender",
        "cli",
    ],
];

const LINES_MAX: usize = 500;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("src can be read") {
        let path = entry.expect("src can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    assert!(found.len() > 50, "src was not found");
    found
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("sources are UTF-8");
            (
                path.strip_prefix(&root).expect("below src").to_owned(),
                text,
            )
        })
        .collect()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn is_test(path: &Path) -> bool {
    let text = path.to_string_lossy();
    // The catalogue's page is written by a module that only tests compile.
    text.contains("tests") || text.contains("conformance") || text == "event/ims/docs.rs"
}

/// The text before the tests beside the code.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap_or(text)
}

#[test]
fn imports_only_look_back() {
    for (path, text) in all_sources() {
        let module = path.iter().next().expect("a first part").to_string_lossy();
        let Some(own) = layer(module.trim_end_matches(".rs")) else {
            continue;
        };
        if is_test(&path) {
            continue;
        }
        for line in without_tests(&text).lines() {
            let Some(rest) = line.trim_start().strip_prefix("use crate::") else {
                continue;
            };
            let imported: String = rest
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            let theirs = layer(&imported).unwrap_or_else(|| panic!("{path:?} imports {imported}"));
            assert!(theirs <= own, "{path:?} looks ahead: {line}");
        }
    }
}

#[test]
fn nothing_is_left_undone() {
    for (path, text) in all_sources() {
        for banned in ["todo!(", "unimplemented!(", "dbg!(", "#[ignore", "FIXME"] {
            assert!(!text.contains(banned), "{path:?} holds {banned}");
        }
        if !is_test(&path) {
            let code = without_tests(&text);
            let unwraps = code
                .lines()
                .filter(|line| line.contains(".unwrap()") && !line.trim_start().starts_with("//"));
            assert_eq!(unwraps.count(), 0, "{path:?} unwraps outside tests");
        }
    }
}

#[test]
fn files_stay_readable() {
    for (path, text) in all_sources() {
        let lines = without_tests(&text).lines().count();
        assert!(
            is_test(&path) || lines <= LINES_MAX,
            "{path:?} has {lines} lines"
        );
    }
}
