//! The files for Prometheus and Grafana, judged by Prometheus' own tool. That
//! the service has every series they name is tried from outside, in `e2e`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(name: &str) -> String {
    std::fs::read_to_string(project().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&file(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn promtool(arguments: &[&str], on: &Path) -> String {
    let output = Command::new("promtool")
        .args(arguments)
        .arg(on)
        .current_dir(project())
        .output()
        .expect("promtool runs; tests/run installs prometheus");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("UTF-8");
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

fn list(value: &Value) -> &Vec<Value> {
    value
        .as_array()
        .unwrap_or_else(|| panic!("no list: {value}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

#[test]
fn the_alerts_pass_their_own_tests() {
    promtool(
        &["check", "rules"],
        Path::new("config/prometheus-alerts.yml"),
    );
    promtool(&["test", "rules"], Path::new("tests/prometheus/alerts.yml"));
}

#[test]
fn every_alert_says_what_to_do_and_is_shown_to_fire_and_to_stay_silent() {
    let alerts = yaml("config/prometheus-alerts.yml");
    let tests = yaml("tests/prometheus/alerts.yml");
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for test in list(&tests["tests"]) {
        let checks = test["promql_expr_test"].as_array();
        for check in checks.into_iter().flatten() {
            let of = if list(&check["exp_samples"]).is_empty() {
                &mut silent
            } else {
                &mut fires
            };
            of.insert(text(&check["expr"]).to_owned());
        }
    }
    let rules = list(&alerts["groups"][0]["rules"]);
    assert!(rules.len() >= 12, "{}", rules.len());
    for rule in rules {
        let name = text(&rule["alert"]);
        let query = format!(r#"ALERTS{{alertname="{name}",alertstate="firing"}}"#);
        assert!(fires.contains(&query), "{name} is never shown to fire");
        assert!(silent.contains(&query), "{name} is never shown silent");
        let severity = text(&rule["labels"]["severity"]);
        assert!(["critical", "warning"].contains(&severity), "{name}");
        let annotations = &rule["annotations"];
        assert!(text(&annotations["summary"]).contains(' '), "{name}");
        let description = text(&annotations["description"]);
        assert!(
            description.split(". ").count() >= 2,
            "{name}: {description}"
        );
    }
}

/// The dashboard's queries with Grafana's variables filled in.
fn queries(dashboard: &Value) -> Vec<String> {
    let panels = list(&dashboard["panels"]).iter();
    let targets = panels
        .filter(|panel| panel["type"] != "row")
        .flat_map(|panel| {
            assert!(
                panel["description"].as_str().is_some(),
                "{}",
                panel["title"]
            );
            let targets = list(&panel["targets"]);
            assert!(!targets.is_empty(), "{} shows nothing", panel["title"]);
            targets
        });
    let annotations = list(&dashboard["annotations"]["list"]).iter();
    targets
        .chain(annotations)
        .map(|one| {
            assert_eq!(one["datasource"]["uid"], "${datasource}", "{one}");
            text(&one["expr"])
                .replace("$__rate_interval", "5m")
                .replace("$instance", "a:9090")
                .replace("$job", "ims-receiver")
                .replace("$source", "default")
                .replace("$handler", "cms")
        })
        .collect()
}

#[test]
fn the_dashboard_can_be_imported_and_its_queries_parse() {
    let dashboard: Value =
        serde_json::from_str(&file("config/grafana-dashboard.json")).expect("it is JSON");
    let variables = list(&dashboard["templating"]["list"]);
    let names: Vec<&str> = variables.iter().map(|one| text(&one["name"])).collect();
    assert_eq!(
        names,
        ["datasource", "job", "instance", "source", "handler"]
    );
    assert_eq!(variables[0]["type"], "datasource");
    assert!(dashboard["id"].is_null(), "Grafana gives it one");

    let queries = queries(&dashboard);
    assert!(queries.len() > 30, "{}", queries.len());
    let rules: Vec<Value> = queries
        .iter()
        .enumerate()
        .map(|(number, query)| {
            assert!(!query.contains('$'), "an unknown variable: {query}");
            json!({ "record": format!("panel:{number}"), "expr": query })
        })
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("panels.yml");
    let group = json!({ "groups": [{ "name": "panels", "rules": rules }] });
    // JSON is YAML.
    std::fs::write(&path, group.to_string()).expect("a file");
    let said = promtool(&["check", "rules"], &path);
    assert!(
        said.contains(&format!("{} rules found", queries.len())),
        "{said}"
    );
}

#[test]
fn no_two_panels_lie_on_each_other() {
    let dashboard: Value =
        serde_json::from_str(&file("config/grafana-dashboard.json")).expect("it is JSON");
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in list(&dashboard["panels"]) {
        let at = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{} covers another", panel["title"]);
            }
        }
        assert!(ids.insert(panel["id"].as_u64()), "{}", panel["title"]);
    }
}
