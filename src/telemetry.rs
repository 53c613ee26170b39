//! The service's own log and the registry of its metrics.

use std::io::{self, IsTerminal};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines of the service's own log that wait when nobody reads it; further ones
/// are dropped and counted.
const LINES_MAX: usize = 8192;

/// The variable that takes a filter, such as `info,ims_receiver=debug`.
pub const LOG_VARIABLE: &str = "IMS_RECEIVER_LOG";

/// The shape of the service's own log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people at a terminal.
    Pretty,
}

/// Where the service's own log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output, as `serve` does.
    Stdout,
    /// Standard error, where standard output belongs to something else.
    Stderr,
}

/// A running log. Dropping it writes what waits.
#[derive(Debug)]
pub struct Log {
    dropped: ErrorCounter,
    _guard: WorkerGuard,
}

impl Log {
    /// Starts the log of this process. `default_filter` holds where the
    /// variable is not set.
    ///
    /// # Errors
    /// Why the filter cannot be read, or that there is a log already.
    pub fn start(
        format: LogFormat,
        target: LogTarget,
        default_filter: &str,
    ) -> Result<Self, String> {
        let filter = match std::env::var(LOG_VARIABLE) {
            Ok(filter) => EnvFilter::try_new(&filter)
                .map_err(|error| format!("{LOG_VARIABLE}: {error}; write for example `info`"))?,
            Err(_) => EnvFilter::new(default_filter),
        };
        let builder = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES_MAX);
        let (writer, guard, colours) = match target {
            LogTarget::Stdout => {
                let (writer, guard) = builder.finish(io::stdout());
                (writer, guard, io::stdout().is_terminal())
            }
            LogTarget::Stderr => {
                let (writer, guard) = builder.finish(io::stderr());
                (writer, guard, io::stderr().is_terminal())
            }
        };
        let dropped = writer.error_counter();
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(writer)
            .with_ansi(colours && format == LogFormat::Pretty);
        let started = match format {
            LogFormat::Json => log
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .try_init(),
            LogFormat::Pretty => log.try_init(),
        };
        started.map_err(|error| error.to_string())?;
        Ok(Self {
            dropped,
            _guard: guard,
        })
    }

    /// Counts lines that were dropped because nobody read.
    pub fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
    }
}

/// The registry that every component adds its series to.
pub fn registry() -> Registry {
    let mut registry = Registry::with_prefix("ims_receiver");
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The release that runs", build);
    registry
}

/// The counter of dropped log lines, fed from the log's own count.
#[derive(Debug, Clone, Default)]
pub struct DroppedLines(Counter);

impl DroppedLines {
    /// Makes the series known to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "log_lines_dropped",
            "Lines of the service's own log that nobody read in time",
            self.0.clone(),
        );
    }

    /// Brings the series up to the log's count.
    pub fn set(&self, count: usize) {
        let seen = self.0.get();
        self.0.inc_by((count as u64).saturating_sub(seen));
    }
}
