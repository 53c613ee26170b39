//! Why a profile gave no credentials.
//!
//! The providers pass over what they cannot use without a word; whoever wrote
//! the profile wonders then who signed.

use std::path::PathBuf;

use reqsign_core::Env as _;
use serde_json::Value;

use super::Variables;
use crate::mns::error::printable;

/// How much of a name or mode out of a file is shown.
const WORD_BYTES: usize = 64;

/// Files of profiles are short.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the file of the `aliyun` command can hold that is read here.
const CLI_MODES: &str = "AK and StsToken";

/// What a file of profiles can hold that is read here.
const INI_TYPES: &str = "access_key and sts";

/// Why the file of the `aliyun` command gave none, where it is there or was
/// named.
pub(super) fn cli_file(variables: &Variables) -> Option<String> {
    const NAMED: &str = "ALIBABA_CLOUD_CONFIG_FILE";
    let file = match variables.var(NAMED) {
        Some(file) => at_home(variables, &file)?,
        None => at_home(variables, "~/.aliyun/config.json")?,
    };
    let text = read(variables, NAMED, &file)?;
    let parsed: Value = match text.map(|text| serde_json::from_str(&text)) {
        Ok(Ok(parsed)) => parsed,
        Ok(Err(_)) => return Some(format!("{} is no JSON", file.display())),
        Err(problem) => return Some(problem),
    };
    let named = variables.var("ALIBABA_CLOUD_PROFILE");
    let name = named
        .or_else(|| parsed["current"].as_str().map(str::to_owned))
        .unwrap_or_else(|| "default".to_owned());
    let mut profiles = parsed["profiles"].as_array().into_iter().flatten();
    let profile = profiles.find(|profile| profile["name"] == name.as_str());
    Some(match profile.map(|profile| profile["mode"].as_str()) {
        None => no_profile(&file, &name),
        Some(mode) => unusable(
            &file,
            &name,
            mode,
            CLI_MODES,
            &["ak", "ststoken", "sts_token", "sts"],
        ),
    })
}

/// The same of the file of profiles.
pub(super) fn profile_file(variables: &Variables) -> Option<String> {
    const NAMED: &str = "ALIBABA_CLOUD_CREDENTIALS_FILE";
    let named = variables.var("ALIBABA_CLOUD_PROFILE");
    let name = named.unwrap_or_else(|| "default".to_owned());
    let files = match variables.var(NAMED) {
        Some(file) => vec![at_home(variables, &file)],
        None => vec![
            at_home(variables, "~/.alibabacloud/credentials.ini"),
            at_home(variables, "~/.aliyun/credentials.ini"),
        ],
    };
    files.into_iter().flatten().find_map(|file| {
        let text = match read(variables, NAMED, &file)? {
            Ok(text) => text,
            Err(problem) => return Some(problem),
        };
        Some(match section(&text, &name) {
            None => no_profile(&file, &name),
            Some(kind) => unusable(
                &file,
                &name,
                kind,
                INI_TYPES,
                &["access_key", "sts", "sts_token"],
            ),
        })
    })
}

/// The text of a file; `None` where it is not there and nobody named it.
fn read(variables: &Variables, named: &str, file: &PathBuf) -> Option<Result<String, String>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file);
    match opened.and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)) {
        Ok(_) => Some(Ok(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !variables.has(named) => None,
        Err(error) => Some(Err(format!("cannot read {}: {error}", file.display()))),
    }
}

fn at_home(variables: &Variables, file: &str) -> Option<PathBuf> {
    match file.strip_prefix("~/") {
        Some(rest) => Some(variables.home_dir()?.join(rest)),
        None => Some(file.into()),
    }
}

fn no_profile(file: &std::path::Path, name: &str) -> String {
    let name = printable(name, WORD_BYTES);
    format!("{} has no profile \"{name}\"", file.display())
}

fn unusable(
    file: &std::path::Path,
    name: &str,
    mode: Option<&str>,
    supported: &str,
    known: &[&str],
) -> String {
    let (file, name) = (file.display(), printable(name, WORD_BYTES));
    match mode.map(str::trim) {
        Some(mode) if !known.iter().any(|one| mode.eq_ignore_ascii_case(one)) => {
            let mode = printable(mode, WORD_BYTES);
            format!(
                "profile \"{name}\" of {file} is of the kind \"{mode}\", which is not supported ({supported} are)"
            )
        }
        _ => format!("profile \"{name}\" of {file} has no key, or is switched off"),
    }
}

/// The `type` of a section, if the section is there.
fn section<'t>(text: &'t str, name: &str) -> Option<Option<&'t str>> {
    let is_heading = |line: &&str| line.starts_with('[');
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| {
        let inner = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        inner.is_some_and(|inner| inner.trim() == name)
    })?;
    let pairs = lines.take_while(|line| !is_heading(line));
    let kind = pairs
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| key.trim() == "type");
    Some(kind.map(|(_, kind)| kind.trim()))
}
