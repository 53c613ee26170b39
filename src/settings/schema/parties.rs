//! The sections that hold one table per name: `sources` and `handlers`, with
//! a definition per kind and per scheme.

use serde_json::{Map, Value, json};

use super::{
    NAME_PATTERN, duration, file, filled_list, secret, section, text, whole, with_default,
};

/// How many sources, and how many handlers, one service may have.
const PARTIES_MAX: u64 = 256;

pub(super) fn sources() -> Value {
    let mut node = parties("The configured senders, by name.", "source");
    node["minProperties"] = json!(1);
    node["examples"] = json!([{ "default": {
        "kind": "http",
        "path": "/ims/callback",
        "callback_urls": ["https://callbacks.example.com/ims/callback"],
        "auth": { "scheme": "ims", "keys_file": "/run/secrets/ims-keys" },
    } }]);
    node
}

pub(super) fn handlers() -> Value {
    parties("What reacts to events, by name.", "handler")
}

fn parties(description: &str, def: &str) -> Value {
    json!({
        "title": "a table with one table per name",
        "description": description,
        "type": "object",
        "propertyNames": { "pattern": NAME_PATTERN, "maxLength": 64 },
        "maxProperties": PARTIES_MAX,
        "additionalProperties": { "$ref": format!("#/$defs/{def}") },
        "default": {},
    })
}

pub(super) fn add_defs(defs: &mut Map<String, Value>) {
    defs.insert("source".into(), source());
    defs.insert("http_source".into(), http_source());
    defs.insert("mns_source".into(), mns_source());
    defs.insert("auth".into(), auth());
    defs.insert("ims_auth".into(), ims_auth());
    defs.insert("hmac_sha256_auth".into(), hmac_sha256_auth());
    defs.insert("none_auth".into(), own_keys("scheme", json!({})));
    defs.insert("handler".into(), handler());
    defs.insert("log_handler".into(), log_handler());
    defs.insert("forward_handler".into(), forward_handler());
    defs.insert("shell_handler".into(), shell_handler());
}

/// A table whose further keys depend on the value of `tag`: `choices` pairs
/// each value with the definition that holds then. Where there is one choice
/// only, a table that names none is judged by it as well.
fn tagged(tag: &str, what: &str, choices: &[(&str, &str)], common: Value) -> Value {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let mut properties = common;
    properties[tag] = json!({
        "title": format!("the name of a {tag}"),
        "description": what,
        "type": "string",
        "enum": names,
        "examples": [names[0]],
    });
    let branches: Vec<Value> = choices
        .iter()
        .map(|(name, def)| {
            let required: &[&str] = if choices.len() > 1 { &[tag] } else { &[] };
            json!({
                "if": { "properties": { tag: { "const": name } }, "required": required },
                "then": { "$ref": format!("#/$defs/{def}") },
            })
        })
        .collect();
    json!({
        "title": "a table",
        "type": "object",
        "required": [tag],
        "properties": properties,
        "allOf": branches,
    })
}

/// The keys that belong to one value of `tag`. Keys that every value has are
/// judged by the table itself; here they are only let through (`true`).
fn own_keys(tag: &str, own: Value) -> Value {
    let mut properties = own;
    properties[tag] = json!(true);
    json!({ "properties": properties, "additionalProperties": false })
}

fn source() -> Value {
    let kinds = [("http", "http_source"), ("mns", "mns_source")];
    tagged(
        "kind",
        "How its events arrive: `http`, as signed POSTs; `mns`, through a queue.",
        &kinds,
        json!({}),
    )
}

fn http_source() -> Value {
    let mut node = own_keys(
        "kind",
        json!({
            "path": text("The path it listens on, compared byte for byte.", "/ims/callback"),
            "callback_urls": filled_list(
                "The callback URLs, exactly as configured at IMS; any of them may have been signed.",
                "https://callbacks.example.com/ims/callback",
                32,
            ),
            "public_origin": text(
                "Also accept a signature over this origin and the request's own path and query.",
                "https://callbacks.example.com",
            ),
            "auth": { "$ref": "#/$defs/auth" },
            "allow_from": filled_list("Networks (CIDR) or addresses that may send at all; everybody when left out.", "203.0.113.0/24", 1024),
        }),
    );
    node["required"] = json!(["path", "auth"]);
    node
}

