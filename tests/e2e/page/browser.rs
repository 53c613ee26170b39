//! A headless Chromium that a test drives, and what it noticed meanwhile.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::Method;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::Url;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::harness::{PATIENCE, wait_at_most};

/// Browsers are large: one at a time.
static ONE: Mutex<()> = Mutex::new(());

/// A window, with nothing kept from earlier ones.
pub struct Browser {
    client: Option<Client>,
    driver: Child,
    runtime: Runtime,
    _one: MutexGuard<'static, ()>,
}

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
}

pub const LOOKS: [Look; 4] = [
    Look {
        width: 1280,
        height: 900,
        dark: false,
    },
    Look {
        width: 1280,
        height: 900,
        dark: true,
    },
    Look {
        width: 390,
        height: 844,
        dark: false,
    },
    Look {
        width: 390,
        height: 844,
        dark: true,
    },
];

/// Starts the driver, which answers no port where another process was given
/// the same one between its IPv4 and its IPv6 socket.
fn start_driver() -> Option<(Child, u16)> {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tests/run installs chromium-driver");
    let stdout = driver.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let port: Option<u16> = lines.find_map(|line| {
        let rest = line.split_once("successfully on port ")?.1;
        rest.trim_end_matches('.').parse().ok()
    });
    let Some(port) = port else {
        driver.wait().expect("it has ended");
        return None;
    };
    // What it says later is read, so that it never waits for a reader.
    std::thread::spawn(move || lines.for_each(drop));
    Some((driver, port))
}

