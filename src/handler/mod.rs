//! What reacts to events: one file per kind, each with its configuration, its
//! `build` and its `handle`.
//!
//! A handler sees one [`Delivery`] at a time and says what it led to. Whether
//! and when it is tried again, how many run at once, and how long one may take
//! is the dispatcher's business.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::delivery::{Delivery, Reason, Report};
use crate::request::HandlerName;
use crate::trace::Tracer;

pub mod forward;
pub mod log;
pub mod shell;
pub mod tls;

/// The error behind a failed attempt, for the service's log.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A configured thing that reacts to events.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Reacts to one delivery.
    ///
    /// May be called several times for the same event (delivery is at least
    /// once) and for several deliveries at the same time, up to the handler's
    /// `concurrency`. The dispatcher drops the future when the handler's
    /// `timeout` and its [`overtime`](Handler::overtime) are over. `stop` is cancelled when the service wants to end; a
    /// handler that can end early does so with an error.
    ///
    /// # Errors
    /// [`HandlerError`], which says itself whether trying again can help. A
    /// panic counts as a failed attempt.
    async fn handle(
        &self,
        delivery: &Delivery,
        stop: &CancellationToken,
    ) -> Result<Report, HandlerError>;

    /// How much longer than the handler's `timeout` an attempt may take. Zero,
    /// unless the handler keeps the timeout itself and then needs time to end
    /// what it started.
    fn overtime(&self) -> Duration {
        Duration::ZERO
    }

    /// SIGHUP: reopen files that somebody may have rotated away.
    fn reopen(&self) {}
}

/// A failed attempt.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct HandlerError {
    /// Whether and when trying again can help.
    pub retry: Retry,
    /// Why it failed, for people.
    pub reason: Reason,
    /// What is kept of it.
    pub report: Report,
    /// The error underneath.
    pub source: Option<BoxError>,
}

/// Whether and when trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// With the handler's own back-off.
    WithBackoff,
    /// Not before this long from now, as the destination asked.
    After(Duration),
    /// Never: the delivery is dead.
    Never,
}

/// The configuration of one kind of handler.
#[derive(Debug, Clone)]
pub enum HandlerConfig {
    /// `kind = "log"`.
    Log(log::LogConfig),
    /// `kind = "forward"`.
    Forward(forward::ForwardConfig),
    /// `kind = "shell"`.
    Shell(shell::ShellConfig),
}

impl HandlerConfig {
    /// The kind as the configuration spells it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Log(_) => "log",
            Self::Forward(_) => "forward",
            Self::Shell(_) => "shell",
        }
    }
}

/// What a handler is built with beside its own configuration.
#[derive(Debug, Clone)]
pub struct BuildContext<'a> {
    /// The handler's name.
    pub name: HandlerName,
    /// How long the dispatcher gives one attempt; a handler keeps shorter
    /// limits of its own below it.
    pub timeout: Duration,
    /// The shape of `log` lines: `Pretty` where people watch a terminal.
    pub line_format: log::LineFormat,
    /// The outputs that `log` handlers share; one for all handlers.
    pub outputs: &'a log::Outputs,
    /// Where "now" comes from.
    pub clock: Arc<dyn Clock>,
    /// Who makes the spans of attempts, where anybody does.
    pub tracer: Option<Tracer>,
}

impl BuildContext<'_> {
    /// A refusal that names `key` of this handler.
    fn error(
        &self,
        key: &'static str,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) -> BuildError {
        BuildError {
            handler: self.name.clone(),
            key,
            problem: problem.into(),
            hint: hint.into(),
        }
    }
}

/// A handler that cannot be built as it is configured. One line, which begins
/// with the dotted key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("handlers.{handler}.{key}: {problem}; {hint}")]
pub struct BuildError {
    /// The handler's name.
    pub handler: HandlerName,
    /// The key that is to blame.
    pub key: &'static str,
    /// What is wrong; never a secret.
    pub problem: String,
    /// What to do.
    pub hint: String,
}

/// Makes a handler of its configuration: opens its files and prepares its
/// client, but connects to nobody.
///
/// # Errors
/// [`BuildError`] where a file cannot be used or a value means nothing.
pub fn build(
    config: &HandlerConfig,
    context: &BuildContext<'_>,
) -> Result<Arc<dyn Handler>, BuildError> {
    Ok(match config {
        HandlerConfig::Log(config) => Arc::new(log::LogHandler::build(config, context)?),
        HandlerConfig::Forward(config) => {
            Arc::new(forward::ForwardHandler::build(config, context)?)
        }
        HandlerConfig::Shell(config) => Arc::new(shell::ShellHandler::build(config, context)?),
    })
}

/// Adds what was odd about an attempt to its report.
fn add_notes(report: &mut serde_json::Value, notes: &[String]) {
    if !notes.is_empty() {
        report["notes"] = serde_json::json!(notes);
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A delivery and a context for the tests of handlers.

    use axum::http::{HeaderMap, Uri};
    use bytes::Bytes;

    use super::*;
    use crate::clock::ManualClock;
    use crate::delivery::WorkerId;
    use crate::event::{Event, NewEvent, Outcome};
    use crate::request::{KeptHead, RequestHead, SourceName};
    use crate::signature::{HeadVerdict, Scheme as _, none::NoSignature};

    /// The time at which the tests' clock stands.
    pub(crate) const NOW: &str = "2026-11-24T06:31:06.120Z";

    pub(crate) fn context(outputs: &log::Outputs) -> BuildContext<'_> {
        BuildContext {
            name: HandlerName::new("audit").unwrap(),
            timeout: Duration::from_secs(10),
            line_format: log::LineFormat::Json,
            outputs,
            clock: Arc::new(ManualClock::new(NOW.parse().unwrap())),
            tracer: None,
        }
    }

    pub(crate) fn delivery(body: &[u8]) -> Delivery {
        let now = NOW.parse().unwrap();
        let head = RequestHead {
            uri: &Uri::from_static("/ims/callback"),
            headers: &HeaderMap::new(),
        };
        let Ok(HeadVerdict::Authentic(verified)) = NoSignature.check_head(&head, now) else {
            panic!("everybody is let in");
        };
        let content = NewEvent {
            source: SourceName::new("default").unwrap(),
            event_type: "ProduceMediaComplete".to_owned(),
            event_time: Some("2026-11-24T06:31:05Z".to_owned()),
            user_id: Some("42".to_owned()),
            outcome: Outcome::Succeeded,
            media_id: Some("m-1".to_owned()),
            job_id: Some("j-1".to_owned()),
            verified,
            head: KeptHead::default(),
            body: Bytes::copy_from_slice(body),
            fingerprint: [0; 16],
            notes: Vec::new(),
        };
        Delivery {
            event: Arc::new(Event {
                id: "019ab2f6-2a41-7000-8000-000000000001".parse().unwrap(),
                row: 1,
                received_at: now,
                content,
            }),
            handler: HandlerName::new("audit").unwrap(),
            worker: WorkerId(1),
            attempt: 3,
            failed: 2,
            age_from: now,
        }
    }
}