fn mns_source() -> Value {
    let credentials = json!({
        "title": "a table",
        "description": "The key that requests are signed with; where it is left out, the environment and then the other places of Alibaba Cloud's tools are looked at.",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "access_key_id": secret("The id of the key.", "…"),
            "access_key_id_file": file("A file with that id on one line.", "/run/secrets/access-key-id"),
            "access_key_secret": secret("The secret of the key.", "…"),
            "access_key_secret_file": file("A file with that secret on one line.", "/run/secrets/access-key-secret"),
            "security_token": secret("The token of a temporary key.", "…"),
            "security_token_file": file("A file with that token on one line.", "/run/secrets/security-token"),
        },
        "examples": [{ "access_key_secret_file": "/run/secrets/access-key-secret", "access_key_id_file": "/run/secrets/access-key-id" }],
    });
    let mut node = own_keys(
        "kind",
        json!({
            "endpoint": text(
                "The base URL of MNS for the account and region.",
                "https://1234567890123456.mns.cn-shanghai.aliyuncs.com",
            ),
            "queue": text("The name of the queue.", "ice-callback-events"),
            "wait": duration("30s", "How long a poll waits for a message, at most 30s."),
            "batch": with_default(whole(1, 16, "The most messages of one poll."), 16),
            "pollers": with_default(whole(1, 16, "How many polls there are at the same time."), 1),
            "visibility_timeout": {
                "$ref": "#/$defs/duration",
                "description": "How long a received message stays invisible; read from the queue when left out.",
                "examples": ["30s"],
            },
            "max_receives": with_default(
                whole(1, 1_000_000, "A message received more often is warned about and counted."),
                5,
            ),
            "ca_file": file("PEM certificates of authorities to trust beside the system's, for an endpoint of one's own.", "/etc/ims-receiver/ca.pem"),
            "credentials": credentials,
        }),
    );
    node["required"] = json!(["endpoint", "queue"]);
    node
}

fn auth() -> Value {
    let schemes = [
        ("ims", "ims_auth"),
        ("hmac_sha256", "hmac_sha256_auth"),
        ("none", "none_auth"),
    ];
    let mut node = tagged(
        "scheme",
        "How the sender proves who it is: `ims`, `hmac_sha256` over the body, or `none`, which lets everybody in.",
        &schemes,
        json!({}),
    );
    node["examples"] = json!([{ "scheme": "ims", "keys_file": "/run/secrets/ims-keys" }]);
    node
}

/// The keys of a scheme that signs with a secret, beside its own ones.
fn keyed_auth(mut own: Value) -> Value {
    own["keys"] = json!({
        "title": "a list of texts",
        "description": "The keys, any of which may have been used; new first, then old.",
        "type": "array",
        "items": secret("One key.", "…"),
        "minItems": 1,
        "maxItems": 32,
        "examples": [["…"]],
    });
    own["keys_file"] = file("A file with the keys, one a line.", "/run/secrets/ims-keys");
    own["tolerance"] = duration(
        "5m",
        "How far the timestamp may be from our clock, on both sides.",
    );
    own_keys("scheme", own)
}

fn ims_auth() -> Value {
    keyed_auth(json!({
        "reuse": {
            "title": "what a second use means",
            "description": "What happens to a new body under a signature that was first used more than 15 s ago, which does not come from IMS: `note` stores it with a note, `refuse` answers 401.",
            "type": "string",
            "enum": ["note", "refuse"],
            "default": "note",
        },
    }))
}

fn hmac_sha256_auth() -> Value {
    let encoding = json!({
        "title": "the name of an encoding",
        "description": "How the signature is written.",
        "type": "string",
        "enum": ["hex", "base64"],
        "default": "hex",
    });
    let mut node = keyed_auth(json!({
        "header": text("The header with the signature.", "X-Signature"),
        "prefix": text("What stands in front of the signature; nothing when left out.", "sha256="),
        "encoding": encoding,
        "timestamp_header": text(
            "The header with the time of sending, in UNIX seconds; the signature then covers it, a `.`, and the body.",
            "X-Timestamp",
        ),
    }));
    node["required"] = json!(["header"]);
    node
}

