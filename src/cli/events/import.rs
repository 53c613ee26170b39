//! `events import`: puts exported events into another store.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use tokio::sync::mpsc;

use super::Session;
use super::progress::stop_on_interrupt;
use crate::cli::admin::answers::Imported;
use crate::cli::admin::client::AdminError;
use crate::cli::admin::screen;
use crate::cli::usage::UsageError;

/// The service takes no more in one request.
const CHUNK_BYTES_MAX: usize = 8 << 20;

/// Events of one request: little enough that a request is answered in time.
const CHUNK_LINES_MAX: usize = 1000;

/// How often a chunk is sent again where the service does not take it now.
const TRIES: u32 = 6;

/// The first pause before that; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(500);

/// Put exported events into this store; those that are there already are left
/// as they are
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Events keep their ids, times, deliveries and attempts. Importing a file twice
changes nothing the second time, so an interrupted import is simply repeated.

Examples:
  ims-receiver events import all.ndjson
  zstd -dc all.ndjson.zst | ims-receiver events import -"
)]
pub struct ImportArgs {
    /// Lines of `events export`; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

impl ImportArgs {
    pub(super) async fn run(
        self,
        session: &Session,
        out: &mut dyn Write,
    ) -> anyhow::Result<ExitCode> {
        let name = match self.file == Path::new("-") {
            true => "standard input".to_owned(),
            false => self.file.display().to_string(),
        };
        let (input, size) = self.open(&name)?;
        let bar = progress_bar(size);
        let mut chunks = read_ahead(Chunks::new(BufReader::with_capacity(1 << 20, input)));
        let stop = stop_on_interrupt();
        let mut sum = Imported::default();
        let mut complete = true;
        loop {
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    complete = false;
                    break;
                }
                next = chunks.recv() => next.context("the reading thread ended early")?,
            };
            let chunk = match next {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => {
                    let far = far(&sum);
                    return Err(UsageError(format!("{name}, {error}; {far}")).into());
                }
            };
            let bytes = chunk.bytes.len() as u64;
            let done = send(session, &chunk).await.map_err(|error| {
                let said = placed(&error, &chunk, &name);
                anyhow::anyhow!("{said}; {}", far(&sum))
            })?;
            sum.added += done.added;
            sum.known += done.known;
            bar.inc(bytes);
            bar.set_message(screen::count(sum.added + sum.known, "event", "events"));
        }
        bar.finish_and_clear();
        if session.json {
            let value = json!({ "added": sum.added, "known": sum.known, "complete": complete });
            writeln!(out, "{value}")?;
        } else {
            writeln!(out, "{}", far(&sum))?;
        }
        if !complete {
            eprintln!("Interrupted: the same command again does the rest.");
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// What is read, and its size where it has one.
    fn open(&self, name: &str) -> Result<(Box<dyn Read + Send>, Option<u64>), UsageError> {
        if self.file == Path::new("-") {
            if io::stdin().is_terminal() {
                eprintln!("Reading events from the terminal; Ctrl-D ends.");
            }
            return Ok((Box::new(io::stdin()), None));
        }
        let opened = File::open(&self.file).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = opened.map_err(|error| {
            UsageError(format!(
                "cannot read {name}: {error}; name a file that `events export` wrote"
            ))
        })?;
        Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
    }
}

fn far(sum: &Imported) -> String {
    format!(
        "{} added, {} known already",
        screen::count(sum.added, "event", "events"),
        screen::number(sum.known)
    )
}

fn progress_bar(size: Option<u64>) -> ProgressBar {
    match size {
        Some(size) => {
            let bar = screen::bar(size, "");
            let style = "{bar:40} {bytes}/{total_bytes}, {msg}, {eta} left";
            let style = indicatif::ProgressStyle::with_template(style);
            bar.with_style(style.expect("the template is fixed"))
        }
        None => screen::spinner("{spinner} {bytes}, {msg}"),
    }
}

/// Reads on a thread of its own: what is read may stall for ever, and an
/// interrupt has to end the command all the same.
fn read_ahead<R: BufRead + Send + 'static>(
    mut chunks: Chunks<R>,
) -> mpsc::Receiver<Result<Option<Chunk>, BadLine>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        loop {
            let next = chunks.next();
            let ended = !matches!(next, Ok(Some(_)));
            if sender.blocking_send(next).is_err() || ended {
                return;
            }
        }
    });
    receiver
}

