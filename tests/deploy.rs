//! The files of a deployment: each is read as what it is, and agrees with the
//! image's configuration and with the service's own times.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ims_receiver::settings::{Settings, from_toml};
use serde_json::Value;

const URLS: &str = "IMS_RECEIVER__SOURCES__DEFAULT__CALLBACK_URLS";
/// The secrets that the image's configuration names, below /run/secrets.
const SECRETS: [&str; 2] = ["ims-keys", "admin-token"];
/// From the end of the drain to the exit: closing, and answering what was read.
const CLOSING: Duration = Duration::from_secs(1);
/// How long the sender waits for one try.
const SENDER_PATIENCE: Duration = Duration::from_secs(3);

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(name: &str) -> String {
    std::fs::read_to_string(project().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn yaml(name: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&file(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// What the image's configuration means with these variables, its secrets
/// mounted.
fn image(variables: Vec<(String, String)>) -> Settings {
    let folder = tempfile::tempdir().expect("a folder");
    let mut text = file("config/container.toml");
    for name in SECRETS {
        let mounted = format!("\"/run/secrets/{name}\"");
        assert!(text.contains(&mounted), "{name} is not named");
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{name}-{name}-{name}")).expect("a secret");
        text = text.replace(&mounted, &format!("{path:?}"));
    }
    assert!(!text.contains("\"/run/secrets/"), "a secret more");
    let loaded = from_toml(&text, Path::new("container.toml"), variables);
    let loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
    let exposed = |problem: &str| problem.contains("is open to other users");
    for warning in &loaded.warnings {
        assert!(exposed(&warning.0.problem), "{warning}");
    }
    loaded.settings
}

fn plain_image() -> Settings {
    let url = r#"["https://callbacks.example.com/ims/callback"]"#;
    image(vec![(URLS.into(), url.into())])
}

/// How long a stop takes at the most.
fn stop_of(settings: &Settings) -> Duration {
    settings.dispatch.drain.max(settings.server.shutdown_delay) + CLOSING
}

fn data_folder(settings: &Settings) -> &str {
    let folder = settings.store.path.parent().expect("a folder");
    folder.to_str().expect("UTF-8")
}

/// `20s` or `200ms`, as these files write times.
fn duration(text: &str) -> Duration {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().unwrap_or_else(|_| panic!("{text}"));
    match &text[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "s" | "" => Duration::from_secs(number),
        unit => panic!("{unit}"),
    }
}

/// The rest of the one line that begins with `directive`.
fn directive<'a>(text: &'a str, directive: &str) -> &'a str {
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix(directive))
        .collect();
    assert_eq!(lines.len(), 1, "{directive}: {lines:?}");
    lines[0].trim().trim_end_matches(';')
}

/// The number of the user in the image.
fn user() -> (u64, u64) {
    let dockerfile = file("Dockerfile");
    let (user, group) = directive(&dockerfile, "USER ")
        .split_once(':')
        .expect("user and group");
    let number = |text: &str| text.parse().expect("Kubernetes wants a number");
    (number(user), number(group))
}

#[test]
fn the_image_runs_the_service_as_its_configuration_says() {
    let settings = plain_image();
    let dockerfile = file("Dockerfile");
    let (user, group) = user();
    assert!(user > 0 && group > 0, "root");
    let ports = [settings.server.listen, settings.admin.listen].map(|address| {
        assert!(address.ip().is_unspecified(), "nobody outside gets there");
        address.port().to_string()
    });
    assert_eq!(directive(&dockerfile, "EXPOSE "), ports.join(" "));
    assert!(settings.admin.token.is_some());
    let folder = format!(
        "install -d -o {user} -g {group} -m 700 {}",
        data_folder(&settings)
    );
    assert!(dockerfile.contains(&folder), "{folder}");
    assert!(!dockerfile.lines().any(|line| line.starts_with("VOLUME")));
    // Where the program looks without being told.
    directive(
        &dockerfile,
        "COPY config/container.toml /etc/ims-receiver/receiver.toml",
    );
    assert_eq!(
        directive(&dockerfile, "ENTRYPOINT "),
        r#"["/usr/bin/tini", "--", "ims-receiver"]"#
    );
    assert_eq!(
        directive(&dockerfile, "CMD [\"ims-receiver\","),
        r#""health", "--live"]"#
    );
}

#[test]
fn the_build_context_holds_no_secrets() {
    let lines = file(".dockerignore");
    let rules: Vec<&str> = lines
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect();
    assert_eq!(rules.first(), Some(&"*"), "everything is left out at first");
    assert_eq!(
        rules.last(),
        Some(&"config/secrets"),
        "as compose.yml makes"
    );
    for rule in &rules[1..rules.len() - 1] {
        let taken = rule.strip_prefix('!').expect("an exception");
        assert!(project().join(taken).exists(), "{taken} is not there");
    }
}

#[test]
fn without_its_secrets_the_image_says_how_to_make_them() {
    let output = Command::new(env!("CARGO_BIN_EXE_ims-receiver"))
        .arg("--config")
        .arg(project().join("config/container.toml"))
        .arg("serve")
        .env(URLS, r#"["https://callbacks.example.com/ims/callback"]"#)
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(64));
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    for (key, name) in [
        ("sources.default.auth.keys_file: ", "ims-keys"),
        ("admin.token_file: ", "admin-token"),
    ] {
        let line = stderr.lines().find(|line| line.contains(key));
        let line = line.unwrap_or_else(|| panic!("{key} is not in {stderr}"));
        let command = format!("| head -c 32 >'/run/secrets/{name}')");
        assert!(line.contains(&command), "{line}");
    }
}

#[test]
fn the_compose_file_agrees_with_the_image() {
    let documents = yaml("config/compose.yml");
    let [compose] = documents.as_slice() else {
        panic!("one document is expected");
    };
    let service = &compose["services"]["receiver"];
    let variables = service["environment"].as_object().expect("a table");
    let variables = variables
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().expect("a text").to_owned()));
    let settings = image(variables.collect());

    let grace = duration(service["stop_grace_period"].as_str().expect("a time"));
    assert!(grace > stop_of(&settings), "{grace:?}");
    assert_eq!(service["read_only"], true);
    assert_eq!(service["cap_drop"][0], "ALL");
    assert_eq!(service["security_opt"][0], "no-new-privileges:true");
    assert!(service["user"].is_null(), "the image's is a number");
    for (port, listener) in [
        (&service["ports"][0], settings.server.listen),
        (&service["ports"][1], settings.admin.listen),
    ] {
        let inside = format!(":{}", listener.port());
        let port = port.as_str().expect("a text");
        assert!(port.ends_with(&inside), "{port}");
        assert!(port.starts_with("127.0.0.1:"), "the proxy is for the world");
    }
    let volume = service["volumes"][0].as_str().expect("a text");
    assert_eq!(volume, format!("events:{}", data_folder(&settings)));
    assert!(!compose["volumes"]["events"].is_null());
    assert_eq!(service["secrets"], serde_json::json!(SECRETS));
    for name in SECRETS {
        let path = format!("./secrets/{name}");
        assert_eq!(compose["secrets"][name]["file"], path);
    }
    let network = &compose["networks"]["front"]["ipam"]["config"][0];
    let gateway: std::net::IpAddr = network["gateway"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("an address");
    let trusted = &settings.server.trusted_proxies;
    assert!(trusted.iter().any(|net| net.contains(&gateway)));
    let context = project()
        .join("config")
        .join(service["build"]["context"].as_str().expect("a folder"));
    assert!(context.join("Dockerfile").exists());
    let ignored = file(".gitignore");
    assert!(ignored.lines().any(|line| line == "/config/secrets"));
}

