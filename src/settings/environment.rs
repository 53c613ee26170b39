//! What the environment adds to the file: `IMS_RECEIVER__SERVER__LISTEN` is
//! `server.listen`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::problems::Problem;
use super::schema::Schema;

const PREFIX: &str = "IMS_RECEIVER";
const SEPARATOR: &str = "__";
const CLOUD_PREFIX: &str = "ALIBABA_CLOUD_";

/// The environment of this process, for [`load`](super::load()). Text that is
/// not UTF-8 is taken with replacement characters, so that a stray variable
/// of somebody else's stops nothing.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| {
        let name = name.to_string_lossy().into_owned();
        (name, value.to_string_lossy().into_owned())
    })
}

/// The variables that mean keys.
#[derive(Default)]
pub(super) struct Environment {
    /// Name and value, by dotted key.
    variables: BTreeMap<String, (String, String)>,
    /// Variables that can mean no key.
    pub(super) problems: Vec<Problem>,
    /// Variables of Alibaba Cloud's own tools, and where the home folder is.
    pub(super) cloud: Vec<(String, String)>,
}

impl Environment {
    pub(super) fn new(all: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut this = Self::default();
        for (name, value) in all {
            if name.starts_with(CLOUD_PREFIX) || name == "HOME" {
                this.cloud.push((name, value));
                continue;
            }
            let Some(rest) = key_part(&name) else {
                continue;
            };
            let segments: Vec<&str> = rest.split(SEPARATOR).collect();
            if segments.iter().all(|segment| can_be_key(segment)) {
                let key = segments.join(".").to_ascii_lowercase();
                this.variables.insert(key, (name, value));
            } else {
                this.problems.push(Problem::new(
                    name,
                    "this environment variable names no key",
                    "write IMS_RECEIVER__SERVER__LISTEN for server.listen",
                ));
            }
        }
        this.refuse_overlaps();
        this
    }

    /// The variables as a source of the `config` crate. Values stay texts:
    /// letting it guess their types would turn secrets made of digits into
    /// numbers.
    pub(super) fn source(&self) -> config::Environment {
        let variables = self.variables.values().cloned().collect();
        config::Environment::with_prefix(PREFIX)
            .prefix_separator(SEPARATOR)
            .separator(SEPARATOR)
            .source(Some(variables))
    }

    /// Turns the texts in `tree` that came from here into what the schema asks
    /// for at their place. A text that cannot be turned stays one, for
    /// validation to report.
    pub(super) fn coerce(&self, schema: &Schema, tree: &mut Value) {
        // Tables come before what is inside them, since they decide its kind.
        let mut keys: Vec<&String> = self.variables.keys().collect();
        keys.sort_by_key(|key| key.matches('.').count());
        for key in keys {
            let node = schema.at(tree, key.split('.'));
            let wanted = node.types();
            let pointer = format!("/{}", key.replace('.', "/"));
            if let Some(value) = tree.pointer_mut(&pointer)
                && let Value::String(text) = value
                && let Some(coerced) = wanted.iter().find_map(|wanted| coerced(text, wanted))
            {
                *value = coerced;
            }
        }
    }

    /// Takes out of `tree` what a variable replaces although its name differs in
    /// case: variables arrive in lower case, and a header field of the file
    /// need not.
    pub(super) fn replace_other_cases(&self, tree: &mut Value) {
        for key in self.variables.keys() {
            let (parent, own) = key.rsplit_once('.').unwrap_or(("", key));
            let pointer = format!("/{}", parent.replace('.', "/"));
            if let Some(Value::Object(table)) = tree.pointer_mut(&pointer) {
                table.retain(|other, _| other == own || !other.eq_ignore_ascii_case(own));
            }
        }
    }

    /// The variable that `key` was set by, itself or with the table or list around it.
    pub(super) fn set_by(&self, key: &str) -> Option<&str> {
        let covers = |own: &str| {
            let rest = key.strip_prefix(own);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let mut found = self.variables.iter().filter(|(own, _)| covers(own));
        found.next_back().map(|(_, (name, _))| name.as_str())
    }

    /// A variable that set something under `key`.
    pub(super) fn set_under(&self, key: &str) -> Option<&str> {
        let prefix = format!("{key}.");
        let mut below = self.variables.range(prefix.clone()..);
        let (own, (name, _)) = below.next()?;
        own.starts_with(&prefix).then_some(name.as_str())
    }

    /// A table that is set as a whole and in part has no certain value.
    fn refuse_overlaps(&mut self) {
        for (key, (name, _)) in &self.variables {
            if let Some(part) = self.set_under(key) {
                self.problems.push(Problem::new(
                    key.clone(),
                    format!("is set as a whole by {name} and in part by {part}"),
                    "keep one of the two variables",
                ));
            }
        }
    }
}

/// What follows the prefix, in any case; `None` for variables like
/// `IMS_RECEIVER_LOG`, which are no keys.
fn key_part(name: &str) -> Option<&str> {
    let length = PREFIX.len() + SEPARATOR.len();
    let prefix = name.get(..length)?;
    let fits = prefix.eq_ignore_ascii_case(&format!("{PREFIX}{SEPARATOR}"));
    fits.then(|| &name[length..])
}

fn can_be_key(segment: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    !segment.is_empty() && segment.bytes().all(fits)
}

fn coerced(text: &str, wanted: &str) -> Option<Value> {
    let text = text.trim();
    match wanted {
        "integer" => text.parse::<i64>().ok().map(Value::from),
        "number" => text.parse::<f64>().ok().map(Value::from),
        "boolean" => text.parse::<bool>().ok().map(Value::from),
        "array" => parsed(text).filter(Value::is_array),
        "object" => parsed(text).filter(Value::is_object),
        _ => None,
    }
}

fn parsed(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}
