//! `events export`: events with all that is known of them, one line each.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tempfile::NamedTempFile;

use super::Session;
use super::progress::stop_on_interrupt;
use crate::cli::admin::filter::FilterArgs;
use crate::cli::admin::output;
use crate::cli::admin::screen;
use crate::cli::usage::UsageError;

/// Written out at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Write events as NDJSON, newest first: body, deliveries, attempts and all
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "A file gets its name only once it is whole; one that is there is not replaced.

Examples:
  ims-receiver events export --output all.ndjson
  ims-receiver events export --since 2d --status dead | jq -r .id
  ims-receiver events export | ims-receiver events import - --admin http://127.0.0.1:9191"
)]
pub struct ExportArgs {
    /// Where to write; - is standard output
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    #[command(flatten)]
    pub filter: FilterArgs,
}

impl ExportArgs {
    pub(super) async fn run(self, session: &Session) -> anyhow::Result<ExitCode> {
        if self.output == Path::new("-") {
            let (exported, complete) = self.copy(session, output::json_stdout()).await?;
            if !complete {
                let events = screen::count(exported.events, "event", "events");
                eprintln!("Interrupted: {events} written, which is not all.");
            }
            return Ok(code(complete));
        }
        let file = self.begin()?;
        let path = self.output.display();
        let (exported, complete) = self.copy(session, file.as_file()).await?;
        if !complete {
            eprintln!("Interrupted: {path} was not written.");
            return Ok(ExitCode::FAILURE);
        }
        file.as_file()
            .sync_all()
            .with_context(|| format!("cannot write {path}"))?;
        file.persist_noclobber(&self.output)
            .map_err(|error| self.refused(&error.error))?;
        if session.json {
            let line = json!({ "events": exported.events, "bytes": exported.bytes });
            println!("{line}");
        } else {
            let events = screen::count(exported.events, "event", "events");
            let bytes = screen::bytes(exported.bytes);
            eprintln!("{events} in {path}, {bytes}");
        }
        Ok(ExitCode::SUCCESS)
    }

    /// A file beside the one that is asked for, which only its owner reads:
    /// events are nobody else's business.
    fn begin(&self) -> Result<NamedTempFile, UsageError> {
        if self.output.symlink_metadata().is_ok() {
            return Err(self.refused(&io::ErrorKind::AlreadyExists.into()));
        }
        let folder = match self.output.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        tempfile::Builder::new()
            .prefix(".ims-receiver-export-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(folder)
            .map_err(|error| self.refused(&error))
    }

    fn refused(&self, error: &io::Error) -> UsageError {
        let path = self.output.display();
        UsageError(match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("{path} is there already; name another file, or move that one away")
            }
            _ => format!("cannot write {path}: {error}"),
        })
    }

    /// Copies the service's lines; answers how many, and whether all of them.
    async fn copy(&self, session: &Session, out: impl Write) -> anyhow::Result<(Exported, bool)> {
        let stop = stop_on_interrupt();
        let query = self.filter.query(session.screen.now);
        let mut pieces = session.client.open("/api/export", &query).await?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
        let mut exported = Exported::default();
        let spinner = screen::spinner("{spinner} {msg}");
        let complete = loop {
            let piece = tokio::select! {
                piece = pieces.next() => piece?,
                () = stop.cancelled() => break false,
            };
            let Some(piece) = piece else {
                break true;
            };
            exported.copy(&piece, &mut out)?;
            spinner.set_message(format!(
                "{}, {}",
                screen::count(exported.events, "event", "events"),
                screen::bytes(exported.bytes)
            ));
        };
        spinner.finish_and_clear();
        out.flush()?;
        if complete && exported.cut {
            return Err(session.client.ended().into());
        }
        Ok((exported, complete))
    }
}

fn code(complete: bool) -> ExitCode {
    ExitCode::from(u8::from(!complete))
}

/// What was exported.
#[derive(Debug, Default)]
struct Exported {
    events: u64,
    bytes: u64,
    /// The last line has no end yet.
    cut: bool,
}

impl Exported {
    /// Copies a piece without the blank lines by which the service shows, in a
    /// long search, that it is still there.
    fn copy(&mut self, piece: &[u8], out: &mut impl Write) -> io::Result<()> {
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            if line == b"\n" && !self.cut {
                continue;
            }
            out.write_all(line)?;
            self.bytes += line.len() as u64;
            self.cut = !line.ends_with(b"\n");
            self.events += u64::from(!self.cut);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_are_left_out_however_the_stream_is_cut() {
        let stream = b"\n{\"a\":1}\n\n\n{}\n\n{\"b\":2}\n";
        for size in 1..stream.len() {
            let mut exported = Exported::default();
            let mut out = Vec::new();
            for piece in stream.chunks(size) {
                exported.copy(piece, &mut out).unwrap();
            }
            assert_eq!(out, b"{\"a\":1}\n{}\n{\"b\":2}\n", "in pieces of {size}");
            assert_eq!((exported.events, exported.bytes), (3, out.len() as u64));
            assert!(!exported.cut);
            exported.copy(b"{", &mut out).unwrap();
            assert!(exported.cut);
        }
    }
}
