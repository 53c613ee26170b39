//! `send`: plays IMS against a receiver.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use clap::builder::PossibleValuesParser;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use super::usage::{KeyArgs, UsageError};
use crate::clock::Clock;
use crate::event::ims;
use crate::sender::{Bodies, Load, SendOutcome, Sender, SenderConfig, SenderRule, Summary};

/// A body that is read from a file or from standard input is at most this
/// long; no receiver takes more by default.
const BODY_BYTES_MAX: u64 = 64 << 20;

const CONCURRENCY_DEFAULT: u32 = 16;
const CONCURRENCY_MAX: i64 = 10_000;

/// What is sent where nothing else was asked for.
const EVENT_DEFAULT: &str = "ProduceMediaComplete";

/// Play IMS: sign events, POST them, and repeat each twice on anything but 200
#[derive(Debug, Clone, Args)]
pub struct SendArgs {
    /// Where to POST, such as http://127.0.0.1:8080/ims/callback
    pub target: String,
    /// Read the body from standard input and send it as it is
    #[arg(value_name = "-", value_parser = PossibleValuesParser::new(["-"]),
          hide_possible_values = true, conflicts_with_all = ["event", "file"])]
    pub stdin: Option<String>,
    /// The URL to sign, exactly as configured at the receiver; TARGET by default
    #[arg(long, value_name = "URL")]
    pub callback_url: Option<String>,
    /// The key to sign with; without one the request is not signed.
    #[command(flatten)]
    pub key: KeyArgs,
    /// Send the built-in sample of this event type, with new ids and times each
    /// time [default: ProduceMediaComplete]
    #[arg(long, value_name = "TYPE", conflicts_with = "file")]
    pub event: Option<String>,
    /// Send the bytes of this file as they are; - is standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Events per second; as fast as --concurrency allows by default
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Events under way at the same time, at the most
    #[arg(long, value_name = "C", default_value_t = CONCURRENCY_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1..=CONCURRENCY_MAX))]
    pub concurrency: u32,
}

impl SendArgs {
    /// Sends and prints the summary. Exit 0 only if every event was acked.
    ///
    /// # Errors
    /// [`UsageError`] for a missing file, an unknown event type or a target
    /// that is no URL.
    pub async fn run(self, clock: Arc<dyn Clock>) -> anyhow::Result<ExitCode> {
        let bodies = self.bodies()?;
        let count = self.count.unwrap_or(1);
        let load = Load {
            count: Some(count),
            rate: self.rate,
            concurrency: self.concurrency as usize,
        };
        let sender = Sender::new(SenderConfig {
            target: self.target,
            callback_url: self.callback_url,
            key: self.key.resolve()?,
            ca_file: None,
            rule: SenderRule::default(),
            clock,
        })
        .map_err(|error| UsageError(error.to_string()))?;

        let bar = progress_bar(self.count);
        let stop = stop_on_interrupt();
        let mut last = None;
        let summary = sender
            .send_many(load, &bodies, &stop, |outcome| {
                bar.inc(1);
                last = Some(outcome.clone());
            })
            .await;
        bar.finish_and_clear();
        report(&summary, count, last.as_ref())?;
        let all_acked = summary.acked() == count;
        Ok(ExitCode::from(u8::from(!all_acked)))
    }

    fn bodies(&self) -> Result<Bodies, UsageError> {
        let from_stdin = self.stdin.is_some() || self.file.as_deref() == Some(Path::new("-"));
        if from_stdin {
            return read_body(std::io::stdin().lock(), "standard input");
        }
        if let Some(path) = &self.file {
            let name = path.display().to_string();
            let file = std::fs::File::open(path).map_err(|error| {
                UsageError(format!(
                    "cannot read {name}: {error}; name a file with an event's body"
                ))
            })?;
            return read_body(file, &name);
        }
        let event_type = self.event.as_deref().unwrap_or(EVENT_DEFAULT);
        Bodies::of_type(event_type).ok_or_else(|| unknown_event(event_type))
    }
}

fn read_body(from: impl std::io::Read, name: &str) -> Result<Bodies, UsageError> {
    let mut body = Vec::new();
    from.take(BODY_BYTES_MAX + 1)
        .read_to_end(&mut body)
        .map_err(|error| UsageError(format!("cannot read {name}: {error}")))?;
    if body.len() as u64 > BODY_BYTES_MAX {
        return Err(UsageError(format!(
            "{name} is larger than {BODY_BYTES_MAX} bytes; no event is"
        )));
    }
    Ok(Bodies::Fixed(Bytes::from(body)))
}

fn unknown_event(event_type: &str) -> UsageError {
    let known: Vec<&str> = ims::all_types().collect();
    let wanted = event_type.to_ascii_lowercase();
    let closest = known
        .iter()
        .map(|name| (distance(&name.to_ascii_lowercase(), &wanted), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= 3.max(wanted.len() / 4));
    let guess = closest.map_or_else(String::new, |(_, name)| format!(" Did you mean {name}?"));
    UsageError(format!(
        "--event {event_type:?} is no known event type.{guess} Known types:\n  {}",
        known.join("\n  ")
    ))
}

/// How many characters have to be put in, left out or replaced.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(200).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=1e6).contains(&rate) => Ok(rate),
        _ => Err("write events per second, 0.001 to 1000000".to_owned()),
    }
}

