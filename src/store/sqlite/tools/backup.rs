//! A copy of a store, of one moment, while a service works on it.
//!
//! SQLite's backup starts again from the beginning whenever another process
//! has written, so under load it would never end (tried: 37 beginnings in 12 s
//! at 1,000 events a second). Here all its steps read within one transaction:
//! the copy is of the moment at which it began, and the log grows until it is
//! through, since nothing may be copied over what is still read.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{
    Findings, Step, ToolError, Watch, beside, check, failed, io_failed, mib, open_to_read,
    refuse_foreign, sync_folder,
};
use crate::store::sqlite::open::BUSY;
use crate::store::sqlite::upkeep::disk_free;

/// What a copy is given beyond its pages: a disk that runs full on the last of
/// them shows as any I/O error.
const SLACK_BYTES: u64 = 256 * 1024;

/// Pages (4 KiB each) copied in one step.
const PAGES: i32 = 2048;

/// Copies the store at `path` into a new file at `target`, which appears there
/// whole, checked and on disk, or not at all. Answers what the check found in
/// it.
///
/// # Errors
/// [`ToolError::Unusable`] where `target` is there already or cannot be made,
/// or `path` is no store; [`ToolError::Failed`] otherwise, damage included.
pub fn backup(path: &Path, target: &Path, watch: Watch<'_>) -> Result<Findings, ToolError> {
    let unusable =
        |problem: String| ToolError::Unusable(format!("{}: {problem}", target.display()));
    if target.symlink_metadata().is_ok() {
        return Err(unusable(
            "is there already; name a new file, since a backup overwrites nothing".into(),
        ));
    }
    let source = open_to_read(path)?;
    refuse_foreign(&source, path)?;
    let part = beside(target, ".part");
    // Held to the end: closing it would take the locks of SQLite away.
    let file = take_part(&part, &unusable)?;
    let copied = copy(&source, path, &part, target, watch)
        .and_then(|()| finish(&file, &part, target, watch));
    if copied.is_err() {
        // What is left of it is of no use to anybody.
        for ending in ["", "-journal", "-wal", "-shm"] {
            let _ = std::fs::remove_file(beside(&part, ending));
        }
    }
    copied
}

/// Makes the file that the copy grows in, or takes over one that an earlier
/// backup left.
fn take_part(part: &Path, unusable: &dyn Fn(String) -> ToolError) -> Result<File, ToolError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(part)
        .map_err(|error| unusable(format!("cannot be written there: {error}")))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(unusable("another backup is just writing it".into()));
        }
        Err(TryLockError::Error(error)) => {
            return Err(unusable(format!("cannot be locked: {error}")));
        }
    }
    file.set_len(0)
        .map_err(|error| unusable(format!("cannot be written there: {error}")))?;
    Ok(file)
}

fn copy(
    source: &Connection,
    path: &Path,
    part: &Path,
    target: &Path,
    watch: Watch<'_>,
) -> Result<(), ToolError> {
    let failed = failed("it cannot be copied", path);
    // The moment that the copy is of.
    let moment = source.unchecked_transaction().map_err(&failed)?;
    let number = |name: &str| -> rusqlite::Result<i64> {
        moment.pragma_query_value(None, name, |row| row.get(0))
    };
    let _: i64 = moment
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(&failed)?;
    let pages = number("page_count").map_err(&failed)?;
    let bytes = (pages * number("page_size").map_err(&failed)?).cast_unsigned();
    if let Some(free) = disk_free(part)
        && free < bytes + SLACK_BYTES
    {
        return Err(ToolError::Failed(format!(
            "{}: takes {}, and its disk has {} free",
            target.display(),
            mib(bytes),
            mib(free)
        )));
    }
    let mut copy = Connection::open(part).map_err(&failed)?;
    // It is synced once, at its end; until then it is worth nothing.
    copy.execute_batch("PRAGMA synchronous = off; PRAGMA journal_mode = off;")
        .map_err(&failed)?;
    let backup = Backup::new(&moment, &mut copy).map_err(&failed)?;
    loop {
        let step = backup.step(PAGES).map_err(&failed)?;
        let progress = backup.progress();
        let total = u64::from(progress.pagecount.unsigned_abs());
        watch(Step {
            what: "copied",
            done: total.saturating_sub(u64::from(progress.remaining.unsigned_abs())),
            total,
        });
        match step {
            StepResult::Done => break,
            StepResult::More => {}
            _ => {
                return Err(ToolError::Failed(format!(
                    "{}: another program has it locked",
                    part.display()
                )));
            }
        }
    }
    drop(backup);
    drop(copy);
    // One file, without a log beside it.
    let copy = Connection::open(part).map_err(&failed)?;
    copy.busy_timeout(BUSY).map_err(&failed)?;
    copy.query_row("PRAGMA journal_mode = delete", [], |row| {
        row.get::<_, String>(0)
    })
    .map_err(&failed)?;
    Ok(())
}

/// Puts the copy at its place, once it is whole and on disk.
fn finish(
    file: &File,
    part: &Path,
    target: &Path,
    watch: Watch<'_>,
) -> Result<Findings, ToolError> {
    let io_failed = io_failed("it cannot be finished", target);
    file.sync_all().map_err(&io_failed)?;
    let findings = check(part, watch)?;
    if let Some(first) = findings.problems.first() {
        return Err(ToolError::Failed(format!(
            "the copy is damaged ({} problems, the first: {first}); `ims-receiver store check` tells whether the store is",
            findings.problems.len()
        )));
    }
    match renameat_with(CWD, part, CWD, target, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        // Not every file system can; then a moment stays in which somebody
        // else could make the file.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS)
            if target.symlink_metadata().is_err() =>
        {
            std::fs::rename(part, target).map_err(&io_failed)?;
        }
        Err(error) => return Err(io_failed(error.into())),
    }
    sync_folder(target).map_err(&io_failed)?;
    Ok(findings)
}
