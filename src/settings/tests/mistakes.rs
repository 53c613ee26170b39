//! Every kind of mistake, and the key it is reported under.

use super::*;

/// Asserts one problem line, under `key`, with `words` in it.
#[track_caller]
fn assert_line(toml: &str, key: &str, words: &str) {
    let lines = refused(toml, &[]);
    assert_eq!(lines.len(), 1, "{lines:#?}\n{toml}");
    assert!(lines[0].starts_with(&format!("{key}: ")), "{lines:?} {key}");
    assert!(lines[0].contains(words), "{lines:?} lacks {words:?}");
}

/// Every key of the schema by the table it stands in, with a value that fits.
fn every_key() -> Vec<(String, String, Value)> {
    let tree: Value = serde_json::to_value(toml::from_str::<toml::Table>(BASE).unwrap()).unwrap();
    let schema = Schema::new();
    let mut keys = Vec::new();
    for table in [
        "server",
        "admin",
        "store",
        "dispatch",
        "telemetry",
        "sources.default",
        "sources.default.auth",
        "sources.queue",
        "sources.queue.credentials",
        "sources.relay.auth",
        "handlers.audit",
        "handlers.cms",
        "handlers.cms.retry",
        "handlers.subtitles",
    ] {
        let node = schema.at(&tree, table.split('.'));
        for key in node.keys() {
            let child = schema.child(&node, key, &Value::Null);
            let kind = child.attribute("type").or(Some(&Value::Null));
            keys.push((table.to_owned(), key.to_owned(), kind.unwrap().clone()));
        }
    }
    keys
}

#[test]
fn each_misspelt_key_is_named_with_the_right_one() {
    let keys = every_key();
    assert!(keys.len() > 60, "{}", keys.len());
    for (table, key, _) in keys {
        let misspelt = format!("{key}x");
        let toml = with(&table, &format!("{misspelt} = 1"));
        assert_line(
            &toml,
            &format!("{table}.{misspelt}"),
            &format!("did you mean `{key}`?"),
        );
    }
    assert_line(
        &with("sever", "listen = '127.0.0.1:1'"),
        "sever",
        "did you mean `server`?",
    );
    assert_line(
        &with("handlers.audit", "'url' = 'x'"),
        "handlers.audit.url",
        "the keys here are",
    );
    assert_line(&with("server", "tls = {}"), "server.tls", "unknown key");
}

#[test]
fn each_wrong_type_is_named_with_what_was_found() {
    for (table, key, kind) in every_key() {
        let wrong = match kind.as_str() {
            Some("string") => "[1]",
            Some(_) => "'text'",
            // Several types.
            None => "{}",
        };
        let toml = with(&table, &format!("{key} = {wrong}"));
        let lines = refused(&toml, &[]);
        let name = format!("{table}.{key}: expected ");
        assert!(
            lines.iter().any(|line| line.starts_with(&name)),
            "{name} {lines:?}"
        );
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("found a "), "{lines:?}");
    }
}