impl Browser {
    /// Opens a window.
    pub fn open() -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (driver, port) = (0..5)
            .find_map(|_| start_driver())
            .expect("the driver names its port");
        let runtime = Runtime::new().expect("a runtime");
        let capabilities = json!({
            "goog:chromeOptions": {"args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--hide-scrollbars", "--force-color-profile=srgb", "--no-first-run",
                "--disable-background-networking", "--disable-component-update",
            ]},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        });
        let Value::Object(capabilities) = capabilities else {
            unreachable!("it is an object");
        };
        let client = runtime
            .block_on(
                ClientBuilder::new(HttpConnector::new())
                    .capabilities(capabilities)
                    .connect(&format!("http://127.0.0.1:{port}")),
            )
            .expect("a window opens");
        let browser = Self {
            client: Some(client),
            driver,
            runtime,
            _one: one,
        };
        browser.look(LOOKS[0]);
        browser
    }

    fn client(&self) -> &Client {
        self.client
            .as_ref()
            .expect("it is open until it is dropped")
    }

    pub fn go(&self, url: &str) {
        self.runtime
            .block_on(self.client().goto(url))
            .expect("a page");
    }

    pub fn url(&self) -> String {
        let url = self.runtime.block_on(self.client().current_url());
        url.expect("an address").to_string()
    }

    /// What a script in the page answers.
    pub fn run(&self, script: &str) -> Value {
        self.runtime
            .block_on(self.client().execute(script, Vec::new()))
            .unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// The text that a reader sees of the first such element.
    pub fn text(&self, css: &str) -> String {
        self.runtime.block_on(async {
            let found = self.client().find(Locator::Css(css)).await;
            let found = found.unwrap_or_else(|error| panic!("{css}: {error}"));
            found.text().await.expect("its text")
        })
    }

    pub fn has(&self, css: &str) -> bool {
        let found = self
            .runtime
            .block_on(self.client().find_all(Locator::Css(css)));
        !found.expect("a list").is_empty()
    }

    /// Clicks the one element that is there.
    pub fn click(&self, css: &str) {
        self.runtime.block_on(async {
            let found = self.client().find(Locator::Css(css)).await;
            let found = found.unwrap_or_else(|error| panic!("{css}: {error}"));
            found
                .click()
                .await
                .unwrap_or_else(|error| panic!("{css}: {error}"));
        });
    }

    /// Types into a field.
    pub fn write(&self, css: &str, text: &str) {
        self.runtime.block_on(async {
            let found = self.client().find(Locator::Css(css)).await;
            let found = found.unwrap_or_else(|error| panic!("{css}: {error}"));
            found.send_keys(text).await.expect("it takes keys");
        });
    }

    /// Presses keys where the focus is.
    pub fn press(&self, keys: &str) {
        self.runtime.block_on(async {
            let focused = self.client().active_element().await.expect("a focus");
            focused.send_keys(keys).await.expect("it takes keys");
        });
    }

    /// Waits until such an element is there; a page that is left meanwhile is
    /// no failure.
    pub fn wait(&self, css: &str) {
        self.wait_within(PATIENCE, css);
    }

    pub fn wait_within(&self, patience: Duration, css: &str) {
        wait_at_most(patience, &format!("{css} is there"), || {
            let found = self
                .runtime
                .block_on(self.client().find_all(Locator::Css(css)));
            found.is_ok_and(|found| !found.is_empty()).then_some(())
        });
    }

    /// Waits until the page says so.
    pub fn wait_text(&self, css: &str, text: &str) {
        let mut seen = String::new();
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            seen = self.runtime.block_on(async {
                match self.client().find(Locator::Css(css)).await {
                    Ok(found) => found.text().await.unwrap_or_default(),
                    Err(_) => String::new(),
                }
            });
            if seen.contains(text) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("waited in vain for {text:?} in {css}; it says {seen:?}");
    }

    /// Changes the size of the window and the colours that its reader likes.
    pub fn look(&self, look: Look) {
        let Look {
            width,
            height,
            dark,
        } = look;
        self.command(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}),
        );
        let scheme = if dark { "dark" } else { "light" };
        self.command(
            "Emulation.setEmulatedMedia",
            json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
    }

    /// Whether scripts of pages run.
    pub fn scripts(&self, run: bool) {
        self.command(
            "Emulation.setScriptExecutionDisabled",
            json!({"value": !run}),
        );
    }

    /// Keeps a picture of the whole page where `PAGE_SHOTS` names a folder.
    pub fn picture(&self, name: &str, look: Look) {
        let Some(folder) = std::env::var_os("PAGE_SHOTS").map(PathBuf::from) else {
            return;
        };
        let height = self.run("return document.documentElement.scrollHeight");
        let clip = json!({"x": 0, "y": 0, "width": look.width, "height": height, "scale": 1});
        let answer = self.command(
            "Page.captureScreenshot",
            json!({"captureBeyondViewport": true, "format": "png", "clip": clip}),
        );
        let data = answer["data"].as_str().expect("a picture");
        let png = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data);
        let scheme = if look.dark { "dark" } else { "light" };
        let file = folder.join(format!("{name}-{}-{scheme}.png", look.width));
        std::fs::write(file, png.expect("it is Base64")).expect("the folder is there");
    }

    /// What the console said since the last call: errors of scripts, refused
    /// styles, missing files.
    pub fn complaints(&self) -> Vec<String> {
        let lines = self.log("browser");
        let serious = lines
            .iter()
            .filter(|line| matches!(line["level"].as_str(), Some("SEVERE" | "WARNING")));
        serious.map(|line| line["message"].to_string()).collect()
    }

    /// The addresses that were asked for since the last call.
    pub fn requests(&self) -> Vec<String> {
        let lines = self.log("performance");
        let messages = lines.iter().filter_map(|line| {
            let message: Value = serde_json::from_str(line["message"].as_str()?).ok()?;
            let message = &message["message"];
            let sent = message["method"] == "Network.requestWillBeSent";
            let url = message["params"]["request"]["url"].as_str()?;
            sent.then(|| url.to_owned())
        });
        messages.collect()
    }

    fn log(&self, kind: &'static str) -> Vec<Value> {
        let lines = self.issue("se/log", json!({"type": kind}));
        lines.as_array().cloned().unwrap_or_default()
    }

    fn command(&self, name: &str, parameters: Value) -> Value {
        self.issue(
            "goog/cdp/execute",
            json!({"cmd": name, "params": parameters}),
        )
    }

    fn issue(&self, path: &'static str, body: Value) -> Value {
        let command = Vendor { path, body };
        let answer = self.runtime.block_on(self.client().issue_cmd(command));
        answer.unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            // It may have gone already; the driver ends it otherwise.
            let _ = self.runtime.block_on(client.close());
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// A command beside the standard: Chromium's own.
#[derive(Debug)]
struct Vendor {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Vendor {
    fn endpoint(
        &self,
        base: &Url,
        session: Option<&str>,
    ) -> Result<Url, <Url as std::str::FromStr>::Err> {
        base.join(&format!(
            "session/{}/{}",
            session.unwrap_or_default(),
            self.path
        ))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}
