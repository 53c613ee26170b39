//! The configuration as a whole: files in, settings or problems out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::schema::{self, Schema};
use super::*;
use crate::handler::HandlerConfig;
use crate::handler::log::LogOutput;
use crate::handler::shell::ShellConfig;
use crate::mns::CredentialsConfig;
use crate::signature::hmac_sha256::Encoding;
use crate::signature::{ReusePolicy, SchemeConfig};

mod files;
mod mistakes;
mod secret;

const KEY: &str = "Abcdefghijklmnopqrstuvwx01234567";

/// A configuration without problems or warnings, which mistakes are added to.
const BASE: &str = r#"
[sources.default]
kind = "http"
path = "/ims/callback"
callback_urls = ["https://callbacks.example.com/ims/callback"]
auth = { scheme = "ims", keys = ["Abcdefghijklmnopqrstuvwx01234567"] }

[sources.queue]
kind = "mns"
endpoint = "https://1234567890123456.mns.cn-shanghai.aliyuncs.com"
queue = "ice-callback-events"
credentials = { access_key_id = "id-of-key", access_key_secret = "secret-of-key" }

[sources.relay]
kind = "http"
path = "/relay"
auth = { scheme = "hmac_sha256", keys = ["Abcdefghijklmnopqrstuvwx01234567"], header = "X-Signature" }

[handlers.audit]
kind = "log"

[handlers.cms]
kind = "forward"
url = "https://cms.internal/hooks/media"

[handlers.subtitles]
kind = "shell"
command = ["/bin/true"]
"#;

fn load_with(toml: &str, env: &[(&str, &str)]) -> Result<Loaded, LoadError> {
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    from_toml(toml, Path::new("receiver.toml"), env)
}

fn loaded(toml: &str, env: &[(&str, &str)]) -> Loaded {
    load_with(toml, env).unwrap_or_else(|error| panic!("{error}"))
}

/// The lines of the refusal.
fn refused(toml: &str, env: &[(&str, &str)]) -> Vec<String> {
    match load_with(toml, env) {
        Ok(_) => panic!("loads without a problem:\n{toml}"),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    }
}

fn warnings(toml: &str) -> Vec<String> {
    let loaded = loaded(toml, &[]);
    loaded.warnings.iter().map(ToString::to_string).collect()
}

/// The base with `lines` added to the table `section`; they replace what it has.
fn with(section: &str, lines: &str) -> String {
    let mut table: toml::Table = toml::from_str(BASE).unwrap();
    let patch: toml::Table = toml::from_str(lines).unwrap_or_else(|e| panic!("{lines}: {e}"));
    let place = section
        .split('.')
        .filter(|key| !key.is_empty())
        .fold(&mut table, |table, key| {
            let entry = table
                .entry(key)
                .or_insert_with(|| toml::Table::new().into());
            entry.as_table_mut().unwrap()
        });
    place.extend(patch);
    toml::to_string(&table).unwrap()
}

fn with_auth(lines: &str) -> String {
    let auth: toml::Table = toml::from_str(lines).unwrap();
    let mut table: toml::Table = toml::from_str(BASE).unwrap();
    table["sources"]["default"]["auth"] = auth.into();
    toml::to_string(&table).unwrap()
}