/// Table, lines, key within the table (or a whole key after `=`), and words of
/// the message. `\n` parts two lines.
const WRONG_VALUES: &str = r#"
server | ack_deadline = '4s' | ack_deadline | must stay below the 3 s after which IMS gives up: write "2s" or less
server | ack_deadline = '3s' | ack_deadline | must stay below the 3 s after which IMS gives up: write "2s" or less
server | ack_deadline = 2 | ack_deadline | expected a duration with a unit, found the number 2: write "2s"
server | ack_deadline = '2' | ack_deadline | found "2": write "2s"
server | ack_deadline = '2 s' | ack_deadline | expected a duration
server | ack_deadline = '' | ack_deadline | is empty
server | ack_deadline = '0s' | ack_deadline | is too short
server | keep_alive = '0s' | keep_alive | is too short
server | head_deadline = '0ms' | head_deadline | is too short
server | keep_alive = '99999999999999999999d' | keep_alive | is too long
server | listen = 'localhost:80' | listen | is no address with a port
server | listen = '0.0.0.0' | listen | is no address with a port
server | health_path = 'healthz' | health_path | does not begin with `/`
server | health_path = '/a?b' | health_path | has a query
server | health_path = '/ims/callback' | =sources.default.path | is server.health_path
server | body_bytes_max = 0 | body_bytes_max | write a whole number from 1 to
server | body_bytes_max = -1 | body_bytes_max | the number -1 is out of range
server | body_bytes_max = 1.5 | body_bytes_max | found the number 1.5
server | body_bytes_in_flight_max = 1000 | body_bytes_max | is more than server.body_bytes_in_flight_max (1000)
server | connections_max = 0 | connections_max | out of range
server | trusted_proxies = ['10.0.0.0/33'] | trusted_proxies[0] | neither a network
server | trusted_proxies = ['10.0.0.1', 7] | trusted_proxies[1] | expected a text
admin | listen = '0.0.0.0:9090' | token | is not on loopback
admin | listen = '127.0.0.1:8080' | listen | is taken by server.listen
admin | token = '' | token | is empty
admin | token = 'a b' | token | has a blank
admin | token = 'schlüssel' | token | visible ASCII
admin | token_file = '/does/not/exist' | token_file | No such file
admin | token = 'a'\nmetrics_token = 'a' | metrics_token | is the same as admin.token
store | retention = '30m' | retention | is below store.dedup_window ("1h")
store | dedup_window = '0s' | dedup_window | too short
store | retention_bytes = 1000 | retention_bytes | 1048576
store | disk_free_min = -1 | disk_free_min | 0
store | engine = 'postgres' | engine | found "postgres": the only one is "sqlite"
store | path = ':memory:' | path | names no file
store | path = '' | path | is empty
dispatch | queue_capacity = 0 | queue_capacity | out of range
telemetry | otlp_endpoint = 'collector:4318' | otlp_endpoint | is no absolute http or https URL: write the base URL
telemetry | otlp_endpoint = 'http://u:p@collector:4318' | otlp_endpoint | holds a user or a password: write them into otlp_headers
telemetry | otlp_endpoint = 'http://collector:4318/?a=1' | otlp_endpoint | has a query
telemetry | otlp_headers = { Host = 'x' } | otlp_headers.Host | is set by the service itself
telemetry | otlp_headers_file = '/does/not/exist' | otlp_headers_file | No such file
telemetry | sample_ratio = 1.5 | sample_ratio | the number 1.5 is out of range: write a number from 0 to 1
telemetry | service_name = '' | service_name | is empty
handlers.cms | headers = { traceparent = 'x' } | headers.traceparent | is set by the service itself
sources.default | kind = 'sqs' | kind | found "sqs": write one of "http", "mns"
sources.default | path = 'x' | path | does not begin
sources.default | path = '/a b' | path | holds a blank
sources.default | path = '/a#b' | path | fragment
sources.default | callback_urls = [] | callback_urls | is an empty list
sources.default | callback_urls = ['/ims/callback'] | callback_urls[0] | no absolute http
sources.default | callback_urls = ['https://a.example/ims/callback', 'x'] | callback_urls[1] | no absolute http
sources.default | public_origin = 'https://a.example/' | public_origin | no origin
sources.default | public_origin = 'https://u@a.example' | public_origin | no origin
sources.default | allow_from = [] | allow_from | empty list
sources.default | allow_from = ['everybody'] | allow_from[0] | neither a network
sources.queue | endpoint = 'mns.cn-shanghai.aliyuncs.com' | endpoint | is no base URL
sources.queue | endpoint = 'https://a.example/queues' | endpoint | is no base URL
sources.queue | endpoint = 'https://u:p@a.example' | endpoint | is no base URL
sources.queue | endpoint = '' | endpoint | is empty
sources.queue | queue = 'ice_callback' | queue | is no name of a queue
sources.queue | queue = '-ice' | queue | is no name of a queue
sources.queue | wait = '0s' | wait | too short: write "1s" to "30s"
sources.queue | wait = '31s' | wait | too long
sources.queue | wait = '1s500ms' | wait | no whole number of seconds
sources.queue | batch = 17 | batch | out of range
sources.queue | batch = 0 | batch | out of range
sources.queue | pollers = 0 | pollers | out of range
sources.queue | visibility_timeout = '13h' | visibility_timeout | too long
sources.queue | max_receives = 0 | max_receives | out of range
sources.queue | queue = '' | queue | is empty
sources.queue | ca_file = '/does/not/exist' | ca_file | No such file
sources.queue | path = '/x' | path | unknown key
sources.queue | auth = { scheme = 'none' } | auth | unknown key
sources.queue | credentials = 'x' | credentials | expected a table
sources.queue | credentials = { access_key_id = 'x' } | credentials.access_key_secret | is missing
sources.queue | credentials = { access_key_secret = 'x' } | credentials.access_key_id | is missing
sources.queue | credentials = { access_key_id = 'x', access_key_secret_file = '/does/not/exist' } | credentials.access_key_secret_file | No such file
sources.queue | credentials = { access_key_id = 'x', access_key_secret = 'a b' } | credentials.access_key_secret | has a blank
sources.queue | credentials = { access_key_id = 'x', access_key_secret = 'a', security_token = '' } | credentials.security_token | is empty
handlers.cms | kind = 'publish' | kind | found "publish": write one of "log", "forward", "shell"
handlers.cms | concurrency = 0 | concurrency | out of range
handlers.cms | concurrency = 2000 | concurrency | is more than dispatch.queue_capacity (1024)
handlers.cms | timeout = '0s' | timeout | too short
handlers.cms | events = [] | events | empty list
handlers.cms | events = ['[a'] | events[0] | is no pattern
handlers.cms | sources = ['No'] | sources[0] | is no valid name
handlers.cms | outcome = ['good'] | outcome[0] | found "good": write one of "succeeded", "failed", "other"
handlers.cms | retry = { initial = '1h' } | retry.initial | is more than retry.max ("15m")
handlers.cms | retry = { attempts = 0 } | retry.attempts | out of range
handlers.cms | url = 'ftp://x' | url | is no absolute http
handlers.cms | url = 'https://x/#f' | url | fragment
handlers.cms | url_file = '/does/not/exist' | url | stands beside handlers.cms.url_file
handlers.cms | headers = { Host = 'x' } | headers.Host | set by the service
handlers.cms | headers = { X-Ims-Source = 'x' } | headers.X-Ims-Source | set by the service
handlers.cms | headers = { 'a b' = 'x' } | headers."a b" | no name of a header
handlers.cms | headers = { A = 'x', a = 'y' } | headers.a | twice
handlers.cms | headers = { A = 'ü' } | headers.A | visible ASCII
handlers.cms | headers = { A = 1 } | headers.A | found a number
handlers.cms | bearer_token = 'a'\nheaders = { authorization = 'b' } | =handlers.cms | more than once
handlers.cms | ca_file = '/does/not/exist' | ca_file | No such file
handlers.audit | output = '' | output | is empty
handlers.subtitles | command = [] | command | is an empty list
handlers.subtitles | command = '' | command | is empty: write ["/usr/local/bin/make-subtitles"]
handlers.subtitles | command = [''] | command | the program, is empty
handlers.subtitles | command = ['a', 1] | command[1] | expected a text, found the number 1
handlers.subtitles | command = 7 | command | expected a list of texts, or one text, found the number 7
handlers.subtitles | command = ['a', "b\u0000"] | command | holds a NUL character
handlers.subtitles | env = { IMS_EVENT_ID = 'x' } | env.IMS_EVENT_ID | set by the service
handlers.subtitles | env = { 'A=B' = 'x' } | env."A=B" | no name of a variable
handlers.subtitles | env = { 1A = 'x' } | env.1A | no name of a variable
handlers.subtitles | env = { A = "x\u0000" } | env.A | holds a NUL character
handlers.subtitles | env = { A = 1 } | env.A | found a number
handlers.subtitles | env = { A = 'x' }\nenv_file = '/etc/passwd' | env | stands beside handlers.subtitles.env_file
handlers.subtitles | env_file = '/does/not/exist' | env_file | No such file
"#;

