//! Judges a merged tree by the schema, and says what is wrong in words.

use std::collections::HashSet;
use std::sync::LazyLock;

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::paths::LocationSegment;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use super::problems::{Problem, dotted};
use super::schema::{Node, Schema};

/// One place of the tree that breaks the schema.
#[derive(Debug)]
pub(super) struct Finding {
    path: Vec<Step>,
    /// Whether the schema does not know the key at all.
    pub(super) unknown: bool,
    /// The place and the mistake, in words.
    pub(super) problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Step {
    Key(String),
    Index(usize),
}

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    let document = Schema::new().document();
    Validator::new(document).expect("the schema is ours, and a test compiles it")
});

/// Everything in `tree` that breaks the schema, each place once.
pub(super) fn findings(schema: &Schema, tree: &Value) -> Vec<Finding> {
    let mut seen = HashSet::new();
    VALIDATOR
        .iter_errors(tree)
        .flat_map(|error| Report::new(schema, tree, &error).findings())
        .filter(|finding| seen.insert(finding.path.clone()))
        .collect()
}

/// Takes out of `tree` what was found, so that the rest can be judged further.
///
/// A table whose `kind` is wrong or missing keeps only the keys that every kind
/// has: nobody could judge the others.
pub(super) fn prune(schema: &Schema, tree: &mut Value, findings: &[Finding]) {
    for finding in findings {
        // A list goes as a whole: without one of its values it means something else.
        let keys = finding.path.iter().map_while(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        });
        let keys: Vec<&str> = keys.collect();
        let Some((last, parents)) = keys.split_last() else {
            continue;
        };
        let known = schema.at(tree, parents.iter().copied()).keys();
        let table = parents
            .iter()
            .try_fold(&mut *tree, |value, key| value.get_mut(*key));
        if let Some(Value::Object(table)) = table {
            table.retain(|key, _| {
                key != last && (known.is_empty() || known.contains(&key.as_str()))
            });
        }
    }
}

/// What is needed to put one error of the validator into words.
struct Report<'a> {
    error: &'a ValidationError<'a>,
    path: Vec<Step>,
    node: Node<'a>,
    schema: &'a Schema,
}

impl<'a> Report<'a> {
    fn new(schema: &'a Schema, tree: &Value, error: &'a ValidationError<'a>) -> Self {
        let pointer = error.instance_path();
        let path: Vec<Step> = pointer.iter().map(Step::from).collect();
        let keys: Vec<String> = path.iter().map(Step::text).collect();
        let node = schema.at(tree, keys.iter().map(String::as_str));
        Self {
            error,
            path,
            node,
            schema,
        }
    }

    /// An error about a table is one finding for each of its keys that is wrong.
    fn findings(&self) -> Vec<Finding> {
        match self.error.kind() {
            Kind::AdditionalProperties { unexpected } => {
                unexpected.iter().map(|key| self.unknown(key)).collect()
            }
            Kind::Required { property } => {
                vec![self.missing(property.as_str().unwrap_or_default())]
            }
            Kind::PropertyNames { error } => {
                vec![self.bad_name(error.instance().as_str().unwrap_or_default())]
            }
            _ => {
                let (problem, hint) = self.wrong_value();
                let key = rendered(&self.path);
                vec![Finding {
                    path: self.path.clone(),
                    unknown: false,
                    problem: Problem { key, problem, hint },
                }]
            }
        }
    }

