//! Finds the file, merges it with the environment, and sees it through to
//! [`Settings`](super::Settings).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use config::{Config, FileFormat};
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use serde::Deserialize as _;
use serde_json::Value;

use super::environment::Environment;
use super::problems::Problem;
use super::raw::RawSettings;
use super::resolve::{self, Resolver};
use super::schema::Schema;
use super::{Loaded, SettingsError, defaults, masked, validate};
use crate::escape::OneLine;

/// Where a configuration is looked for when nobody says where it is.
const DEFAULT_PATHS: [&str; 2] = ["./config/receiver.toml", "/etc/ims-receiver/receiver.toml"];

/// Names the file where `--config` does not.
const PATH_VARIABLE: &str = "IMS_RECEIVER_CONFIG";

/// A larger file is no configuration.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why there is no configuration to work with. Each one is bad usage: exit
/// code 64.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No file at any of the usual places.
    #[error("{}", describe_search(tried, example))]
    NotFound {
        /// The paths, in the order in which they were tried.
        tried: Vec<PathBuf>,
        /// The smallest file that works, with a fresh key.
        example: String,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("{}, line {line}, column {column}: {}", path.display(), OneLine(message))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The column in characters, counted from 1.
        column: usize,
        /// What is wrong there; never the text of the line.
        message: String,
    },
    /// The file can be read, and what it says cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// Loads the configuration: from the file `explicit`, else from the one that
/// `IMS_RECEIVER_CONFIG` names, else from `config/receiver.toml`, else from
/// `/etc/ims-receiver/receiver.toml`; with what `env` adds.
///
/// Opens no port and creates no file; reads the files of secrets that the
/// configuration names.
///
/// # Errors
/// [`LoadError`]. Of a file that can be read, every problem is reported.
pub fn load(
    explicit: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, LoadError> {
    let variables: BTreeMap<String, String> = env.collect();
    let path = locate(explicit, &variables)?;
    let text = read(&path)?;
    from_toml(&text, &path, variables)
}

/// The file that [`load`] would read, as a path that is the same wherever one
/// stands, whatever is in it; `None` where none is named and none is found.
pub fn located(
    explicit: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Option<PathBuf> {
    let path = locate(explicit, &env.collect()).ok()?;
    Some(std::path::absolute(&path).unwrap_or(path))
}

fn locate(
    explicit: Option<&Path>,
    variables: &BTreeMap<String, String>,
) -> Result<PathBuf, LoadError> {
    let named = variables.get(PATH_VARIABLE).filter(|path| !path.is_empty());
    match (explicit, named) {
        (Some(path), _) => Ok(path.to_owned()),
        (None, Some(path)) => Ok(PathBuf::from(path)),
        (None, None) => search(&DEFAULT_PATHS.map(PathBuf::from)),
    }
}

/// Loads the configuration from a text that stands, or might stand, in the
/// file `path`.
///
/// # Errors
/// [`LoadError::Syntax`] and [`LoadError::Settings`].
pub fn from_toml(
    text: &str,
    path: &Path,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, LoadError> {
    toml::from_str::<toml::Table>(text).map_err(|error| {
        // The error's own `Display` repeats the line, which may hold a secret.
        syntax(path, text, error.span(), error.message())
    })?;
    let environment = Environment::new(env);
    let written = merge(text, &environment)
        .map_err(|_| syntax(path, text, None, "cannot be merged with the environment"))?;
    understand(written, &environment, path)
}

/// From the merged tree to what it means.
fn understand(
    mut written: Value,
    environment: &Environment,
    path: &Path,
) -> Result<Loaded, LoadError> {
    let schema = Schema::new();
    whole_floats_to_integers(&mut written);
    environment.coerce(&schema, &mut written);
    environment.replace_other_cases(&mut written);

    let mut tree = written.clone();
    schema.fill_defaults(&mut tree);
    let findings = validate::findings(&schema, &tree);
    validate::prune(&schema, &mut tree, &findings);
    schema.fill_defaults(&mut tree);
    defaults::fill_dependent(&mut tree, &written);

    let mut resolver = Resolver::new(&written, environment);
    let settings = match RawSettings::deserialize(&tree) {
        Ok(raw) => resolve::settings(&mut resolver, raw),
        // serde's own words may repeat a value, and values may be secret.
        Err(_) => {
            resolver.problem(
                "configuration",
                "its schema and its reader disagree",
                "please report this",
            );
            None
        }
    };
    let mut problems = environment.problems.clone();
    for finding in findings {
        let below = environment
            .set_under(&finding.problem.key)
            .filter(|_| finding.unknown);
        problems.push(with_variable(finding.problem, environment, below));
    }
    let (resolved, mut warnings) = resolver.into_parts();
    problems.extend(
        resolved
            .into_iter()
            .map(|problem| with_variable(problem, environment, None)),
    );
    problems.sort_by(|a, b| a.key.cmp(&b.key));
    warnings.sort_by(|a, b| a.0.key.cmp(&b.0.key));

    match settings {
        Some(settings) if problems.is_empty() => Ok(Loaded {
            settings,
            warnings,
            path: path.to_owned(),
            masked: masked::render(&schema, &tree),
        }),
        _ => Err(SettingsError { problems, warnings }.into()),
    }
}

/// Says which variable it was, where the value came from the environment.
fn with_variable(mut problem: Problem, environment: &Environment, below: Option<&str>) -> Problem {
    if let Some(variable) = environment.set_by(&problem.key).or(below) {
        problem.problem = format!("{} (set by {variable})", problem.problem);
    }
    problem
}

fn merge(text: &str, environment: &Environment) -> Result<Value, config::ConfigError> {
    Config::builder()
        .add_source(config::File::from_str(text, FileFormat::Toml))
        .add_source(environment.source())
        .build()?
        .try_deserialize()
}

/// `1e6` is a whole number as well.
fn whole_floats_to_integers(value: &mut Value) {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Array(items) => items.iter_mut().for_each(whole_floats_to_integers),
        Value::Object(table) => table.values_mut().for_each(whole_floats_to_integers),
        Value::Number(number) if number.is_f64() => {
            let whole = number
                .as_f64()
                .filter(|n| n.fract() == 0.0 && n.abs() <= EXACT_MAX);
            if let Some(whole) = whole {
                *value = Value::from(whole as i64);
            }
        }
        _ => {}
    }
}

pub(super) fn search(candidates: &[PathBuf]) -> Result<PathBuf, LoadError> {
    for path in candidates {
        match path.metadata() {
            Ok(_) => return Ok(path.clone()),
            Err(error) if is_absent(&error) => {}
            Err(source) => return Err(unreadable(path, source)),
        }
    }
    Err(LoadError::NotFound {
        tried: candidates.to_vec(),
        example: smallest_example(),
    })
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn read(path: &Path) -> Result<String, LoadError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|source| unreadable(path, source))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let source = io::Error::other("it is larger than 1 MiB");
        return Err(unreadable(path, source));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        syntax(path, &before, Some(valid..valid), "is not UTF-8")
    })
}

