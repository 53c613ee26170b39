//! Any text as the configuration, and what follows a line `---` as variables
//! of the environment: every mistake is one line that begins with its key, and
//! what loads can be loaded again from what `check` prints.

#![no_main]

use std::path::Path;

use ims_receiver::settings::{LoadError, Loaded, Warning, from_toml, masked};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Corpus::Reject;
    };
    let (file, environment) = text.split_once("\n---\n").unwrap_or((text, ""));
    let environment = environment.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    match from_toml(file, Path::new("fuzz.toml"), environment) {
        Ok(loaded) => check_loaded(&loaded),
        Err(error) => check_refused(&error),
    }
    Corpus::Keep
});

/// Stands where a secret was.
const MASK: &str = "***";

fn check_loaded(loaded: &Loaded) {
    loaded.warnings.iter().for_each(check_warning);
    let shown = masked(loaded);
    assert!(!shown.is_empty(), "the settings cannot be printed");
    if shown.contains(MASK) {
        toml::from_str::<toml::Table>(shown).expect("what is printed is TOML");
        return;
    }
    let again = match from_toml(shown, &loaded.path, []) {
        Ok(again) => again,
        Err(error) => panic!("what was printed does not load: {error}\n{shown}"),
    };
    assert_eq!(
        masked(&again),
        shown,
        "what was printed means something else"
    );
    assert_eq!(
        format!("{:?}", again.settings),
        format!("{:?}", loaded.settings),
        "what was printed means something else"
    );
}

fn check_refused(error: &LoadError) {
    let LoadError::Settings(settings) = error else {
        let line = error.to_string();
        assert!(line.starts_with("fuzz.toml, line "), "{line:?}");
        check_line(&line);
        return;
    };
    assert!(!settings.problems.is_empty(), "refused without a reason");
    for problem in &settings.problems {
        let line = problem.to_string();
        check_line(&line);
        // What a variable means that names no key, nobody can say.
        let names_key = !line.ends_with(": write IMS_RECEIVER__SERVER__LISTEN for server.listen");
        assert!(
            !names_key || begins_with_key(&line),
            "no key in front: {line:?}"
        );
        assert!(
            !line.contains("please report this"),
            "a fault of ours: {line:?}"
        );
    }
    settings.warnings.iter().for_each(check_warning);
    let all = error.to_string();
    assert_eq!(all.lines().count(), settings.problems.len(), "{all}");
}

fn check_warning(warning: &Warning) {
    let line = warning.to_string();
    check_line(&line);
    let rest = line.strip_prefix("warning: ").expect("a warning says so");
    assert!(begins_with_key(rest), "no key in front: {line:?}");
}

fn check_line(line: &str) {
    let breaks = |c: char| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c);
    assert!(!line.contains(breaks), "more than one line: {line:?}");
    // The longest text that a message repeats is a key or a path of 4 KiB.
    assert!(line.len() < 64 * 1024, "{} bytes", line.len());
}

/// `a.b-c."d e"[0]: …`
fn begins_with_key(line: &str) -> bool {
    let mut rest = line;
    loop {
        rest = match segment(rest) {
            Some(rest) => rest,
            None => return false,
        };
        while let Some(index) = rest.strip_prefix('[') {
            let Some(behind) = index
                .trim_start_matches(|c: char| c.is_ascii_digit())
                .strip_prefix(']')
            else {
                return false;
            };
            rest = behind;
        }
        match rest.strip_prefix('.') {
            Some(behind) => rest = behind,
            None => return rest.starts_with(": "),
        }
    }
}

/// What follows one segment of a dotted key.
fn segment(text: &str) -> Option<&str> {
    let Some(quoted) = text.strip_prefix('"') else {
        let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let rest = text.trim_start_matches(bare);
        return (rest.len() < text.len()).then_some(rest);
    };
    let mut escaped = false;
    let end = quoted.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some(&quoted[end + 1..])
}