#[test]
fn the_base_means_what_the_contract_says() {
    let loaded = loaded(BASE, &[]);
    assert_eq!(loaded.warnings, []);
    let s = &loaded.settings;
    assert_eq!(s.server.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(s.server.health_path, "/healthz");
    assert_eq!(s.server.body_bytes_max, 1_048_576);
    assert_eq!(s.server.body_bytes_in_flight_max, 67_108_864);
    assert_eq!(s.server.ack_deadline, Duration::from_secs(2));
    assert_eq!(s.server.head_deadline, Duration::from_secs(10));
    assert_eq!(s.server.keep_alive, Duration::from_secs(75));
    assert_eq!(s.server.connections_max, 4096);
    assert!(s.server.trusted_proxies.is_empty());
    assert_eq!(s.server.shutdown_delay, Duration::ZERO);
    assert_eq!(s.admin.listen.to_string(), "127.0.0.1:9090");
    assert!(s.admin.token.is_none() && s.admin.metrics_token.is_none());
    assert_eq!(s.store.path, PathBuf::from("data/events.db"));
    assert_eq!(s.store.dedup_window, Duration::from_secs(3600));
    assert_eq!(s.store.dedup_entries_max, 1_000_000);
    assert_eq!(s.store.retention, Duration::from_secs(30 * 86400));
    assert_eq!(s.store.retention_dead, Duration::from_secs(90 * 86400));
    assert_eq!(s.store.retention_bytes, None);
    assert_eq!(s.store.disk_free_min, 1 << 30);
    assert_eq!(s.dispatch.queue_capacity, 1024);
    assert_eq!(s.dispatch.queue_bytes_max, 33_554_432);
    assert_eq!(s.dispatch.drain, Duration::from_secs(8));
    let [source, relay] = s.sources.as_slice() else {
        panic!("{:?}", s.sources)
    };
    assert!(source.allow_from.is_none());
    let SchemeConfig::Ims(ims) = &source.auth else {
        panic!("{:?}", source.auth)
    };
    assert_eq!(ims.keys[0].expose_secret(), KEY);
    assert_eq!(ims.tolerance, Duration::from_secs(300));
    assert_eq!(
        ims.callback_urls,
        ["https://callbacks.example.com/ims/callback"]
    );
    let SchemeConfig::HmacSha256(hmac) = &relay.auth else {
        panic!("{:?}", relay.auth)
    };
    assert_eq!(hmac.keys[0].expose_secret(), KEY);
    assert_eq!(hmac.header, "x-signature");
    assert_eq!((hmac.prefix.as_str(), hmac.encoding), ("", Encoding::Hex));
    assert_eq!(hmac.timestamp_header, None);
    assert_eq!(hmac.tolerance, Duration::from_secs(300));
}

#[test]
fn what_a_second_use_of_a_signature_means_can_be_chosen() {
    let reuse = |toml: &str| match &loaded(toml, &[]).settings.sources[0].auth {
        SchemeConfig::Ims(ims) => ims.reuse,
        other => panic!("{other:?}"),
    };
    let keys = format!("keys = ['{KEY}']");
    assert_eq!(reuse(BASE), ReusePolicy::Note);
    for (word, meant) in [("note", ReusePolicy::Note), ("refuse", ReusePolicy::Refuse)] {
        let auth = format!("scheme = 'ims'\n{keys}\nreuse = '{word}'");
        assert_eq!(reuse(&with_auth(&auth)), meant);
    }
    for (scheme, word) in [("ims", "allow"), ("hmac_sha256", "refuse")] {
        let auth = format!("scheme = '{scheme}'\n{keys}\nheader = 'X-S'\nreuse = '{word}'");
        let problems = refused(&with_auth(&auth), &[]);
        let named = |problem: &String| problem.starts_with("sources.default.auth.reuse: ");
        assert!(problems.iter().any(named), "{problems:?}");
    }
}

#[test]
fn a_signature_over_the_body_is_described_by_its_keys() {
    let lines = "prefix = 'v1, sha256='\nencoding = 'base64'\ntimestamp_header = 'X-Sent'\ntolerance = '1m'";
    let loaded = loaded(&with("sources.relay.auth", lines), &[]);
    assert_eq!(loaded.warnings, []);
    let SchemeConfig::HmacSha256(hmac) = &loaded.settings.sources[1].auth else {
        panic!()
    };
    assert_eq!(hmac.prefix, "v1, sha256=");
    assert_eq!(hmac.encoding, Encoding::Base64);
    assert_eq!(hmac.timestamp_header.as_ref().unwrap(), "x-sent");
    assert_eq!(hmac.tolerance, Duration::from_secs(60));
}

#[test]
fn a_queue_has_its_defaults_and_its_own_credentials() {
    let s = loaded(BASE, &[]).settings;
    let [queue] = s.queues.as_slice() else {
        panic!("{:?}", s.queues)
    };
    assert_eq!(queue.name.as_str(), "queue");
    assert_eq!(queue.queue, "ice-callback-events");
    assert_eq!(queue.wait, Duration::from_secs(30));
    assert_eq!((queue.batch, queue.pollers, queue.max_receives), (16, 1, 5));
    assert_eq!(queue.visibility_timeout, None);
    let CredentialsConfig::Fixed(read) = &queue.credentials else {
        panic!("{queue:?}")
    };
    let credential = read().unwrap();
    assert_eq!(credential.access_key_id, "id-of-key");
    assert_eq!(
        credential.access_key_secret.expose_secret(),
        "secret-of-key"
    );
    assert!(credential.security_token.is_none());

    let toml = with(
        "sources.queue",
        "endpoint = 'http://127.0.0.1:9324/'\nvisibility_timeout = '2m'\nwait = '5s'",
    );
    let loaded = loaded(&toml, &[("IMS_RECEIVER__SOURCES__QUEUE__BATCH", "4")]);
    let queue = &loaded.settings.queues[0];
    assert_eq!(queue.endpoint, "http://127.0.0.1:9324");
    assert_eq!(queue.visibility_timeout, Some(Duration::from_secs(120)));
    assert_eq!((queue.wait.as_secs(), queue.batch), (5, 4));
    assert_eq!(loaded.warnings, []);
}

#[test]
fn files_of_credentials_are_read_again() {
    use std::io::{Seek as _, Write as _};

    let mut file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display().to_string();
    file.write_all(b"first\n").unwrap();
    let mut toml: toml::Table = toml::from_str(BASE).unwrap();
    let credentials = format!("access_key_id = 'id'\naccess_key_secret_file = '{path}'");
    toml["sources"]["queue"]["credentials"] =
        toml::from_str::<toml::Table>(&credentials).unwrap().into();
    let loaded = loaded(&toml::to_string(&toml).unwrap(), &[]);
    let CredentialsConfig::Fixed(read) = &loaded.settings.queues[0].credentials else {
        panic!()
    };
    let secret =
        || read().map(|credential| credential.access_key_secret.expose_secret().to_owned());
    assert_eq!(secret(), Ok("first".to_owned()));
    file.as_file().set_len(0).unwrap();
    file.rewind().unwrap();
    assert!(secret().unwrap_err().contains(&path));
    file.write_all(b"second\n").unwrap();
    assert_eq!(secret(), Ok("second".to_owned()));
}

#[test]
fn handlers_have_the_defaults_of_their_kind() {
    let s = loaded(BASE, &[]).settings;
    let [audit, cms, subtitles] = s.handlers.as_slice() else {
        panic!("{:?}", s.handlers)
    };
    for (lane, concurrency, timeout) in [(audit, 64, 10), (cms, 16, 10), (subtitles, 4, 60)] {
        assert_eq!(lane.concurrency, concurrency);
        assert_eq!(lane.timeout, Duration::from_secs(timeout));
        assert_eq!(lane.retry.initial, Duration::from_secs(1));
        assert_eq!(lane.retry.max, Duration::from_secs(900));
        assert_eq!(lane.retry.max_age, Duration::from_secs(3 * 86400));
        assert_eq!(lane.retry.attempts, None);
    }
    let HandlerConfig::Log(log) = &audit.handler else {
        panic!("{audit:?}")
    };
    assert_eq!(
        (&log.output, log.body, log.body_bytes_max),
        (&LogOutput::Stdout, true, Some(8192))
    );

    for (output, limit) in [("stderr", Some(8192)), ("x/events.jsonl", None)] {
        let s = loaded(
            &with("handlers.audit", &format!("output = '{output}'")),
            &[],
        )
        .settings;
        let HandlerConfig::Log(log) = &s.handlers[0].handler else {
            panic!("{s:?}")
        };
        assert_eq!(log.body_bytes_max, limit, "{output}");
    }
}

/// The shell handler of a configuration that has `lines` in its table.
fn shell(lines: &str, env: &[(&str, &str)]) -> ShellConfig {
    let loaded = loaded(&with("handlers.subtitles", lines), env);
    let handlers = &loaded.settings.handlers;
    let Some(HandlerConfig::Shell(shell)) = handlers.last().map(|lane| &lane.handler) else {
        panic!("{handlers:?}")
    };
    shell.clone()
}

#[test]
fn a_command_is_a_list_or_a_text_for_the_shell() {
    assert_eq!(
        shell("command = ['/bin/echo', '', '-n', '$HOME']", &[]).command,
        ["/bin/echo", "", "-n", "$HOME"]
    );
    let script = ["/bin/sh", "-c", "cat > \"$IMS_EVENT_ID\""];
    let written = "command = 'cat > \"$IMS_EVENT_ID\"'";
    assert_eq!(shell(written, &[]).command, script);
    let name = "IMS_RECEIVER__HANDLERS__SUBTITLES__COMMAND";
    assert_eq!(
        shell("", &[(name, r#"["/bin/echo", "a b"]"#)]).command,
        ["/bin/echo", "a b"]
    );
    assert_eq!(shell("", &[(name, script[2])]).command, script);
    // `[` is a program as well.
    assert_eq!(
        shell("", &[(name, "[ -e /tmp ]")]).command[2],
        "[ -e /tmp ]"
    );
}

#[test]
fn variables_of_a_command_come_from_the_file_or_a_file_of_their_own() {
    let pairs = |shell: ShellConfig| -> Vec<(String, String)> {
        let env = shell.env.into_iter();
        env.map(|(name, value)| (name, value.expose_secret().to_owned()))
            .collect()
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let inline = shell("env = { A_1 = 'x y', EMPTY = '' }", &[]);
    assert_eq!(pairs(inline), [pair("A_1", "x y"), pair("EMPTY", "")]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "TOKEN=a=b c\r\n\n EMPTY=\n").unwrap();
    let from_file = shell(&format!("env_file = '{}'", file.path().display()), &[]);
    assert_eq!(
        pairs(from_file),
        [pair("TOKEN", "a=b c"), pair("EMPTY", "")]
    );
    std::fs::write(file.path(), "A=1\nTOKEN\n").unwrap();
    let lines = refused(
        &with(
            "handlers.subtitles",
            &format!("env_file = '{}'", file.path().display()),
        ),
        &[],
    );
    assert!(lines[0].contains("line 2 is no variable"), "{lines:?}");
    let env = (
        "IMS_RECEIVER__HANDLERS__SUBTITLES__ENV",
        r#"{"Queue": "1"}"#,
    );
    assert_eq!(pairs(shell("", &[env])), [pair("Queue", "1")]);
    let shown = masked(&loaded(
        &with("handlers.subtitles", "env = { A = 'c4nary' }"),
        &[],
    ))
    .to_owned();
    assert!(
        shown.contains("A = \"***\"") && !shown.contains("c4nary"),
        "{shown}"
    );
}

#[test]
fn a_small_queue_bounds_the_default_concurrency() {
    let s = loaded(&with("dispatch", "queue_capacity = 4"), &[]).settings;
    assert_eq!(s.handlers[0].concurrency, 4);
    assert_eq!(s.handlers[1].concurrency, 4);
}

#[test]
fn the_environment_reaches_every_place() {
    let s = loaded(
        BASE,
        &[
            ("IMS_RECEIVER__SERVER__LISTEN", "127.0.0.1:0"),
            ("IMS_RECEIVER__SERVER__BODY_BYTES_MAX", "2048"),
            (
                "IMS_RECEIVER__SERVER__TRUSTED_PROXIES",
                r#"["10.0.0.0/8", "192.0.2.1"]"#,
            ),
            (
                "IMS_RECEIVER__SOURCES__DEFAULT__AUTH__KEYS",
                r#"["12345678901234567890", "Abcdefghijklmnopqrst"]"#,
            ),
            ("IMS_RECEIVER__SOURCES__DEFAULT__AUTH__TOLERANCE", "1m"),
            ("IMS_RECEIVER__HANDLERS__CMS__CONCURRENCY", "7"),
            ("IMS_RECEIVER__HANDLERS__CMS__BEARER_TOKEN", "1234567890"),
            ("IMS_RECEIVER__HANDLERS__CMS__RETRY__ATTEMPTS", "3"),
            (
                "IMS_RECEIVER__HANDLERS__CMS__HEADERS",
                r#"{"X-Team": "media"}"#,
            ),
            ("IMS_RECEIVER__HANDLERS__AUDIT__BODY", "false"),
            ("IMS_RECEIVER__HANDLERS__NEW-2__KIND", "log"),
            ("IMS_RECEIVER_LOG", "debug"),
            ("IMS_RECEIVER_CONFIG", "elsewhere.toml"),
        ],
    )
    .settings;
    assert_eq!(s.server.listen.to_string(), "127.0.0.1:0");
    assert_eq!(s.server.body_bytes_max, 2048);
    assert_eq!(s.server.trusted_proxies[1].to_string(), "192.0.2.1/32");
    let SchemeConfig::Ims(ims) = &s.sources[0].auth else {
        panic!()
    };
    assert_eq!(ims.keys.len(), 2);
    assert_eq!(ims.keys[0].expose_secret(), "12345678901234567890");
    assert_eq!(ims.tolerance, Duration::from_secs(60));
    let names: Vec<&str> = s.handlers.iter().map(|lane| lane.name.as_str()).collect();
    assert_eq!(names, ["audit", "cms", "new-2", "subtitles"]);
    assert_eq!(s.handlers[1].concurrency, 7);
    assert_eq!(s.handlers[1].retry.attempts, Some(3));
    let HandlerConfig::Forward(cms) = &s.handlers[1].handler else {
        panic!()
    };
    assert_eq!(
        cms.bearer_token.as_ref().unwrap().expose_secret(),
        "1234567890"
    );
    assert_eq!(cms.headers[0].0, "x-team");
    let HandlerConfig::Log(log) = &s.handlers[0].handler else {
        panic!()
    };
    assert!(!log.body);
}

#[test]
fn a_header_of_the_file_is_replaced_from_the_environment() {
    let toml = with("handlers.cms", r#"headers = { X-Team = "a" }"#);
    let s = loaded(
        &toml,
        &[("IMS_RECEIVER__HANDLERS__CMS__HEADERS__X-TEAM", "b")],
    )
    .settings;
    let HandlerConfig::Forward(cms) = &s.handlers[1].handler else {
        panic!()
    };
    let [(name, value)] = cms.headers.as_slice() else {
        panic!("{:?}", cms.headers)
    };
    assert_eq!((name.as_str(), value.expose_secret()), ("x-team", "b"));
}

#[test]
fn a_mistake_in_the_environment_names_the_variable() {
    for (name, value, key) in [
        (
            "IMS_RECEIVER__SERVER__BODY_BYTES_MAX",
            "1 MB",
            "server.body_bytes_max",
        ),
        (
            "IMS_RECEIVER__SERVER__ACK_DEADLINE",
            "4s",
            "server.ack_deadline",
        ),
        (
            "IMS_RECEIVER__SERVER__TRUSTED_PROXIES",
            "10.0.0.0/8",
            "server.trusted_proxies",
        ),
        (
            "IMS_RECEIVER__SERVER__TRUSTED_PROXIES",
            r#"["x"]"#,
            "server.trusted_proxies[0]",
        ),
        ("IMS_RECEIVER__SERVR__LISTEN", "127.0.0.1:1", "servr"),
        (
            "IMS_RECEIVER__HANDLERS__CMS__CONCURRENCY",
            "many",
            "handlers.cms.concurrency",
        ),
        (
            "IMS_RECEIVER__HANDLERS__CMS__TIMEOUT",
            "",
            "handlers.cms.timeout",
        ),
        ("IMS_RECEIVER__ADMIN__TOKEN", "", "admin.token"),
        (
            "IMS_RECEIVER__SOURCES__DEFAULT__AUTH__KEYS",
            "[\"\"]",
            "sources.default.auth.keys[0]",
        ),
    ] {
        let lines = refused(BASE, &[(name, value)]);
        assert_eq!(lines.len(), 1, "{name}={value}: {lines:?}");
        assert!(lines[0].starts_with(&format!("{key}: ")), "{lines:?}");
        assert!(lines[0].contains(name), "{lines:?}");
    }
    let lines = refused(BASE, &[("IMS_RECEIVER__SERVER____LISTEN", "x")]);
    assert!(
        lines[0].starts_with("IMS_RECEIVER__SERVER____LISTEN: "),
        "{lines:?}"
    );
}

#[test]
fn the_schema_is_a_schema_and_its_defaults_fit_it() {
    let document = schema::document();
    jsonschema::meta::validate(&document).unwrap();
    let mut tree: Value = serde_json::json!({
        "sources": {
            "a": { "kind": "http", "path": "/a", "auth": { "scheme": "ims" } },
            "q": { "kind": "mns", "endpoint": "https://mns.example", "queue": "q", "credentials": {} },
            "b": { "kind": "http", "path": "/b", "auth": { "scheme": "hmac_sha256", "header": "X-S" } },
        },
        "handlers": { "l": { "kind": "log" }, "f": { "kind": "forward" }, "s": { "kind": "shell", "command": ["x"] } },
    });
    Schema::new().fill_defaults(&mut tree);
    let validator = jsonschema::validator_for(&document).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&tree)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn an_admin_listener_is_judged_by_its_real_address() {
    let admin = loaded(BASE, &[]).settings.admin;
    for (address, fits) in [
        ("127.0.0.1:1", true),
        ("[::1]:1", true),
        ("[::ffff:127.0.0.1]:1", true),
        ("0.0.0.0:1", false),
        ("10.0.0.1:1", false),
    ] {
        let judged = check_admin_exposure(&admin, address.parse().unwrap());
        assert_eq!(judged.is_ok(), fits, "{address}");
    }
}

#[test]
fn traces_are_off_until_a_collector_is_named() {
    assert!(loaded(BASE, &[]).settings.traces.is_none());
    for (endpoint, expected) in [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("http://c:4318/", "http://c:4318/v1/traces"),
        ("https://c/otlp/", "https://c/otlp/v1/traces"),
        ("https://c/otlp/v1/traces", "https://c/otlp/v1/traces"),
    ] {
        let toml = with("telemetry", &format!("otlp_endpoint = '{endpoint}'"));
        let traces = loaded(&toml, &[]).settings.traces.unwrap();
        assert_eq!(traces.endpoint, expected);
        assert_eq!(traces.sample_ratio, 1.0);
        assert_eq!(traces.service_name, "ims-receiver");
    }
    let toml = with(
        "telemetry",
        "otlp_endpoint = 'http://c:4318'\notlp_headers = { X-Token = 'canary' }",
    );
    let loaded = loaded(&toml, &[("IMS_RECEIVER__TELEMETRY__SAMPLE_RATIO", "0.25")]);
    assert_eq!(loaded.settings.traces.as_ref().unwrap().sample_ratio, 0.25);
    let shown = masked(&loaded);
    assert!(shown.contains("sample_ratio = 0.25"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn a_number_is_printed_alike_whether_written_or_by_default() {
    let by_default = loaded(BASE, &[]);
    let written = loaded(&with("telemetry", "sample_ratio = 1"), &[]);
    assert_eq!(masked(&by_default), masked(&written));
    let again = loaded(masked(&by_default), &[]);
    assert_eq!(masked(&by_default), masked(&again));
}