#[test]
fn the_kubernetes_manifest_agrees_with_the_image() {
    let documents = yaml("config/kubernetes.yml");
    let kinds: Vec<&str> = documents
        .iter()
        .map(|document| document["kind"].as_str().expect("a kind"))
        .collect();
    assert_eq!(kinds, ["PersistentVolumeClaim", "Deployment", "Service"]);
    let [claim, deployment, service] = documents.as_slice() else {
        panic!("three documents");
    };
    let spec = &deployment["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["strategy"]["type"], "Recreate");
    let labels = &spec["template"]["metadata"]["labels"];
    assert_eq!(&spec["selector"]["matchLabels"], labels);
    assert_eq!(&service["spec"]["selector"], labels);
    let pod = &spec["template"]["spec"];
    let container = &pod["containers"][0];
    let variables = container["env"].as_array().expect("a list");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let variables = variables
        .iter()
        .map(|one| (text(&one["name"]), text(&one["value"])));
    let settings = image(variables.collect());

    let (user, group) = user();
    let security = &pod["securityContext"];
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!(security["runAsUser"], user);
    assert_eq!(security["runAsGroup"], group);
    assert_eq!(security["fsGroup"], group, "it reads the secrets");
    let security = &container["securityContext"];
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["capabilities"]["drop"][0], "ALL");

    let stop = stop_of(&settings);
    let grace = pod["terminationGracePeriodSeconds"].as_u64();
    let grace = Duration::from_secs(grace.expect("seconds"));
    assert!(grace > stop, "{grace:?} for {stop:?}");
    check_probes(container, &settings);
    check_mounts(claim, pod, &settings);
    let target = &service["spec"]["ports"][0]["targetPort"];
    assert_eq!(named_port(container, target), settings.server.listen.port());
}

