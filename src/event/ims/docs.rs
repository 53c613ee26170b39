//! `docs/events.md`, written from the catalogue.

use std::fmt::Write as _;
use std::path::Path;

use super::schema::{Category, Confidence, EventInfo, FieldInfo, ModelInfo, Presence};
use super::{EVENTS, info};

const INTRODUCTION: &str = "\
# Events

<!-- Generated from src/event/ims: UPDATE_DOCS=1 cargo test --lib the_documentation_is_current -->

The callback events of Alibaba Cloud IMS (API 2020-11-09), as `ims_receiver::event::ims` models them. Every event is one JSON
object with `EventType` (string), `UserId` (number), `EventTime` (string, UTC, `yyyy-MM-ddTHH:mm:ssZ`) and `MessageBody`
(object). The tables below list the fields of `MessageBody`.

Only four bodies are documented or were seen. **The others are inferred**: treat their fields as hints. The receiver accepts
and stores every authentic event, whatever its fields; where a field is of a type that the table does not have, or one marked
*always* is missing, the event carries a note. An `EventTime`, `UserId`, `MediaId` or id of a job of more than 512 bytes is
not taken for one: the body keeps it, a note says so, and the event is not found by it.

A field typed *JSON in a string* need not hold JSON, and sometimes comes without the string around it.
";

/// The whole document.
fn document() -> String {
    let mut out = INTRODUCTION.to_owned();
    confidence(&mut out);
    summary(&mut out);
    let mut nested = Vec::new();
    for category in Category::ALL {
        let _ = writeln!(out, "\n## {}", category.title());
        for event in EVENTS.iter().filter(|event| event.category == category) {
            section(&mut out, event);
            collect(event.model, &mut nested);
        }
    }
    out.push_str("\n## Objects inside\n");
    for model in nested {
        let _ = write!(out, "\n### {}\n\n{}\n", model.name, prose(model.docs));
        table(&mut out, model);
    }
    out
}

fn confidence(out: &mut String) {
    out.push_str("\n| mark | meaning |\n| --- | --- |\n");
    for confidence in Confidence::ALL {
        let _ = writeln!(out, "| {} | {} |", confidence.mark(), confidence.meaning());
    }
}

fn summary(out: &mut String) {
    out.push_str("\n| event | category | confidence |\n| --- | --- | --- |\n");
    for event in EVENTS {
        let (name, mark) = (event.name, event.confidence.mark());
        let _ = writeln!(
            out,
            "| [`{name}`](#{}) | {} | {mark} |",
            name.to_lowercase(),
            event.category.title()
        );
    }
}

fn section(out: &mut String, event: &EventInfo) {
    let EventInfo {
        name,
        source,
        confidence,
        ..
    } = event;
    let _ = write!(out, "\n### {name}\n\n{}\n\n", prose(event.model.docs));
    let _ = writeln!(out, "Confidence: {}. Source: {source}.", confidence.mark());
    table(out, event.model);
    let samples: Vec<_> = event
        .samples
        .iter()
        .map(|sample| {
            format!(
                "[`{0}.json`](../tests/fixtures/events/{0}.json)",
                sample.name
            )
        })
        .collect();
    let _ = writeln!(out, "\nSample: {}", samples.join(", "));
}

fn table(out: &mut String, model: &ModelInfo) {
    out.push_str("\n| field | JSON type | always there | meaning | confidence |\n| --- | --- | --- | --- | --- |\n");
    for field in model.fields {
        let always = if field.presence == Presence::Always {
            "always"
        } else {
            ""
        };
        let (types, docs) = (types(field), cell(field.docs));
        let _ = writeln!(
            out,
            "| `{}` | {types} | {always} | {docs} | {} |",
            field.name,
            field.confidence.mark()
        );
    }
}

fn types(field: &FieldInfo) -> String {
    match field.nested {
        Some(model) => format!(
            "{}: [{}](#{})",
            field.types,
            model.name,
            model.name.to_lowercase()
        ),
        None => field.types.to_string(),
    }
}

/// The objects inside a model that have no section of their own, each once.
fn collect(model: &'static ModelInfo, found: &mut Vec<&'static ModelInfo>) {
    for nested in model.fields.iter().filter_map(|field| field.nested) {
        let known = found.iter().any(|known| known.name == nested.name);
        if !known && info(nested.name).is_none() {
            found.push(nested);
            collect(nested, found);
        }
    }
}

/// A doc comment without the blank that begins each of its lines.
fn prose(docs: &str) -> String {
    let lines: Vec<_> = docs
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    lines.join("\n").trim().to_owned()
}

/// A doc comment on one line of a table.
fn cell(docs: &str) -> String {
    prose(docs).replace('\n', " ").replace('|', "\\|")
}

#[test]
fn the_documentation_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/events.md");
    let document = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == document,
        "docs/events.md differs from the models: run `UPDATE_DOCS=1 cargo test --lib the_documentation_is_current`"
    );
}