#[test]
fn wrong_values_are_explained() {
    for row in WRONG_VALUES.trim().lines() {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [table, lines, key, words] = cells[..] else {
            panic!("{row}")
        };
        let key = match key.strip_prefix('=') {
            Some(whole) => whole.to_owned(),
            None => format!("{table}.{key}"),
        };
        assert_line(&with(table, &lines.replace("\\n", "\n")), &key, words);
    }
}

#[test]
fn what_is_missing_is_named() {
    let without = |table: &str, key: &str| {
        let mut toml: toml::Table = toml::from_str(BASE).unwrap();
        let place = table
            .split('.')
            .fold(&mut toml, |t, k| t[k].as_table_mut().unwrap());
        place.remove(key).unwrap();
        toml::to_string(&toml).unwrap()
    };
    for (table, key, words) in [
        (
            "sources.default",
            "kind",
            r#"is missing: write kind = "http""#,
        ),
        (
            "sources.default",
            "path",
            r#"is missing: write path = "/ims/callback""#,
        ),
        (
            "sources.default",
            "auth",
            r#"write auth = { scheme = "ims", keys_file = "#,
        ),
        (
            "sources.default",
            "callback_urls",
            "is missing, and the scheme",
        ),
        ("handlers.cms", "kind", "is missing"),
        ("handlers.cms", "url", "is missing"),
        (
            "handlers.subtitles",
            "command",
            r#"is missing: write command = ["/usr/local/bin/make-subtitles"]"#,
        ),
    ] {
        assert_line(&without(table, key), &format!("{table}.{key}"), words);
    }
    assert_line(
        &with_auth("keys = ['a']"),
        "sources.default.auth.scheme",
        "is missing",
    );
    assert_line(
        &with_auth("scheme = 'ims'"),
        "sources.default.auth.keys",
        "is missing",
    );
    assert_line("", "sources", "nothing can arrive");
    assert_line("sources = {}", "sources", "nothing can arrive");
    assert_line("sources = 1", "sources", "expected a table");
}