/// Whole lines that go into one request.
#[derive(Debug, PartialEq, Eq)]
struct Chunk {
    bytes: Bytes,
    /// The number of each line in the file, counted from 1.
    lines: Vec<u64>,
}

/// Sends a chunk, again where the service cannot take it now: the same events
/// twice are the same as once.
async fn send(session: &Session, chunk: &Chunk) -> Result<Imported, AdminError> {
    let mut pause = PAUSE_MIN;
    let mut tries = TRIES;
    loop {
        let sent = session
            .client
            .post_bytes("/api/import", "application/x-ndjson", chunk.bytes.clone())
            .await;
        tries -= 1;
        match sent {
            Err(error) if error.is_temporary() && tries > 0 => tokio::time::sleep(pause).await,
            Err(error) => return Err(error),
            Ok(text) => return session.client.read(&text),
        }
        pause *= 2;
    }
}

/// The error with the line of the file where the service names one of the
/// request's.
fn placed(error: &AdminError, chunk: &Chunk, name: &str) -> String {
    let text = error.to_string();
    let (Some(first), Some(last)) = (chunk.lines.first(), chunk.lines.last()) else {
        return text;
    };
    let (AdminError::BadRequest(told) | AdminError::Conflict(told)) = error else {
        return format!("{name}, lines {first} to {last}: {text}");
    };
    let Some((before, number, after)) = line_number(told) else {
        return format!("{name}, lines {first} to {last}: {told}");
    };
    match chunk.lines.get(number - 1) {
        Some(line) => format!("{name}: {before}line {line}{after}"),
        None => format!("{name}, lines {first} to {last}: {told}"),
    }
}

/// The first `line N` in a text: what stands before, N, and what follows.
fn line_number(text: &str) -> Option<(&str, usize, &str)> {
    let (before, rest) = text.split_once("line ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let number: usize = rest[..digits].parse().ok().filter(|number| *number > 0)?;
    Some((before, number, &rest[digits..]))
}

/// A line that no service would take.
#[derive(Debug, thiserror::Error)]
enum BadLine {
    #[error("line {0} is no event: an export has a JSON object on each line")]
    NoObject(u64),
    #[error(
        "line {0} is longer than the 8 MiB that one request may have (its body is beyond about 3 MB): import the file without it (`sed {0}d`), and send that event to the other service as it first came; or move the whole store by `ims-receiver store backup`"
    )]
    TooLong(u64),
    #[error("after line {0}: {1}")]
    Unreadable(u64, io::Error),
}

/// Cuts an export into chunks.
struct Chunks<R> {
    input: R,
    line: u64,
    /// The line that did not fit into the chunk before.
    held: Option<Vec<u8>>,
}

impl<R: BufRead> Chunks<R> {
    fn new(input: R) -> Self {
        Self {
            input,
            line: 0,
            held: None,
        }
    }

    fn next(&mut self) -> Result<Option<Chunk>, BadLine> {
        let mut bytes = Vec::new();
        let mut lines = Vec::new();
        while lines.len() < CHUNK_LINES_MAX {
            let Some(line) = self.take_line()? else {
                break;
            };
            if bytes.len() + line.len() > CHUNK_BYTES_MAX {
                self.held = Some(line);
                break;
            }
            bytes.extend_from_slice(&line);
            lines.push(self.line);
        }
        Ok((!lines.is_empty()).then(|| Chunk {
            bytes: bytes.into(),
            lines,
        }))
    }

