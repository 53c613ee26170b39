//! `demo`: the main job on one command. A throw-away store, a fresh key, the
//! service, and a sender that plays IMS over real HTTP.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Environment};
use crate::clock::SystemClock;
use crate::handler::log::LineFormat;
use crate::lifecycle::{Asked, Signals};
use crate::sender::{Bodies, Load, Sender, SenderConfig, SenderRule};
use crate::settings;
use crate::telemetry::{Log, LogFormat, LogTarget};

/// Events that the built-in sender sends a second.
const RATE: f64 = 2.0;

/// How long the end waits for what was acknowledged and not yet shown.
const PATIENCE: Duration = Duration::from_secs(5);

/// Show the whole line at work, with a built-in sender; leaves nothing behind
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// End after this many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

impl DemoArgs {
    /// Runs until Ctrl-C or until `count` events are through.
    ///
    /// # Errors
    /// Where the service cannot be started on this machine.
    pub fn run(self, format: LogFormat) -> anyhow::Result<ExitCode> {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let _log = Log::start(format, LogTarget::Stderr, "warn").map_err(anyhow::Error::msg)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let code = runtime.block_on(self.show(format));
        runtime.shutdown_background();
        code
    }

    async fn show(self, format: LogFormat) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::listen()?;
        let folder = tempfile::tempdir().context("a temporary folder cannot be made")?;
        let key = random_key();
        let toml = configuration(&folder.path().join("events.db"), &key);
        let loaded = settings::from_toml(&toml, std::path::Path::new("demo"), [])
            .map_err(|error| anyhow::anyhow!("the demo's own configuration: {error}"))?;
        let environment = Environment {
            clock: Arc::new(SystemClock),
            line_format: match format {
                LogFormat::Json => LineFormat::Json,
                LogFormat::Pretty => LineFormat::Pretty,
            },
            dropped: None,
        };
        let app = App::start(&loaded.settings, environment).await?;
        let target = format!("http://{}/ims/callback", app.ingest_address);
        eprint!("{}", introduction(&app, &target, &key));

        let sender = Sender::new(SenderConfig {
            target,
            callback_url: Some(CALLBACK_URL.to_owned()),
            key: Some(SecretString::from(key)),
            ca_file: None,
            rule: SenderRule::default(),
            clock: Arc::new(SystemClock),
        })?;
        let load = Load {
            count: self.count,
            rate: Some(RATE),
            concurrency: 4,
        };
        let stop = CancellationToken::new();
        let bodies = Bodies::of_all_types();
        let sending = sender.send_many(load, &bodies, &stop, |_| {});
        tokio::pin!(sending);
        let summary = loop {
            tokio::select! {
                summary = &mut sending => break summary,
                asked = signals.next() => if asked == Asked::Stop { stop.cancel() },
            }
        };
        app.finished(PATIENCE).await;
        app.stop().await;
        folder
            .close()
            .context("the demo's store cannot be removed")?;
        eprintln!("\n{summary}");
        Ok(if summary.acked() == summary.sent() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// The URL that the demo's sender signs; nothing is ever sent there.
const CALLBACK_URL: &str = "https://demo.example.com/ims/callback";

fn configuration(store: &std::path::Path, key: &str) -> String {
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[store]
path = {store:?}
[sources.default]
kind = "http"
path = "/ims/callback"
callback_urls = ["{CALLBACK_URL}"]
auth = {{ scheme = "ims", keys = ["{key}"] }}
[handlers.audit]
kind = "log"
"#
    )
}

/// A key as IMS accepts it: letters of both cases and digits, 32 of them.
fn random_key() -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
    let mut key = String::from("Aa1");
    while key.len() < 32 {
        key.push(char::from(ALPHABET[rand::random_range(0..ALPHABET.len())]));
    }
    key
}

fn introduction(app: &App, target: &str, key: &str) -> String {
    let mut text = String::new();
    let lines = [
        format!("callbacks arrive at  {target}"),
        format!("look at it           http://{}/", app.admin_address),
        format!("for programs         http://{}/readyz, /metrics, /api/events", app.admin_address),
        format!("the key of this demo {key}"),
        "send one more event from another terminal:".to_owned(),
        format!("  ims-receiver send {target} --callback-url {CALLBACK_URL} --key {key}"),
        "Each line below is an event that was signed, verified, stored and handed over. Ctrl-C ends."
            .to_owned(),
        String::new(),
    ];
    for line in lines {
        writeln!(text, "{line}").expect("writing to a string cannot fail");
    }
    text
}