    fn unknown(&self, key: &str) -> Finding {
        let known = self.node.keys();
        let hint = match nearest(key, &known) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("the keys here are {}", quoted(&known)),
        };
        self.about(key, true, "unknown key", Some(hint))
    }

    fn missing(&self, key: &str) -> Finding {
        let child = self.schema.child(&self.node, key, &Value::Null);
        let hint = example(&child).map(|example| format!("write {key} = {example}"));
        self.about(key, false, "is missing", hint)
    }

    fn bad_name(&self, name: &str) -> Finding {
        let hint = "use lower-case letters, digits, `-` and single `_`, beginning with a letter or digit, at most 64 in all";
        self.about(name, false, "is no valid name", Some(hint.to_owned()))
    }

    fn about(&self, key: &str, unknown: bool, problem: &str, hint: Option<String>) -> Finding {
        let mut path = self.path.clone();
        path.push(Step::Key(key.to_owned()));
        Finding {
            problem: Problem {
                key: rendered(&path),
                problem: problem.to_owned(),
                hint,
            },
            path,
            unknown,
        }
    }

    /// What is wrong with a value, and what to write instead.
    fn wrong_value(&self) -> (String, Option<String>) {
        let write = example(&self.node).map(|example| format!("write {example}"));
        let found = self.error.instance().as_ref();
        match self.error.kind() {
            Kind::Enum { options } => self.no_such_choice(options),
            Kind::Minimum { .. } | Kind::Maximum { .. } => self.out_of_range(),
            Kind::MinLength { .. } if found == "" => ("is empty".to_owned(), write),
            Kind::MinItems { .. } => (
                "is an empty list".to_owned(),
                Some("write at least one value, or leave the key out".to_owned()),
            ),
            Kind::MinProperties { .. } => (
                "none is configured, so nothing can arrive".to_owned(),
                Some(
                    "begin with [sources.default] and its kind, path, callback_urls and auth"
                        .to_owned(),
                ),
            ),
            Kind::MaxLength { limit } => (format!("is longer than {limit} characters"), None),
            Kind::MaxItems { limit } => (format!("has more than {limit} values"), None),
            Kind::MaxProperties { limit } => (format!("has more than {limit} entries"), None),
            _ => {
                let title = self.node.text("title").unwrap_or("another value");
                let found = self.found(found);
                (format!("expected {title}, found {found}"), write)
            }
        }
    }

    fn no_such_choice(&self, options: &Value) -> (String, Option<String>) {
        let options: Vec<&str> = options
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let title = self.node.text("title").unwrap_or("one of the values");
        let found = match self.error.instance().as_str() {
            Some(text) => shortened(text),
            None => self.found(self.error.instance()),
        };
        let problem = format!("expected {title}, found {found}");
        let hint = match options.as_slice() {
            [only] => format!("the only one is {only:?}"),
            several => format!("write one of {}", listed(several)),
        };
        (problem, Some(hint))
    }

    fn out_of_range(&self) -> (String, Option<String>) {
        let bound = |name| self.node.attribute(name).unwrap_or(&Value::Null);
        let found = self.found(self.error.instance());
        (
            format!("{found} is out of range"),
            Some(format!(
                "write {} from {} to {}",
                self.node.text("title").unwrap_or("a number"),
                bound("minimum"),
                bound("maximum")
            )),
        )
    }

    /// What stands there: texts only where the schema has a pattern for them,
    /// since a text in the wrong place may well be a secret.
    fn found(&self, value: &Value) -> String {
        let is_pattern = matches!(
            self.error.kind(),
            Kind::Pattern { .. } | Kind::MinLength { .. }
        );
        match value {
            Value::String(text) if is_pattern && !self.node.is_secret() => shortened(text),
            Value::String(_) => "a text".to_owned(),
            Value::Number(number) if !self.node.is_secret() => format!("the number {number}"),
            Value::Number(_) => "a number".to_owned(),
            Value::Bool(flag) => format!("{flag}"),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a table".to_owned(),
            Value::Null => "no usable value".to_owned(),
        }
    }
}

impl From<LocationSegment<'_>> for Step {
    fn from(segment: LocationSegment<'_>) -> Self {
        match segment {
            LocationSegment::Property(key) => Self::Key(key.into_owned()),
            LocationSegment::Index(index) => Self::Index(index),
        }
    }
}

impl Step {
    fn text(&self) -> String {
        match self {
            Self::Key(key) => key.clone(),
            Self::Index(index) => index.to_string(),
        }
    }
}

fn rendered(path: &[Step]) -> String {
    path.iter().fold(String::new(), |parent, step| match step {
        Step::Key(key) => dotted(&parent, key),
        Step::Index(index) => format!("{parent}[{index}]"),
    })
}

/// The known key that was probably meant.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let key = key.to_lowercase();
    let distance = |candidate: &str| strsim::osa_distance(&key, candidate);
    let nearest = known.iter().min_by_key(|candidate| distance(candidate))?;
    let tolerated = (key.chars().count() / 3).clamp(1, 3);
    (distance(nearest) <= tolerated).then_some(nearest)
}

/// An example of what the schema wants, as it would stand in the file.
fn example(node: &Node<'_>) -> Option<String> {
    let examples = node.attribute("default").or_else(|| {
        let examples = node.attribute("examples")?;
        examples.get(0)
    })?;
    Some(as_toml(examples))
}

fn as_toml(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(as_toml).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(table) => {
            // Backwards, since `kind` and `scheme` read best in front.
            let pairs: Vec<String> = table
                .iter()
                .rev()
                .map(|(key, value)| format!("{key} = {}", as_toml(value)))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        plain => plain.to_string(),
    }
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn listed(values: &[&str]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    values.join(", ")
}

/// A text in quotes, cut where it is long.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 64;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}