fn named_port(container: &Value, name: &Value) -> u16 {
    let ports = container["ports"].as_array().expect("a list");
    let port = ports.iter().find(|port| port["name"] == *name);
    let port = port.unwrap_or_else(|| panic!("{name} is no port"));
    u16::try_from(port["containerPort"].as_u64().expect("a number")).expect("a port")
}

fn check_probes(container: &Value, settings: &Settings) {
    for (probe, path) in [
        ("startupProbe", "/livez"),
        ("livenessProbe", "/livez"),
        ("readinessProbe", "/readyz"),
    ] {
        let get = &container[probe]["httpGet"];
        assert_eq!(get["path"], path, "{probe}");
        let port = named_port(container, &get["port"]);
        assert_eq!(port, settings.admin.listen.port(), "{probe}");
    }
    // A stop is not ready from its first moment on, and takes callbacks all
    // the same.
    let probe = &container["readinessProbe"];
    let seconds = |key: &str| probe[key].as_u64().expect("a number");
    let patience = seconds("periodSeconds") * (seconds("failureThreshold") - 1);
    assert!(Duration::from_secs(patience) >= stop_of(settings));
}

fn check_mounts(claim: &Value, pod: &Value, settings: &Settings) {
    let mounts = &pod["containers"][0]["volumeMounts"];
    let mounted = |name: &str| {
        let mounts = mounts.as_array().expect("a list");
        let mount = mounts.iter().find(|mount| mount["name"] == name);
        mount.expect("it is mounted")
    };
    assert_eq!(mounted("events")["mountPath"], data_folder(settings));
    let secrets = mounted("secrets");
    assert_eq!(secrets["mountPath"], "/run/secrets");
    assert!(secrets["subPath"].is_null(), "it would never change");
    let [events, secrets] = [&pod["volumes"][0], &pod["volumes"][1]];
    let claimed = &events["persistentVolumeClaim"]["claimName"];
    assert_eq!(claimed, &claim["metadata"]["name"]);
    let items = secrets["secret"]["items"].as_array().expect("a list");
    let paths: Vec<_> = items.iter().map(|item| &item["path"]).collect();
    assert_eq!(paths, SECRETS);
    assert_eq!(secrets["secret"]["defaultMode"], 0o440);
    // The API's token would be mounted below it.
    assert_eq!(pod["automountServiceAccountToken"], false);
}

