//! The sections that exist once: `server`, `admin`, `store`, `dispatch`, `telemetry`.

use serde_json::{Value, json};

use super::{duration, file, list, secret, section, text, whole, with_default};

const MIB: u64 = 1024 * 1024;

/// More than any disk: the largest number that every reader of JSON keeps.
const BYTES_MAX: u64 = (1 << 53) - 1;

pub(super) fn server() -> Value {
    section(
        "The public listener.",
        json!({
            "listen": with_default(
                text("Address and port to listen on; port 0 takes a free one.", "0.0.0.0:8080"),
                "0.0.0.0:8080",
            ),
            "health_path": with_default(
                text("GET and HEAD on this path answer 200 when ready, else 503; no source may take it.", "/healthz"),
                "/healthz",
            ),
            "body_bytes_max": with_default(
                whole(1, 512 * MIB, "The largest body of one request, in bytes; past it 413."),
                MIB,
            ),
            "body_bytes_in_flight_max": with_default(
                whole(1, 1024 * 1024 * MIB, "The bodies of all requests together, in bytes, counted as they arrive; past it 503."),
                64 * MIB,
            ),
            "ack_deadline": duration("2s", "From the end of a request's head to the answer; below the 3 s after which IMS gives up."),
            "head_deadline": duration("10s", "From the accept, or the first byte of a later request, to the end of the head."),
            "keep_alive": duration("75s", "How long an idle connection is kept; longer than the proxy in front keeps it."),
            "connections_max": with_default(whole(1, 1_000_000, "Connections at the same time."), 4096),
            "trusted_proxies": with_default(
                list("Networks (CIDR) or addresses whose X-Forwarded-For is believed.", "10.0.0.0/8", 1024),
                json!([]),
            ),
            "shutdown_delay": duration("0s", "How long a stop goes on accepting at least; 5s on Kubernetes."),
        }),
    )
}

pub(super) fn admin() -> Value {
    section(
        "The admin listener; never the public one.",
        json!({
            "listen": with_default(
                text("Address and port to listen on; away from loopback a token is required.", "127.0.0.1:9090"),
                "127.0.0.1:9090",
            ),
            "token": secret("Bearer token that opens everything.", "…"),
            "token_file": file("A file with that token on one line.", "/run/secrets/admin-token"),
            "metrics_token": secret("Bearer token that opens /metrics and nothing else.", "…"),
            "metrics_token_file": file("A file with that token on one line.", "/run/secrets/metrics-token"),
        }),
    )
}

pub(super) fn store() -> Value {
    section(
        "Where events and deliveries are kept, and for how long.",
        json!({
            "engine": {
                "title": "the name of an engine",
                "description": "What keeps them.",
                "type": "string",
                "enum": ["sqlite"],
                "default": "sqlite",
            },
            "path": with_default(file("The database file; its folder is made where it is missing.", "data/events.db"), "data/events.db"),
            "dedup_window": duration("1h", "How long a body is remembered, so that a repeat is known as one."),
            "dedup_entries_max": with_default(
                whole(1, 100_000_000, "How many bodies are remembered at the most; about 35 bytes of memory each."),
                1_000_000,
            ),
            "retention": duration("30d", "How long finished events are kept; not below dedup_window."),
            "retention_dead": duration("90d", "How long events with a dead delivery are kept."),
            "retention_bytes": whole(
                MIB,
                BYTES_MAX,
                "The store's size, in bytes in use, above which the oldest finished events go before their time; not limited by default.",
            ),
            "disk_free_min": with_default(
                whole(0, BYTES_MAX, "With less than this many bytes free on the store's disk finished events older than a day go before their time; 0 switches it off."),
                1024 * MIB,
            ),
        }),
    )
}

pub(super) fn dispatch() -> Value {
    section(
        "The hand-over to the handlers.",
        json!({
            "queue_capacity": with_default(
                whole(1, 1_000_000, "Deliveries handed over in memory, per handler; more wait in the store."),
                1024,
            ),
            "queue_bytes_max": with_default(
                whole(1, 1024 * 1024 * MIB, "All bodies handed over in memory, in bytes."),
                32 * MIB,
            ),
            "drain": duration("8s", "How long a stop waits for handlers at work."),
        }),
    )
}

pub(super) fn telemetry() -> Value {
    let headers = json!({
        "title": "a table of texts",
        "description": "Further header fields of the requests to the collector.",
        "type": "object",
        "additionalProperties": secret("The value of the field.", "…"),
        "maxProperties": 64,
        "examples": [{ "Authorization": "…" }],
    });
    section(
        "Traces, one per event. Without otlp_endpoint there are none.",
        json!({
            "otlp_endpoint": text("The base URL of a collector that takes OTLP over HTTP (protobuf); /v1/traces is added.", "http://collector:4318"),
            "otlp_headers": headers,
            "otlp_headers_file": file("A file with such fields, one `Name: value` a line.", "/run/secrets/otlp-headers"),
            "sample_ratio": {
                "title": "a number",
                "description": "The share of events whose trace is sent; a request with a traceparent decides itself.",
                "type": "number",
                "minimum": 0,
                "maximum": 1,
                "default": 1.0,
            },
            "service_name": with_default(text("What the service calls itself in its traces.", "ims-receiver"), "ims-receiver"),
        }),
    )
}
