//! The handler that writes one line per event.
//!
//! Success is the write, not a sync. `handle` only formats the line; the
//! thread of the output writes it, see [`Outputs`].

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{BuildContext, BuildError, Handler, HandlerError, Retry};
use crate::clock::Clock;
use crate::delivery::{Delivery, Reason, Report};

mod line;
mod sink;
mod writer;

pub use line::{LineFormat, LineOptions, line};
pub use writer::Outputs;

use writer::Writer;

/// Configuration of a `log` handler.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Where the lines go.
    pub output: LogOutput,
    /// Whether the line includes the body.
    pub body: bool,
    /// A larger body is left out of the line and only its length is written;
    /// in bytes, `None` means unlimited.
    pub body_bytes_max: Option<usize>,
}

/// Where a `log` handler writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogOutput {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, opened for append.
    File(PathBuf),
}

impl fmt::Display for LogOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::Stderr => f.write_str("stderr"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Writes one line per event.
#[derive(Debug)]
pub struct LogHandler {
    writer: Arc<Writer>,
    options: LineOptions,
    clock: Arc<dyn Clock>,
}

/// How long a line may still take once the service wants to end. A healthy
/// output needs far less, and one that nobody reads must not hold up the stop.
const STOP_GRACE: Duration = Duration::from_secs(1);

impl LogHandler {
    /// Opens the output, or joins the handlers that have it open.
    ///
    /// # Errors
    /// [`BuildError`] naming the path where the file cannot be opened.
    pub fn build(config: &LogConfig, context: &BuildContext<'_>) -> Result<Self, BuildError> {
        let writer = context
            .outputs
            .writer(&config.output)
            .map_err(|error| cannot_open(&config.output, &error, context))?;
        Ok(Self {
            writer,
            options: LineOptions {
                format: context.line_format,
                body: config.body,
                body_bytes_max: config.body_bytes_max,
            },
            clock: Arc::clone(&context.clock),
        })
    }
}

#[async_trait]
impl Handler for LogHandler {
    async fn handle(
        &self,
        delivery: &Delivery,
        stop: &CancellationToken,
    ) -> Result<Report, HandlerError> {
        let line = line(delivery, self.clock.now(), &self.options);
        tokio::select! {
            biased;
            result = self.writer.write(line) => match result {
                Ok(()) => Ok(Report::default()),
                Err(error) => Err(HandlerError {
                    retry: Retry::WithBackoff,
                    reason: Reason::new(error.to_string()),
                    report: Report::default(),
                    source: Some(error.into()),
                }),
            },
            () = grace_after(stop) => Err(HandlerError {
                retry: Retry::WithBackoff,
                reason: Reason::new("the service stopped before the line was written"),
                report: Report::default(),
                source: None,
            }),
        }
    }

    fn reopen(&self) {
        self.writer.reopen();
    }
}

async fn grace_after(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_GRACE).await;
}

fn cannot_open(output: &LogOutput, error: &io::Error, context: &BuildContext<'_>) -> BuildError {
    let LogOutput::File(path) = output else {
        return context.error(
            "output",
            format!("cannot use {output}: {error}"),
            HINT_STREAM,
        );
    };
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let hint = match (error.kind(), folder) {
        (io::ErrorKind::NotFound, Some(folder)) => {
            format!("make its folder first: mkdir -p {}", folder.display())
        }
        (io::ErrorKind::PermissionDenied, _) => {
            "give the service's user the right to write there, or choose another path".to_owned()
        }
        (io::ErrorKind::IsADirectory, _) => "name a file in that folder".to_owned(),
        _ => "choose a path that can be opened for append".to_owned(),
    };
    context.error(
        "output",
        format!("cannot open {} for append: {error}", path.display()),
        hint,
    )
}