/// The units with the built program in place of the installed one, which
/// `verify` looks for.
fn units(folder: &Path) -> [PathBuf; 2] {
    ["ims-receiver.service", "ims-receiver.socket"].map(|name| {
        let built = env!("CARGO_BIN_EXE_ims-receiver");
        let text = file(&format!("config/{name}")).replace("/usr/local/bin/ims-receiver", built);
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a unit");
        path
    })
}

fn systemd_analyze(arguments: &[&str], units: &[PathBuf]) -> String {
    let output = Command::new("systemd-analyze")
        .arg("--no-pager")
        .args(arguments)
        .args(units)
        .output()
        .expect("systemd-analyze runs; tests/run installs systemd");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("UTF-8");
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let folder = tempfile::tempdir().expect("a folder");
    let units = units(folder.path());
    let said = systemd_analyze(&["verify"], &units);
    assert_eq!(said, "");
    // 0 is locked in, 10 is all open; a plain unit has 9.6.
    systemd_analyze(
        &["security", "--offline=true", "--threshold=15"],
        &units[..1],
    );
}

#[test]
fn the_units_agree_with_the_service() {
    let text = file("config/minimal.toml").replace(
        r#"keys_file = "/run/secrets/ims-keys""#,
        r#"keys = ["TestKey001TestKey001"]"#,
    );
    let loaded = from_toml(&text, Path::new("minimal.toml"), []);
    let defaults = loaded.expect("the smallest configuration").settings;
    let socket = file("config/ims-receiver.socket");
    let streams: Vec<&str> = socket
        .lines()
        .filter_map(|line| line.strip_prefix("ListenStream="))
        .collect();
    // The first is the public one.
    let expected = [defaults.server.listen, defaults.admin.listen].map(|a| a.to_string());
    assert_eq!(streams, expected);
    let unit = file("config/ims-receiver.service");
    let patience = duration(directive(&unit, "TimeoutStopSec="));
    assert!(patience > stop_of(&defaults));
    let descriptors: usize = directive(&unit, "LimitNOFILE=").parse().expect("a number");
    assert!(descriptors > 2 * defaults.server.connections_max);
    let data = format!("/var/lib/{}", directive(&unit, "StateDirectory="));
    assert_eq!(data, data_folder(&plain_image()));
    let start = directive(&unit, "ExecStart=");
    assert!(start.contains("--config /etc/ims-receiver/receiver.toml serve"));
}

#[test]
fn the_proxies_agree_with_the_service() {
    let settings = plain_image();
    let server = &settings.server;
    let path = &settings.sources[0].path;

    let nginx = file("config/nginx.conf");
    assert_eq!(directive(&nginx, "location = "), format!("{path} {{"));
    let body = directive(&nginx, "client_max_body_size ");
    assert_eq!(body, server.body_bytes_max.to_string());
    let head = duration(directive(&nginx, "client_header_timeout "));
    assert_eq!(head, server.head_deadline);
    let idle = duration(directive(&nginx, "keepalive_timeout "));
    assert!(idle < server.keep_alive);
    let answer = duration(directive(&nginx, "proxy_read_timeout "));
    assert!(answer > server.ack_deadline);

    let haproxy = file("config/haproxy.cfg");
    let only = directive(&haproxy, "http-request deny deny_status 404 unless ");
    assert_eq!(only, format!("{{ path {path} }}"));
    let check = directive(&haproxy, "option httpchk GET ");
    assert_eq!(check, server.health_path);
    let head = duration(directive(&haproxy, "timeout http-request "));
    assert_eq!(head, server.head_deadline);
    let answer = duration(directive(&haproxy, "timeout server "));
    assert!(answer > server.ack_deadline);
    let retries: u32 = directive(&haproxy, "retries ").parse().expect("a number");
    let pause = duration(directive(&haproxy, "timeout connect "));
    assert!(
        pause * retries > SENDER_PATIENCE,
        "held for too short a time"
    );
    let servers: Vec<&str> = haproxy
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("server "))
        .collect();
    let addresses = servers.iter().map(|line| line.split(' ').nth(1));
    let addresses: std::collections::HashSet<_> = addresses.collect();
    assert_eq!((servers.len(), addresses.len()), (2, 1), "{servers:?}");
}
