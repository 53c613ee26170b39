//! The keys of a `shell` handler.

use std::collections::BTreeSet;
use std::ffi::OsString;

use secrecy::{ExposeSecret as _, SecretString};

use super::Resolver;
use crate::handler::shell::{ShellConfig, program};
use crate::settings::problems::dotted;
use crate::settings::raw::{RawCommand, RawShell};
use crate::settings::secrets;

/// Command and environment together, in bytes. Every system starts a command
/// with 128 KiB of both, whatever its limits, and the event's own variables
/// take up to 37.
const BYTES_MAX: usize = 64 * 1024;

pub(super) fn resolve(r: &mut Resolver<'_>, key: &str, raw: RawShell) -> Option<ShellConfig> {
    let env = environment(r, key, &raw.env_file, raw.env);
    let command_key = format!("{key}.command");
    let command = match raw.command? {
        RawCommand::Argv(argv) => argv,
        RawCommand::Script(script) => vec!["/bin/sh".to_owned(), "-c".to_owned(), script],
    };
    if let Some((problem, hint)) = command_fault(&command) {
        r.problem(command_key, problem, hint);
        return None;
    }
    let env = env?;
    let words = command.iter().map(|word| word.len() + 1);
    let variables = env.iter();
    let variables = variables.map(|(name, value)| name.len() + value.expose_secret().len() + 2);
    let bytes: usize = words.chain(variables).sum();
    if bytes > BYTES_MAX {
        r.problem(
            command_key,
            format!("takes {bytes} bytes together with env, more than every system can start"),
            format!("keep both below {BYTES_MAX} bytes: write a script, and name it here"),
        );
        return None;
    }
    let config = ShellConfig { command, env };
    check_program(r, &command_key, &config);
    Some(config)
}

fn environment(
    r: &mut Resolver<'_>,
    key: &str,
    file: &Option<std::path::PathBuf>,
    inline: Option<std::collections::BTreeMap<String, SecretString>>,
) -> Option<Vec<(String, SecretString)>> {
    let key = format!("{key}.env");
    if inline.is_some() && file.is_some() {
        r.both(&key);
    }
    let variables = match (inline, file) {
        (Some(variables), _) => variables.into_iter().collect(),
        (None, Some(file)) => r.secret_file(&key, file, secrets::read_variables)?,
        (None, None) => Vec::new(),
    };
    let mut seen = BTreeSet::new();
    let mut all_fit = true;
    for (name, value) in &variables {
        let fault = variable_fault(name, value).or_else(|| {
            let is_new = seen.insert(name.clone());
            (!is_new).then_some(("stands there twice", "remove one of the two"))
        });
        if let Some((problem, hint)) = fault {
            all_fit = false;
            r.problem(dotted(&key, name), problem, hint);
        }
    }
    all_fit.then_some(variables)
}

fn variable_fault(name: &str, value: &SecretString) -> Option<(&'static str, &'static str)> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.is_empty() || name.as_bytes()[0].is_ascii_digit() || !name.bytes().all(fits) {
        return Some((
            "is no name of a variable",
            "write letters, digits and `_`, and no digit in front",
        ));
    }
    if name.starts_with("IMS_") {
        return Some(("is set by the service itself", "give it another name"));
    }
    value.expose_secret().contains('\0').then_some((
        "its value holds a NUL character, which no environment can",
        "remove it",
    ))
}

fn command_fault(command: &[String]) -> Option<(&'static str, &'static str)> {
    if command[0].is_empty() {
        return Some((
            "its first text, the program, is empty",
            r#"write command = ["/usr/local/bin/make-subtitles"]"#,
        ));
    }
    let has_nul = command.iter().any(|word| word.contains('\0'));
    has_nul.then_some(("holds a NUL character, which no command can", "remove it"))
}

/// A program that is not there is a warning only: it may be installed, or its
/// disk mounted, while the service runs.
fn check_program(r: &mut Resolver<'_>, key: &str, config: &ShellConfig) {
    let name = &config.command[0];
    let mut own = config.env.iter();
    let path = own.find(|(name, _)| name == "PATH").map_or_else(
        || std::env::var_os("PATH"),
        |(_, value)| Some(OsString::from(value.expose_secret())),
    );
    let fault = match program::find(name, path.as_deref()) {
        None => format!("there is no program \"{name}\" in PATH"),
        Some(file) => match program::can_run(&file) {
            Ok(()) => return,
            Err(error) => format!("{name} cannot be run: {error}"),
        },
    };
    r.warn(
        key,
        fault,
        "install it and make it executable, or correct the path; until then every attempt fails",
    );
}
