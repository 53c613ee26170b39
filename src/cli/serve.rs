//! `serve`: run the service until a signal ends it.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::app::{App, Environment};
use crate::clock::SystemClock;
use crate::handler::log::LineFormat;
use crate::lifecycle::{Asked, Signals};
use crate::settings;
use crate::store;
use crate::telemetry::{Log, LogFormat, LogTarget};

use super::usage::UsageError;

/// What is logged where nothing else is asked for. h2 warns about peers, once
/// for each connection that a stranger makes for it.
const LOG_FILTER: &str = "info,h2=error";

/// How long the end may wait for what is still at work.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(200);

/// Runs the service with the configuration that `config` names.
///
/// # Errors
/// [`UsageError`] for a configuration or a store that cannot be used; anything
/// else is a failure while running.
pub fn run(config: Option<&Path>, format: LogFormat) -> anyhow::Result<ExitCode> {
    let loaded = settings::load(config, settings::process_environment())
        .map_err(|error| UsageError(error.to_string()))?;
    // What whoever started us left open, sockets passed on among it, is not for
    // the commands that handlers run.
    close_fds::set_fds_cloexec(3, &[]);
    // Whatever is made from here on holds events or tells of them.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let log = Log::start(format, LogTarget::Stdout, LOG_FILTER).map_err(UsageError)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(doubt) = store::doubt(&loaded.settings.store.path) {
        tracing::warn!("warning: store.path: {doubt}");
    }
    let environment = Environment {
        clock: Arc::new(SystemClock),
        line_format: match format {
            LogFormat::Json => LineFormat::Json,
            LogFormat::Pretty => LineFormat::Pretty,
        },
        dropped: Some(log.dropped()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let code = runtime.block_on(serve(&loaded.settings, environment));
    // What still waits at a handler that was cut short must not hold the exit;
    // but after a second signal commands are still to be killed.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    code
}

async fn serve(
    settings: &settings::Settings,
    environment: Environment,
) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let mut app = match App::start(settings, environment).await {
        Ok(app) => app,
        Err(error) if error.may_pass() => return Err(error.into()),
        Err(error) => return Err(UsageError(error.to_string()).into()),
    };
    tracing::info!(
        ingest = %app.ingest_address,
        admin = %app.admin_address,
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Reopen => app.reopen(),
                Asked::Stop => break,
            },
            () = app.ended() => anyhow::bail!("the public listener ended by itself"),
        }
    }
    tracing::info!("stopping: callbacks are still accepted while handlers drain");
    let stopping = app.stop();
    tokio::pin!(stopping);
    loop {
        tokio::select! {
            () = &mut stopping => break,
            asked = signals.next() => if asked == Asked::Stop {
                tracing::warn!("a second signal: ended at once");
                return Ok(ExitCode::FAILURE);
            },
        }
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}
