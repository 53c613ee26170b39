//! The JSON Schema of the configuration file: its keys, their types, ranges
//! and defaults, and which of them are secret (`writeOnly`).
//!
//! It is data with many readers. Validation takes its rules from here,
//! resolution its defaults, messages their examples (`title`, `examples`), the
//! masked print its secrets, and editors all of it. What a schema cannot say
//! (two keys that contradict each other, a file that is not there) is judged
//! in `resolve`.

use serde_json::{Map, Value, json};

mod parties;
mod sections;
mod walk;

pub(super) use walk::{Node, Schema};

/// The whole schema, draft 2020-12.
pub fn document() -> Value {
    let mut defs = Map::new();
    defs.insert("duration".into(), duration_def());
    defs.insert("secret".into(), secret_def());
    defs.insert("file".into(), file_def());
    parties::add_defs(&mut defs);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "a configuration of ims-receiver",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "server": sections::server(),
            "admin": sections::admin(),
            "store": sections::store(),
            "dispatch": sections::dispatch(),
            "telemetry": sections::telemetry(),
            "sources": parties::sources(),
            "handlers": parties::handlers(),
        },
        "$defs": defs,
    })
}

/// Matches `[a-z0-9]([a-z0-9-]|_(?!_))*` without looking ahead.
const NAME_PATTERN: &str = "^[a-z0-9](_?[a-z0-9-])*_?$";

/// Units from large to small, each at most once, so that no text has two readings.
const DURATION_PATTERN: &str = "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";

fn duration_def() -> Value {
    json!({
        "title": "a duration with a unit",
        "description": "Digits with `ms`, `s`, `m`, `h` or `d`; several go from large to small, as in `1h30m`.",
        "type": "string",
        "pattern": DURATION_PATTERN,
        "minLength": 2,
        "maxLength": 64,
        "examples": ["10s"],
    })
}

fn secret_def() -> Value {
    json!({
        "title": "a text",
        "type": "string",
        "writeOnly": true,
        "minLength": 1,
        "maxLength": 4096,
    })
}

fn file_def() -> Value {
    json!({
        "title": "the path of a file",
        "type": "string",
        "minLength": 1,
        "maxLength": 4096,
    })
}

/// A section of the file: a table that may be left out.
fn section(description: &str, properties: Value) -> Value {
    json!({
        "title": "a table",
        "description": description,
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "default": {},
    })
}

fn duration(default: &str, description: &str) -> Value {
    json!({
        "$ref": "#/$defs/duration",
        "description": description,
        "default": default,
    })
}

/// A whole number between `min` and `max`, both included.
fn whole(min: u64, max: u64, description: &str) -> Value {
    json!({
        "title": "a whole number",
        "description": description,
        "type": "integer",
        "minimum": min,
        "maximum": max,
    })
}

/// `node` with a default.
fn with_default(mut node: Value, default: impl Into<Value>) -> Value {
    node["default"] = default.into();
    node
}

fn text(description: &str, example: &str) -> Value {
    json!({
        "title": "a text",
        "description": description,
        "type": "string",
        "minLength": 1,
        "maxLength": 4096,
        "examples": [example],
    })
}

fn secret(description: &str, example: &str) -> Value {
    json!({
        "$ref": "#/$defs/secret",
        "description": description,
        "examples": [example],
    })
}

fn file(description: &str, example: &str) -> Value {
    json!({
        "$ref": "#/$defs/file",
        "description": description,
        "examples": [example],
    })
}

/// A list of texts, `example` being one of them.
fn list(description: &str, example: &str, items_max: u64) -> Value {
    json!({
        "title": "a list of texts",
        "description": description,
        "type": "array",
        "items": { "title": "a text", "type": "string", "minLength": 1, "maxLength": 4096, "examples": [example] },
        "maxItems": items_max,
        "examples": [[example]],
    })
}

/// The same, but an empty one is refused.
fn filled_list(description: &str, example: &str, items_max: u64) -> Value {
    let mut node = list(description, example, items_max);
    node["minItems"] = json!(1);
    node
}
