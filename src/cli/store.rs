//! `store`: looks after the file of the store, beside a service or without one.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::usage::UsageError;
use crate::store::tools::{self, Findings, Step, ToolError};

/// Look after the file of the store
#[derive(Debug, Clone, Subcommand)]
pub enum StoreCommand {
    /// Look for damage; also beside a running service. Exit 0 where there is
    /// none, else 1
    Check,
    /// Copy the store into a new file; also beside a running service
    ///
    /// The copy is of the moment at which this begins, checked, and on disk
    /// when this ends. The store's log grows meanwhile.
    Backup {
        /// The file to make; it must not be there yet
        file: PathBuf,
    },
    /// Write the file anew without what it does not use; the service must not
    /// run
    Compact,
}

impl StoreCommand {
    /// Runs the command for the store at `path`, which `config` names.
    ///
    /// # Errors
    /// [`UsageError`] where the store or the file that is asked for cannot be
    /// used as it is; anything else is a failure.
    pub fn run(
        self,
        config: Option<&Path>,
        path: &Path,
        out: &mut dyn Write,
    ) -> anyhow::Result<ExitCode> {
        // Another configuration than the service's names another store.
        if let Some(config) = config {
            writeln!(out, "configuration {}", config.display())?;
        }
        // Copies hold what the store holds.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        // Beside a service, answering is worth more. Where it cannot be had it
        // is not needed either.
        let _ = rustix::process::nice(10);
        let bar = Bar::default();
        match self {
            Self::Check => check(path, &bar, out),
            Self::Backup { file } => {
                let found = tools::backup(path, &file, &mut |step| bar.show(step));
                bar.0.finish_and_clear();
                let findings = found.map_err(told)?;
                writeln!(
                    out,
                    "{}: {}, {} events, checked",
                    file.display(),
                    HumanBytes(findings.size.file_bytes),
                    findings.events
                )?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Compact => {
                let done = tools::compact(path, &mut |step| bar.show(step));
                bar.0.finish_and_clear();
                let done = done.map_err(told)?;
                writeln!(
                    out,
                    "{}: {} before, {} now",
                    path.display(),
                    HumanBytes(done.before),
                    HumanBytes(done.after)
                )?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn check(path: &Path, bar: &Bar, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let found = tools::check(path, &mut |step| bar.show(step));
    bar.0.finish_and_clear();
    let findings = found.map_err(told)?;
    report(path, &findings, out)?;
    Ok(
        match findings.problems.is_empty() && findings.set_aside.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        },
    )
}

fn report(path: &Path, findings: &Findings, out: &mut dyn Write) -> std::io::Result<()> {
    let path = path.display();
    let Findings {
        problems,
        set_aside,
        events,
        deliveries: [pending, running, succeeded, dead],
        attempts,
        size,
    } = findings;
    writeln!(
        out,
        "{path}: {}, of which {} in use, and a log of {}; {} free on its disk",
        HumanBytes(size.file_bytes),
        HumanBytes(size.used_bytes),
        HumanBytes(size.wal_bytes),
        HumanBytes(size.disk_free_bytes)
    )?;
    writeln!(
        out,
        "{events} events; deliveries: {pending} pending, {running} running, {succeeded} succeeded, {dead} dead; {attempts} attempts kept"
    )?;
    if problems.is_empty() && set_aside.is_empty() {
        return writeln!(out, "no problem found");
    }
    for problem in problems.iter().chain(set_aside) {
        // Some of it is out of the damaged file.
        let shown: String = problem
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        writeln!(out, "problem: {shown}")?;
    }
    if problems.is_empty() {
        return writeln!(out, "The store is whole otherwise: nothing is lost.");
    }
    writeln!(
        out,
        "The store is damaged. Stop the service, move {path}, {path}-wal and {path}-shm away (do not delete them), put the last good backup (`ims-receiver store backup`) at {path}, and start again. What came after the backup may be read out of the damaged file with `sqlite3 FILE .recover`. Look at the disk: damage seldom comes alone."
    )
}

fn told(error: ToolError) -> anyhow::Error {
    match error {
        ToolError::Unusable(text) => UsageError(text).into(),
        ToolError::Failed(text) => anyhow::Error::msg(text),
    }
}

/// A bar on a terminal, else one that shows nothing.
struct Bar(ProgressBar);

impl Default for Bar {
    fn default() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::no_length();
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }
}

impl Bar {
    fn show(&self, step: Step) {
        let template = match step.total {
            0 => "{spinner} {msg} {elapsed}",
            _ => "{bar:40} {msg} {percent} %, {eta} left",
        };
        if self.0.message() != step.what || self.0.length() != Some(step.total) {
            let style = ProgressStyle::with_template(template).expect("the template is fixed");
            self.0.set_style(style);
            self.0.set_message(step.what);
            self.0.set_length(step.total);
            self.0.reset_eta();
        }
        self.0.set_position(step.done);
    }
}