fn handler() -> Value {
    let kinds = [
        ("log", "log_handler"),
        ("forward", "forward_handler"),
        ("shell", "shell_handler"),
    ];
    let common = json!({
        "events": filled_list("Globs over the event's type; all events when left out.", "MediaConvert*", 256),
        "sources": filled_list("Names of sources; all of them when left out.", "default", 256),
        "outcome": {
            "title": "a list of outcomes",
            "description": "The outcomes that are wanted; all of them when left out.",
            "type": "array",
            "items": { "title": "an outcome", "type": "string", "enum": ["succeeded", "failed", "other"], "examples": ["succeeded"] },
            "minItems": 1,
            "maxItems": 3,
            "examples": [["succeeded"]],
        },
        "timeout": { "$ref": "#/$defs/duration", "description": "How long one attempt may take." },
        "concurrency": whole(1, 100_000, "How many attempts run at the same time; not above dispatch.queue_capacity."),
        "retry": section("When a failed attempt is repeated.", json!({
            "initial": duration("1s", "The first step of the back-off; it doubles with each failure."),
            "max": duration("15m", "The largest step. Each wait is between half and the whole of the step."),
            "max_age": duration("3d", "How old a delivery may get before a failed attempt is its last."),
            "attempts": whole(1, u64::from(u32::MAX), "How many attempts may fail; not limited when left out."),
        })),
    });
    tagged(
        "kind",
        "What it does: `log` writes a line, `forward` repeats the request, `shell` runs a command.",
        &kinds,
        common,
    )
}

/// The keys of one kind of handler, beside those that every kind has.
fn handler_kind(timeout: &str, concurrency: u32, mut own: Value) -> Value {
    for common in ["events", "sources", "outcome", "retry"] {
        own[common] = json!(true);
    }
    own["timeout"] = json!({ "default": timeout });
    own["concurrency"] = json!({ "default": concurrency });
    own_keys("kind", own)
}

fn log_handler() -> Value {
    let mut body_bytes_max = whole(
        0,
        1 << 40,
        "A larger body is left out of the line; by default 8192 for stdout and stderr, unlimited for a file.",
    );
    body_bytes_max["examples"] = json!([8192]);
    handler_kind(
        "10s",
        64,
        json!({
            "output": with_default(
                text("`stdout`, `stderr`, or the path of a file.", "stdout"),
                "stdout",
            ),
            "body": {
                "title": "true or false",
                "description": "Whether the line includes the body.",
                "type": "boolean",
                "default": true,
            },
            "body_bytes_max": body_bytes_max,
        }),
    )
}

fn forward_handler() -> Value {
    let mut url = secret("Where to POST.", "https://cms.internal/hooks/media");
    url["format"] = json!("uri");
    let headers = json!({
        "title": "a table of texts",
        "description": "Further header fields of the request.",
        "type": "object",
        "additionalProperties": secret("The value of the field.", "…"),
        "maxProperties": 64,
        "examples": [{ "X-Team": "…" }],
    });
    handler_kind(
        "10s",
        16,
        json!({
            "url": url,
            "url_file": file("A file with that URL on one line.", "/run/secrets/cms-url"),
            "bearer_token": secret("Sent as `Authorization: Bearer …`.", "…"),
            "bearer_token_file": file("A file with that token on one line.", "/run/secrets/cms-token"),
            "headers": headers,
            "headers_file": file("A file with such fields, one `Name: value` a line.", "/run/secrets/cms-headers"),
            "ca_file": file("PEM certificates of authorities to trust beside the system's.", "/etc/ims-receiver/ca.pem"),
        }),
    )
}

fn shell_handler() -> Value {
    let example = "/usr/local/bin/make-subtitles";
    let command = json!({
        "title": "a list of texts, or one text",
        "description": "The program and its arguments, with no shell in between; or one text, which runs under `/bin/sh -c`.",
        "type": ["array", "string"],
        "items": { "title": "a text", "type": "string", "maxLength": 4096, "examples": [example] },
        "minItems": 1,
        "maxItems": 256,
        "minLength": 1,
        "maxLength": 16384,
        "examples": [[example]],
    });
    let value = json!({
        "title": "a text",
        "description": "The value of the variable.",
        "type": "string",
        "writeOnly": true,
        "maxLength": 4096,
        "examples": ["…"],
    });
    let env = json!({
        "title": "a table of texts",
        "description": "Further variables of the command's environment.",
        "type": "object",
        "additionalProperties": value,
        "maxProperties": 64,
        "examples": [{ "QUEUE": "…" }],
    });
    let mut node = handler_kind(
        "60s",
        4,
        json!({
            "command": command,
            "env": env,
            "env_file": file("A file with such variables, one `NAME=value` a line.", "/run/secrets/subtitles-env"),
        }),
    );
    node["required"] = json!(["command"]);
    node
}