#[test]
fn keys_and_schemes_are_judged() {
    for (auth, key, words) in [
        (
            "scheme = 'hmac'\nkeys = ['a']",
            "scheme",
            r#"found "hmac": write one of "ims", "hmac_sha256", "none""#,
        ),
        ("scheme = 'ims'\nkeys = []", "keys", "empty list"),
        ("scheme = 'ims'\nkeys = ['']", "keys[0]", "is empty"),
        ("scheme = 'ims'\nkeys = ['a b']", "keys[0]", "has a blank"),
        (
            "scheme = 'ims'\nkeys = ['a', 'b', 'a']",
            "keys[2]",
            "is the same as key 1",
        ),
        (
            "scheme = 'ims'\nkeys = ['a']\nkeys_file = '/none'",
            "keys",
            "stands beside",
        ),
        (
            "scheme = 'ims'\nkeys_file = '/does/not/exist'",
            "keys_file",
            "No such file",
        ),
        (
            "scheme = 'ims'\nkeys = ['a']\ntolerance = '0s'",
            "tolerance",
            "too short",
        ),
        ("scheme = 'none'\nkeys = ['a']", "keys", "unknown key"),
        (
            "scheme = 'ims'\nkeys = ['a']\nheader = 'X-S'",
            "header",
            "unknown key",
        ),
    ] {
        assert_line(
            &with_auth(auth),
            &format!("sources.default.auth.{key}"),
            words,
        );
    }
}

#[test]
fn a_signature_over_the_body_is_judged() {
    for (auth, key, words) in [
        ("keys = ['a']", "header", r#"write header = "X-Signature""#),
        ("header = 'X-S'", "keys", "is missing"),
        ("header = 'X S'\nkeys = ['a']", "header", "is no name of a"),
        ("header = ''\nkeys = ['a']", "header", "is empty"),
        (
            "header = 'User-Agent'\nkeys = ['a']",
            "header",
            "user-agent is kept with the event",
        ),
        (
            "header = 'X-S'\nkeys = ['a']\nencoding = 'HEX'",
            "encoding",
            r#"found "HEX": write one of "hex", "base64""#,
        ),
        (
            "header = 'X-S'\nkeys = ['a']\nprefix = ' v1='",
            "prefix",
            "begins with a blank",
        ),
        (
            "header = 'X-S'\nkeys = ['a']\nprefix = 'ü'",
            "prefix",
            "visible ASCII",
        ),
        (
            "header = 'X-S'\nkeys = ['a']\ntimestamp_header = 'x-s'",
            "timestamp_header",
            "is the header of the signature",
        ),
        (
            "header = 'X-S'\nkeys = ['a']\ntimestamp_header = 'X:T'",
            "timestamp_header",
            "is no name of a",
        ),
        (
            "header = 'X-S'\nkeys = ['a']\ntimestamp_header = 'X-T'\ntolerance = '2d'",
            "tolerance",
            "too long",
        ),
    ] {
        assert_line(
            &with_auth(&format!("scheme = 'hmac_sha256'\n{auth}")),
            &format!("sources.default.auth.{key}"),
            words,
        );
    }
    let auth = "header = 'X S'\nprefix = ' '\nencoding = 7\ntimestamp_header = 'X T'\n\
                tolerance = '0s'\nkeys = ['a b']";
    let lines = refused(&with_auth(&format!("scheme = 'hmac_sha256'\n{auth}")), &[]);
    assert_eq!(lines.len(), 6, "every problem at once: {lines:#?}");
}

#[test]
fn names_and_paths_are_judged() {
    for name in ["A", "a__b", "-a", "a.b", ""] {
        let toml = with("handlers", &format!("'{name}' = {{ kind = 'log' }}"));
        let lines = refused(&toml, &[]);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("is no valid name"), "{lines:?}");
    }
    let second = "kind = 'http'\npath = '/ims/callback'\nauth = { scheme = 'none' }";
    assert_line(
        &with("sources.second", second),
        "sources.second.path",
        "is the path of sources.default as well",
    );
    let long = format!("callback_urls = ['https://a.example/{}']", "x".repeat(300));
    assert_line(
        &with("sources.default", &long),
        "sources.default.callback_urls[0]",
        "at most 256",
    );
}

