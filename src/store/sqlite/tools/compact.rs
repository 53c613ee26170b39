//! A smaller file for a store that nobody has open.
//!
//! SQLite's own `VACUUM` would build the copy in memory or in a folder for
//! temporary files and then write all of it through the log. This one writes
//! the copy beside the store, checks it, and puts it in its place: until then
//! the store is as it was, whatever happens.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{Gid, Uid, fchown};

use super::{
    Step, ToolError, Watch, beside, check, failed, io_failed, mib, refuse_foreign, sync_folder,
};
use crate::store::sqlite::open::{BUSY, ROOM_BYTES_MIN, StoreLock, look_first};
use crate::store::sqlite::upkeep::{disk_free, used_bytes};

/// How large a store was and is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// The file before.
    pub before: u64,
    /// The file now.
    pub after: u64,
}

/// Writes the store at `path` anew, without what it does not use.
///
/// # Errors
/// [`ToolError::Unusable`] where there is none, a service or another program
/// has it open, or it cannot be written; [`ToolError::Failed`] otherwise, as
/// without room for the copy. The store is as it was then.
pub fn compact(path: &Path, watch: Watch<'_>) -> Result<Compacted, ToolError> {
    // Behind a link the file itself is replaced.
    let path = &std::fs::canonicalize(path).map_err(|error| {
        ToolError::Unusable(format!(
            "{}: there is no store that could be made smaller: {error}",
            path.display()
        ))
    })?;
    let lock = StoreLock::take(path)?;
    look_first(path)?;
    let copy = beside(path, ".compact");
    let result = replace(path, &copy, watch);
    if result.is_err() {
        let _ = std::fs::remove_file(&copy);
    }
    drop(lock);
    result
}

fn replace(path: &Path, copy: &Path, watch: Watch<'_>) -> Result<Compacted, ToolError> {
    let failed = failed("it cannot be made smaller", path);
    let io_failed = io_failed("it cannot be made smaller", path);
    // Without room for its own files SQLite speaks of an I/O error.
    if let Some(free) = disk_free(path)
        && free < ROOM_BYTES_MIN
    {
        return Err(ToolError::Failed(format!(
            "{}: its disk has {} free; make room first",
            path.display(),
            mib(free)
        )));
    }
    let store = have_alone(path)?;
    refuse_foreign(&store, path)?;
    let metadata = std::fs::metadata(path).map_err(&io_failed)?;
    let used = used_bytes(&store).map_err(&failed)?;
    if let Some(free) = disk_free(path)
        && free < used
    {
        return Err(ToolError::Failed(format!(
            "{}: the smaller copy takes up to {} beside it, and its disk has {} free; make room first",
            path.display(),
            mib(used),
            mib(free)
        )));
    }
    watch(Step {
        what: "written",
        done: 0,
        total: 0,
    });
    // An earlier one that did not come to its end.
    let _ = std::fs::remove_file(copy);
    let name = copy
        .to_str()
        .ok_or_else(|| ToolError::Unusable(format!("{}: its path is not UTF-8", path.display())))?;
    store
        .execute("VACUUM INTO ?1", [name])
        .map_err(|error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt) => ToolError::Failed(format!(
                "{}: it is damaged; `ims-receiver store check` tells more",
                path.display()
            )),
            _ => failed(error),
        })?;
    let events: i64 = store
        .query_row("SELECT count(*) FROM events", [], |row| row.get(0))
        .map_err(&failed)?;
    let findings = check(copy, watch)?;
    if !findings.problems.is_empty() || findings.events != events.cast_unsigned() {
        return Err(ToolError::Failed(format!(
            "{}: its copy is not what it should be, so it stays as it is: {}",
            path.display(),
            findings
                .problems
                .first()
                .map_or("events are missing", |p| p)
        )));
    }
    let file = File::open(copy).map_err(&io_failed)?;
    // Whoever does this may be another user than the service.
    let owner = Some(Uid::from_raw(metadata.uid()));
    let group = Some(Gid::from_raw(metadata.gid()));
    fchown(file.as_fd(), owner, group).map_err(|error| io_failed(error.into()))?;
    let rights = std::fs::Permissions::from_mode(metadata.mode());
    file.set_permissions(rights).map_err(&io_failed)?;
    file.sync_all().map_err(&io_failed)?;
    std::fs::rename(copy, path).map_err(&io_failed)?;
    sync_folder(path).map_err(&io_failed)?;
    let after = file.metadata().map_err(&io_failed)?.len();
    Ok(Compacted {
        before: metadata.len(),
        after,
    })
}

/// Opens the store so that no other program has it, with everything in the one
/// file: what another had open would be written to for nobody.
fn have_alone(path: &Path) -> Result<Connection, ToolError> {
    let failed = failed("it cannot be opened", path);
    let store = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(&failed)?;
    store.busy_timeout(BUSY).map_err(&failed)?;
    let alone = store
        .query_row("PRAGMA journal_mode = delete", [], |row| {
            row.get::<_, String>(0)
        })
        .and_then(|mode| {
            store.execute_batch("PRAGMA locking_mode = exclusive; BEGIN EXCLUSIVE; COMMIT;")?;
            Ok(mode == "delete")
        });
    match alone {
        Ok(true) => Ok(store),
        Err(error) if error.sqlite_error_code() != Some(rusqlite::ErrorCode::DatabaseBusy) => {
            Err(failed(error))
        }
        _ => Err(ToolError::Unusable(format!(
            "{}: another program has it open, such as a backup or a shell; wait for its end",
            path.display()
        ))),
    }
}
