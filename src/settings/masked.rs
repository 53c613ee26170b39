//! The configuration as it may be shown: complete, and without a secret.

use reqwest::Url;
use serde_json::Value;

use super::schema::{Node, Schema};

/// What stands where a secret was.
const MASK: &str = "***";

/// `tree` as TOML, with every value masked that the schema calls secret.
pub(super) fn render(schema: &Schema, tree: &Value) -> String {
    let root = schema.root(tree);
    let masked = mask(schema, &root, tree).and_then(|value| toml::to_string_pretty(&value).ok());
    masked.unwrap_or_default()
}

fn mask(schema: &Schema, node: &Node<'_>, value: &Value) -> Option<toml::Value> {
    if node.is_secret() || !node.is_known() {
        return Some(toml::Value::String(hidden(node, value)));
    }
    match value {
        Value::Object(table) => {
            let entries = table.iter().filter_map(|(key, value)| {
                let child = schema.child(node, key, value);
                Some((key.clone(), mask(schema, &child, value)?))
            });
            Some(toml::Value::Table(entries.collect()))
        }
        Value::Array(items) => {
            let items = items.iter().filter_map(|item| {
                let child = schema.child(node, "", item);
                mask(schema, &child, item)
            });
            Some(toml::Value::Array(items.collect()))
        }
        Value::String(text) => Some(toml::Value::String(text.clone())),
        Value::Bool(flag) => Some(toml::Value::Boolean(*flag)),
        // A whole number is printed the same whether it is the default, which
        // is `1.0`, or was written as `1`.
        Value::Number(number) => number
            .as_i64()
            .filter(|_| node.text("type") != Some("number"))
            .map(toml::Value::Integer)
            .or_else(|| number.as_f64().map(toml::Value::Float)),
        Value::Null => None,
    }
}

fn hidden(node: &Node<'_>, value: &Value) -> String {
    let url = value
        .as_str()
        .filter(|_| node.text("format") == Some("uri"));
    url.and_then(without_secrets)
        .unwrap_or_else(|| MASK.to_owned())
}

/// Scheme, host, port and path of a URL; the rest may hold a token.
fn without_secrets(url: &str) -> Option<String> {
    let mut url = Url::parse(url).ok()?;
    if !url.username().is_empty() {
        url.set_username(MASK).ok()?;
    }
    if url.password().is_some() {
        url.set_password(Some(MASK)).ok()?;
    }
    if url.query().is_some() {
        url.set_query(Some(MASK));
    }
    url.set_fragment(None);
    Some(url.into())
}