#[test]
fn four_mistakes_are_four_lines() {
    let toml = r#"
        [server]
        ack_deadline = "4s"
        lsten = "x"
        [sources.default]
        kind = "http"
        path = "ims"
        [handlers.cms]
        kind = "forward"
        url = "https://a.example"
        timeout = 10
    "#;
    let lines = refused(toml, &[]);
    let keys: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split(": ").next())
        .collect();
    assert_eq!(
        keys,
        [
            "handlers.cms.timeout",
            "server.ack_deadline",
            "server.lsten",
            "sources.default.auth",
            "sources.default.path"
        ]
    );
}

#[test]
fn a_wrong_kind_does_not_hide_the_common_keys() {
    let toml = with(
        "handlers.cms",
        "kind = 'publish'\ntimeout = 1\ncommand = ['x']",
    );
    let lines = refused(&toml, &[]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("handlers.cms.kind: "), "{lines:?}");
    assert!(lines[1].starts_with("handlers.cms.timeout: "), "{lines:?}");
}

#[test]
fn a_missing_kind_does_not_hide_the_rest() {
    for (toml, keys) in [
        (
            "[sources.a]\npath = 5\nauth = { scheme = 'none' }\nallow = 1",
            &["sources.a.kind"][..],
        ),
        (
            "[sources.a]\nkind = 'sqs'\npath = 5\n[server]\nack_deadline = '9s'",
            &["server.ack_deadline", "sources.a.kind"],
        ),
        (
            "[sources.a]\nkind = 'http'\npath = 'a'\nauth = { keys = 5 }",
            &["sources.a.auth.scheme", "sources.a.path"],
        ),
        (
            "[sources.a]\nkind = 'http'\npath = '/a'\nauth = 7\n[handlers.h]\noutput = 7\ntimeout = 7",
            &["handlers.h.kind", "handlers.h.timeout", "sources.a.auth"],
        ),
        (
            "server = 1\nhandlers = [1]\n[sources.a]\nkind = 'http'\npath = '/a'\nauth = { scheme = 'ims', keys = [1] }\ncallback_urls = 'x'",
            &[
                "handlers",
                "server",
                "sources.a.auth.keys[0]",
                "sources.a.callback_urls",
            ],
        ),
    ] {
        let lines = refused(toml, &[]);
        let found: Vec<&str> = lines.iter().filter_map(|l| l.split(": ").next()).collect();
        assert_eq!(found, keys, "{lines:?}");
    }
}

#[test]
fn a_command_that_no_system_could_start_is_refused() {
    let word = "x".repeat(4000);
    let command = |words: usize| {
        format!(
            "command = ['/bin/true'{}]",
            format!(", '{word}'").repeat(words)
        )
    };
    assert_eq!(
        warnings(&with("handlers.subtitles", &command(16))),
        [] as [&str; 0]
    );
    assert_line(
        &with("handlers.subtitles", &command(17)),
        "handlers.subtitles.command",
        "more than every system can start",
    );
    let env = format!("{}\nenv = {{ A = '{word}', B = '{word}' }}", command(15));
    assert_line(
        &with("handlers.subtitles", &env),
        "handlers.subtitles.command",
        "together with env",
    );
}

