//! `explain`: what the service would make of a captured request, and why.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use jiff::Timestamp;

use super::usage::UsageError;
use crate::clock::Clock;
use crate::escape::OneLine;
use crate::ingest::SourceConfig;
use crate::mns::QueueConfig;
use crate::server::explain::{JudgedAt, explain};
use crate::settings::Loaded;
use report::Report;

mod report;

/// Say what would become of a captured request, and why; stores nothing
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// The source to judge it by
    #[arg(long, value_name = "NAME")]
    pub source: String,
    /// A file with the request as it came: head, blank line, body; `-` for
    /// standard input
    #[arg(long, value_name = "FILE")]
    pub request: PathBuf,
    /// The time to judge its timestamp by: `now`, `sent` (its own), UNIX
    /// seconds, or RFC 3339
    #[arg(long, value_name = "TIME", default_value = "now")]
    pub at: At,
}

/// What `--at` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The moment of the command.
    Now,
    /// The request's own timestamp.
    Sent,
    /// This moment.
    Time(Timestamp),
}

impl std::str::FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = match text {
            "now" => return Ok(Self::Now),
            "sent" => return Ok(Self::Sent),
            _ => match text.parse::<i64>() {
                Ok(seconds) => Timestamp::from_second(seconds).ok(),
                Err(_) => text.parse().ok(),
            },
        };
        time.map(Self::Time).ok_or_else(|| {
            "write `now`, `sent`, UNIX seconds, or a time such as 2026-11-24T06:31:06Z".to_owned()
        })
    }
}

impl ExplainArgs {
    /// Explains the request to `out`. Exit code 0 where it would be accepted,
    /// 1 where it would not.
    ///
    /// # Errors
    /// [`UsageError`] where there is no such source or file; an I/O error where
    /// `out` is gone.
    pub async fn run(
        self,
        loaded: &Loaded,
        clock: &dyn Clock,
        out: &mut dyn Write,
    ) -> anyhow::Result<ExitCode> {
        let settings = &loaded.settings;
        let source = find(loaded, &self.source)?;
        let capture = read(&self.request, settings.server.body_bytes_max)?;
        let at = match self.at {
            At::Now => JudgedAt::Time(clock.now()),
            At::Sent => JudgedAt::Sent(clock.now()),
            At::Time(time) => JudgedAt::Time(time),
        };
        let explanation = explain(&settings.server, &settings.sources, source, capture, at).await?;
        let report = Report {
            settings,
            source,
            at: self.at,
        };
        report.write(&explanation, out)?;
        out.flush()?;
        Ok(match explanation.result {
            Ok(_) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        })
    }
}

/// The file is named, since it may be one of several that are looked for.
fn find<'l>(loaded: &'l Loaded, name: &str) -> Result<&'l SourceConfig, UsageError> {
    let sources = &loaded.settings.sources;
    let found = sources.iter().find(|source| source.name.as_str() == name);
    found.ok_or_else(|| {
        let file = loaded.path.display();
        let names: Vec<&str> = sources.iter().map(|one| one.name.as_str()).collect();
        let is_queue = |queue: &QueueConfig| queue.name.as_str() == name;
        let problem = if loaded.settings.queues.iter().any(is_queue) {
            format!(
                "source \"{}\" of {file} is a queue, to which nobody sends requests",
                OneLine(name)
            )
        } else {
            format!("{file} has no source \"{}\"", OneLine(name))
        };
        UsageError(if names.is_empty() {
            format!("{problem}; it has none of kind \"http\"")
        } else {
            format!("{problem}; those of kind \"http\" are {}", names.join(", "))
        })
    })
}

/// What is longer than this cannot be accepted: a body of the largest size in
/// small chunks, and a head.
fn capture_bytes_max(body_bytes_max: usize) -> u64 {
    const CHUNKED_AT_MOST: u64 = 8;
    const HEAD_AND_MORE: u64 = 64 * 1024;
    (body_bytes_max as u64)
        .saturating_mul(CHUNKED_AT_MOST)
        .saturating_add(HEAD_AND_MORE)
}

fn read(file: &Path, body_bytes_max: usize) -> Result<Bytes, UsageError> {
    let input: io::Result<Box<dyn Read>> = if file == Path::new("-") {
        Ok(Box::new(io::stdin()))
    } else {
        File::open(file).map(|file| Box::new(file) as Box<dyn Read>)
    };
    let mut capture = Vec::new();
    let limit = capture_bytes_max(body_bytes_max);
    input
        .and_then(|input| input.take(limit).read_to_end(&mut capture))
        .map_err(|error| {
            let file = file.display();
            UsageError(format!("--request: cannot read {file}: {error}"))
        })?;
    Ok(capture.into())
}