fn unreadable(path: &Path, source: io::Error) -> LoadError {
    LoadError::Unreadable {
        path: path.to_owned(),
        source,
    }
}

fn syntax(
    path: &Path,
    text: &str,
    span: Option<std::ops::Range<usize>>,
    message: &str,
) -> LoadError {
    let start = span.map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    LoadError::Syntax {
        path: path.to_owned(),
        line,
        column,
        message: message.to_owned(),
    }
}

fn describe_search(tried: &[PathBuf], example: &str) -> String {
    let mut text = "no configuration; none of these files is there:\n".to_owned();
    for path in tried {
        text.push_str(&format!("  {}\n", path.display()));
    }
    text.push_str("Name one with --config FILE or IMS_RECEIVER_CONFIG. The smallest that works, with a key just made up:\n\n");
    text.push_str(example);
    text
}

/// `config/minimal.toml` with a fresh key in place of its file of keys, so
/// that it works as printed and nobody ends up with a key that others know.
fn smallest_example() -> String {
    let minimal = include_str!("../../config/minimal.toml");
    let keys = format!(r#"keys = ["{}"]"#, fresh_key());
    minimal.replace(r#"keys_file = "/run/secrets/ims-keys""#, &keys)
}

/// A key that IMS accepts: 32 letters and digits, each kind among them.
fn fresh_key() -> String {
    const KINDS: [&[u8]; 3] = [
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        b"abcdefghijklmnopqrstuvwxyz",
        b"0123456789",
    ];
    let mut rng = rand::rng();
    let all = KINDS.concat();
    let mut key: Vec<u8> = KINDS
        .iter()
        .filter_map(|kind| kind.choose(&mut rng))
        .copied()
        .collect();
    key.extend((key.len()..32).filter_map(|_| all.choose(&mut rng).copied()));
    key.shuffle(&mut rng);
    key.into_iter().map(char::from).collect()
}