const HINT_STREAM: &str = "write the path of a file, or leave the stream open";

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    use serde_json::{Value, json};

    use super::*;
    use crate::handler::testing::{context, delivery};

    fn file_config(path: PathBuf) -> LogConfig {
        LogConfig {
            output: LogOutput::File(path),
            body: true,
            body_bytes_max: None,
        }
    }

    async fn line_of(
        body: &[u8],
        change: impl FnOnce(&mut LogConfig),
        format: LineFormat,
    ) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.log");
        let mut config = file_config(path.clone());
        change(&mut config);
        let outputs = Outputs::default();
        let context = BuildContext {
            line_format: format,
            ..context(&outputs)
        };
        let handler = LogHandler::build(&config, &context).unwrap();
        let report = handler
            .handle(&delivery(body), &CancellationToken::new())
            .await
            .unwrap();
        assert_eq!(report, Report::default());
        std::fs::read_to_string(path).unwrap()
    }

    #[tokio::test]
    async fn the_line_is_the_documented_one() {
        let body = b"\xef\xbb\xbf{ \"EventType\": \"X\",\r\n\t\"n\": 1.50e+2, \"n\": [ ], \"s\": \"a \\\" b\" }\n";
        let line = line_of(body, |_| {}, LineFormat::Json).await;
        assert_eq!(
            line,
            concat!(
                r#"{"timestamp":"2026-11-24T06:31:06.120Z","level":"INFO","#,
                r#""target":"ims_receiver::event","message":"event","#,
                r#""event_id":"019ab2f6-2a41-7000-8000-000000000001","source":"default","#,
                r#""event_type":"ProduceMediaComplete","event_time":"2026-11-24T06:31:05Z","#,
                r#""outcome":"succeeded","user_id":"42","media_id":"m-1","job_id":"j-1","attempt":3,"#,
                r#""body":{"EventType":"X","n":1.50e+2,"n":[],"s":"a \" b"}}"#,
                "\n"
            )
        );
    }

    #[tokio::test]
    async fn what_is_no_json_stands_as_base64() {
        let body = b"{\"cut\": \xff\n";
        let line = line_of(body, |_| {}, LineFormat::Json).await;
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["body_base64"], json!(BASE64_STANDARD.encode(body)));
        assert_eq!(line.get("body"), None);
    }

    #[tokio::test]
    async fn a_body_over_the_limit_leaves_its_length() {
        let at_limit = line_of(b"{}  ", |c| c.body_bytes_max = Some(4), LineFormat::Json).await;
        assert!(at_limit.contains(r#","body":{}}"#), "{at_limit}");
        let over = line_of(b"{}   ", |c| c.body_bytes_max = Some(4), LineFormat::Json).await;
        let over: Value = serde_json::from_str(&over).unwrap();
        assert_eq!(over["body_bytes"], json!(5));
        assert_eq!(over.get("body"), None);
        assert_eq!(over.get("body_base64"), None);
    }

    #[tokio::test]
    async fn the_body_can_be_left_out_and_so_are_absent_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.log");
        let mut config = file_config(path.clone());
        config.body = false;
        let outputs = Outputs::default();
        let handler = LogHandler::build(&config, &context(&outputs)).unwrap();
        let mut delivery = delivery(b"{}");
        let event = Arc::make_mut(&mut delivery.event);
        event.content.event_type = "a\"b\n\u{1b}[31m\u{2028}".to_owned();
        event.content.event_time = None;
        event.content.user_id = None;
        event.content.media_id = None;
        event.content.job_id = None;
        handler
            .handle(&delivery, &CancellationToken::new())
            .await
            .unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "one physical line");
        let line: Value = serde_json::from_str(&text).unwrap();
        let keys: Vec<&str> = line
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        for absent in [
            "event_time",
            "user_id",
            "media_id",
            "job_id",
            "body",
            "body_bytes",
        ] {
            assert!(!keys.contains(&absent), "{absent} in {keys:?}");
        }
        assert_eq!(line["event_type"], json!("a\"b\n\u{1b}[31m\u{2028}"));
        assert_eq!(line["outcome"], json!("succeeded"));
    }

    #[tokio::test]
    async fn pretty_lines_cannot_move_a_terminal() {
        let body = "{\"a\":\"\u{9b}2J\u{202e}\u{7f}ü\"}";
        let line = line_of(body.as_bytes(), |_| {}, LineFormat::Pretty).await;
        let text = line.strip_suffix('\n').unwrap();
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(
            text.contains(r#"{"a":"\u{9b}2J\u{202e}\u{7f}ü"}"#),
            "{text}"
        );
        assert!(text.contains("ProduceMediaComplete  succeeded"), "{text}");
        assert!(text.contains("media=m-1"), "{text}");
    }

    #[tokio::test]
    async fn a_failed_write_is_a_failed_attempt_with_the_reason() {
        let outputs = Outputs::default();
        let config = file_config("/dev/full".into());
        let handler = LogHandler::build(&config, &context(&outputs)).unwrap();
        let error = handler
            .handle(&delivery(b"{}"), &CancellationToken::new())
            .await
            .unwrap_err();
        assert_eq!(error.retry, Retry::WithBackoff);
        let reason = error.reason.as_str();
        assert!(
            reason.starts_with("/dev/full: No space left on device"),
            "{reason}"
        );
    }

    #[test]
    fn a_missing_folder_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none").join("events.log");
        let outputs = Outputs::default();
        let error = LogHandler::build(&file_config(path.clone()), &context(&outputs)).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("handlers.audit.output: cannot open "),
            "{text}"
        );
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        assert!(text.contains("mkdir -p "), "{text}");
    }

    #[tokio::test]
    async fn a_stop_does_not_wait_for_an_output_that_nobody_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        // Held open for reading and never read.
        let reader = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let outputs = Outputs::default();
        let handler = LogHandler::build(&file_config(path), &context(&outputs)).unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        let mut body = vec![b' '; 1 << 20];
        body.extend_from_slice(b"not json");
        let error = handler.handle(&delivery(&body), &stop).await.unwrap_err();
        assert!(
            error.reason.as_str().contains("stopped"),
            "{}",
            error.reason
        );
        drop(reader);
    }
}