    /// The next line that is not blank, with its end.
    fn take_line(&mut self) -> Result<Option<Vec<u8>>, BadLine> {
        if let Some(held) = self.held.take() {
            return Ok(Some(held));
        }
        loop {
            let mut line = Vec::new();
            let most = CHUNK_BYTES_MAX as u64 + 1;
            let mut limited = self.input.by_ref().take(most);
            limited
                .read_until(b'\n', &mut line)
                .map_err(|error| BadLine::Unreadable(self.line, error))?;
            if line.is_empty() {
                return Ok(None);
            }
            self.line += 1;
            if line.last() != Some(&b'\n') {
                line.push(b'\n');
            }
            if line.len() > CHUNK_BYTES_MAX {
                return Err(BadLine::TooLong(self.line));
            }
            match line.trim_ascii() {
                [] => {}
                [b'{', .., b'}'] => return Ok(Some(line)),
                _ => return Err(BadLine::NoObject(self.line)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(text: &str) -> Result<Vec<Chunk>, BadLine> {
        let mut chunks = Chunks::new(text.as_bytes());
        std::iter::from_fn(|| chunks.next().transpose()).collect()
    }

    #[test]
    fn chunks_are_whole_lines_and_all_of_them() {
        let line = format!("{{\"x\":\"{}\"}}\n", "y".repeat(3 << 20));
        let text = format!("{{}}\n\n{line}{line}\r\n{line}{{}}");
        let chunks = chunks(&text).unwrap();
        let lines: Vec<&[u64]> = chunks.iter().map(|chunk| &*chunk.lines).collect();
        assert_eq!(lines, [&[1, 3, 4][..], &[6, 7]]);
        for chunk in &chunks {
            assert!(chunk.bytes.len() <= CHUNK_BYTES_MAX);
            assert_eq!(chunk.bytes.last(), Some(&b'\n'));
        }
        let together: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        assert_eq!(together, text.len() - "\n\r\n".len() + "\n".len());
        let many = "{}\n".repeat(CHUNK_LINES_MAX * 2 + 1);
        assert_eq!(super::tests::chunks(&many).unwrap().len(), 3);
        assert!(super::tests::chunks("\n \n").unwrap().is_empty());
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, said) in [
            ("{}\n\nnot json\n", "line 3 is no event"),
            ("{}\n{\"cut\":", "line 2 is no event"),
        ] {
            let error = chunks(text).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let long = format!("{{}}\n{{\"x\":\"{}\"}}\n", "y".repeat(CHUNK_BYTES_MAX));
        let error = chunks(&long).unwrap_err().to_string();
        assert!(error.contains("line 2 is longer than the 8 MiB"), "{error}");
    }

    #[test]
    fn a_line_of_a_request_is_found_in_the_file() {
        let chunk = Chunk {
            bytes: Bytes::new(),
            lines: vec![1, 3, 40],
        };
        let bad = AdminError::BadRequest("line 3: `id` is missing".to_owned());
        assert_eq!(placed(&bad, &chunk, "f"), "f: line 40: `id` is missing");
        let bad = AdminError::BadRequest("something else".to_owned());
        assert_eq!(
            placed(&bad, &chunk, "f"),
            "f, lines 1 to 40: something else"
        );
        let bad = AdminError::BadRequest("line 9: out of range".to_owned());
        assert!(placed(&bad, &chunk, "f").starts_with("f, lines 1 to 40"));
    }

    #[tokio::test]
    async fn a_service_that_is_busy_is_asked_again() {
        use std::sync::atomic::{AtomicU32, Ordering};

        use axum::Router;
        use axum::http::StatusCode;
        use axum::routing::post;

        let asked = std::sync::Arc::new(AtomicU32::new(0));
        let counted = std::sync::Arc::clone(&asked);
        let answer = move || {
            let first = counted.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                match first {
                    true => (StatusCode::SERVICE_UNAVAILABLE, ""),
                    false => (StatusCode::OK, r#"{"added":2,"known":1}"#),
                }
            }
        };
        let router = Router::new().route("/api/import", post(answer));
        let session = Session {
            client: crate::cli::admin::client::tests::fake(router, None).await,
            screen: screen::Screen {
                width: None,
                now: jiff::Timestamp::UNIX_EPOCH,
            },
            json: false,
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{}\n{}\n{}\n").unwrap();
        let args = ImportArgs {
            file: file.path().to_owned(),
        };
        let mut out = Vec::new();
        args.run(&session, &mut out).await.unwrap();
        assert_eq!(out, b"2 events added, 1 known already\n");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