#[test]
fn control_characters_never_break_a_line() {
    let toml = with("server", "\"a\\nserver.listen: b\\u001b[2J\\u202e\" = 1");
    let lines = refused(&toml, &[]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(!lines[0].contains(['\u{1b}', '\u{202e}']), "{lines:?}");
    let toml = with("server", "listen = \"a\\r\\nb\"");
    assert_eq!(refused(&toml, &[]).len(), 1);
}

#[test]
fn oddities_are_warned_about() {
    for (table, line, key, words) in [
        (
            "sources.default",
            "callback_urls = ['http://a.example/ims/callback']",
            "sources.default.callback_urls[0]",
            "plain http",
        ),
        (
            "sources.default",
            "callback_urls = ['https://a.example/other']",
            "sources.default.callback_urls[0]",
            "is not the source's path",
        ),
        (
            "sources.relay",
            "callback_urls = ['https://a.example/relay']",
            "sources.relay.callback_urls",
            "is not used: the scheme",
        ),
        (
            "sources.relay",
            "public_origin = 'https://a.example'",
            "sources.relay.public_origin",
            "is not used: the scheme",
        ),
        (
            "sources.relay.auth",
            "tolerance = '1m'",
            "sources.relay.auth.tolerance",
            "has no effect without timestamp_header",
        ),
        (
            "handlers.cms",
            "sources = ['default', 'nobody']",
            "handlers.cms.sources[1]",
            "no source \"nobody\"",
        ),
        (
            "handlers.cms",
            "url = 'http://a.example/'\nbearer_token = 'x'",
            "handlers.cms.url",
            "plain http",
        ),
        (
            "server",
            "trusted_proxies = ['0.0.0.0/0']",
            "server.trusted_proxies",
            "every address",
        ),
        (
            "telemetry",
            "otlp_headers = { X-Token = 'x' }",
            "telemetry.otlp_headers",
            "without telemetry.otlp_endpoint",
        ),
        (
            "dispatch",
            "queue_bytes_max = 1000",
            "dispatch.queue_bytes_max",
            "below server.body_bytes_max",
        ),
        (
            "handlers.subtitles",
            "command = ['/no/such/hook']",
            "handlers.subtitles.command",
            "/no/such/hook cannot be run: No such file",
        ),
        (
            "handlers.subtitles",
            "command = ['/etc/passwd']",
            "handlers.subtitles.command",
            "/etc/passwd cannot be run: Permission denied",
        ),
        (
            "handlers.subtitles",
            "command = ['/etc']",
            "handlers.subtitles.command",
            "/etc cannot be run: permission denied",
        ),
        (
            "handlers.subtitles",
            "command = ['no-such-hook']",
            "handlers.subtitles.command",
            "no program \"no-such-hook\" in PATH",
        ),
        (
            "handlers.subtitles",
            "command = ['true']\nenv = { PATH = '/no/such' }",
            "handlers.subtitles.command",
            "no program \"true\" in PATH",
        ),
    ] {
        let warnings = warnings(&with(table, line));
        assert_eq!(warnings.len(), 1, "{line} {warnings:?}");
        assert!(
            warnings[0].starts_with(&format!("warning: {key}: ")),
            "{warnings:?}"
        );
        assert!(warnings[0].contains(words), "{warnings:?}");
    }
    assert!(
        warnings(&with_auth("scheme = 'none'"))[0]
            .starts_with("warning: sources.default.auth.scheme: ")
    );
    let short = warnings(&with_auth(
        "scheme = 'ims'\nkeys = ['Abcdefghijklmnopqrst', 'test123']",
    ));
    assert_eq!(short.len(), 1);
    assert!(short[0].contains("key 2 has fewer than 16"), "{short:?}");
    let joined = warnings(&with_auth(
        "scheme = 'ims'\nkeys = ['Abcdefghijklmnopqrst0123456789ABCDE']",
    ));
    assert_eq!(joined.len(), 1);
    assert!(joined[0].contains("key 1 has more than 32"), "{joined:?}");
    for (glob, known) in [
        ("ProduceMediaComplet", false),
        ("mediaconvert*", false),
        ("MediaConvert*", true),
        ("malformed", true),
        ("*", true),
    ] {
        let text = with(
            "handlers.cms",
            &format!("url = 'https://a.b/'\nevents = ['{glob}']"),
        );
        let warned = warnings(&text)
            .iter()
            .any(|line| line.starts_with("warning: handlers.cms.events[0]: "));
        assert_eq!(warned, !known, "{glob}");
    }
    let mut toml: toml::Table = toml::from_str(BASE).unwrap();
    toml.remove("handlers");
    assert!(warnings(&toml::to_string(&toml).unwrap())[0].starts_with("warning: handlers: "));
    let local = with(
        "handlers.cms",
        "url = 'http://127.0.0.1:1/'\nbearer_token = 'x'",
    );
    assert_eq!(warnings(&local), [] as [&str; 0]);
}