/// A bar on a terminal where `--count` was given, else one that shows nothing.
fn progress_bar(count: Option<u64>) -> ProgressBar {
    match count {
        Some(count) if std::io::stderr().is_terminal() => {
            let style = "{bar:40} {pos}/{len} events, {per_sec}, {eta} left";
            let style = ProgressStyle::with_template(style).expect("the template is fixed");
            ProgressBar::new(count).with_style(style)
        }
        _ => ProgressBar::hidden(),
    }
}

/// Ctrl-C ends the sending, not the program, so that the summary still comes.
fn stop_on_interrupt() -> CancellationToken {
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            cancel.cancel();
        }
        if tokio::signal::ctrl_c().await.is_ok() {
            // Whoever asks twice does not want to wait for the tries under way.
            std::process::exit(1);
        }
    });
    stop
}

fn report(summary: &Summary, count: u64, last: Option<&SendOutcome>) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{summary}")?;
    if summary.sent() < count {
        writeln!(out, "not sent: {}", count - summary.sent())?;
    }
    if let (1, Some(outcome)) = (count, last)
        && outcome.acked
    {
        let answer = String::from_utf8_lossy(&outcome.answer);
        let shown: String = answer
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect();
        writeln!(out, "answer: {shown}")?;
    }
    out.flush()?;
    let mut errors = std::io::stderr().lock();
    for hint in hints(summary) {
        writeln!(errors, "{hint}")?;
    }
    Ok(())
}

/// What to look at after failures that have a usual cause.
fn hints(summary: &Summary) -> impl Iterator<Item = &'static str> {
    const HINTS: [(&str, &str); 5] = [
        (
            "status 401",
            "401: is the key one of the source's keys, --callback-url exactly one of its \
             callback_urls, and the clock right?",
        ),
        (
            "status 403",
            "403: the source's allow_from does not name this address",
        ),
        (
            "status 404",
            "404: no source has this path; compare it with sources.NAME.path",
        ),
        (
            "status 503",
            "503: the receiver is not ready; its /readyz on the admin listener says why",
        ),
        (
            "connection refused",
            "nobody listens there: is the receiver running?",
        ),
    ];
    HINTS
        .into_iter()
        .filter(|(failure, _)| {
            summary
                .failures
                .keys()
                .any(|seen| seen.starts_with(failure))
        })
        .map(|(_, hint)| hint)
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use clap::Parser;

    use super::*;
    use crate::clock::SystemClock;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        send: SendArgs,
    }

    fn parsed(arguments: &[&str]) -> Result<SendArgs, clap::Error> {
        let all = ["send"].iter().chain(arguments);
        Program::try_parse_from(all).map(|program| program.send)
    }

    async fn receiver(status: u16) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        let router = axum::Router::new().fallback(move || async move { status });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}/ims/callback")
    }

    async fn exit(arguments: &[&str]) -> anyhow::Result<ExitCode> {
        parsed(arguments)?.run(Arc::new(SystemClock)).await
    }

    #[test]
    fn the_arguments_are_those_of_the_documentation() {
        use clap::CommandFactory as _;
        Program::command().debug_assert();
        let args = parsed(&["http://h/", "-", "--key", "k"]).unwrap();
        assert_eq!(args.stdin.as_deref(), Some("-"));
        let args = parsed(&["http://h/", "--file", "-", "--count", "3"]).unwrap();
        assert_eq!(args.file.as_deref(), Some(Path::new("-")));
        assert_eq!(args.count, Some(3));
        for wrong in [
            &["http://h/", "body"][..],
            &["http://h/", "-", "--file", "f"],
            &["http://h/", "--event", "E", "--file", "f"],
            &["http://h/", "--key", "k", "--key-file", "f"],
            &["http://h/", "--count", "0"],
            &["http://h/", "--rate", "0"],
            &["http://h/", "--rate", "NaN"],
            &["http://h/", "--concurrency", "0"],
            &[],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn the_exit_code_says_whether_all_were_acked() {
        let good = receiver(200).await;
        let success = format!("{:?}", ExitCode::SUCCESS);
        let code = exit(&[&good, "--count", "5"]).await.unwrap();
        assert_eq!(format!("{code:?}"), success);
        // 204 is no success; one event takes two pauses of a second.
        let bad = receiver(204).await;
        let code = exit(&[&bad]).await.unwrap();
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(1)));
    }

    #[tokio::test]
    async fn what_cannot_work_is_bad_usage_with_what_to_do() {
        for (arguments, said) in [
            (&["127.0.0.1:1/x"][..], "absolute http or https URL"),
            (&["http://h/", "--file", "/no/such/file"], "/no/such/file"),
            (&["http://h/", "--key-file", "/no/such/key"], "/no/such/key"),
            (
                &["http://h/", "--event", "producemediacomplet"],
                "Did you mean ProduceMediaComplete?",
            ),
            (&["http://h/", "--event", "x"], "\n  ProduceMediaComplete"),
        ] {
            let error = exit(arguments).await.unwrap_err();
            let usage = error.downcast_ref::<UsageError>();
            let text = usage.expect("bad usage").to_string();
            assert!(text.contains(said), "{text}");
        }
    }

    #[test]
    fn usual_failures_have_a_hint() {
        let mut summary = Summary::default();
        summary.failures.insert("status 401".to_owned(), 3);
        summary
            .failures
            .insert("connection refused (127.0.0.1:9)".to_owned(), 1);
        assert_eq!(hints(&summary).count(), 2);
        assert_eq!(hints(&Summary::default()).count(), 0);
    }
}
