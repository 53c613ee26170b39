//! Opening the file: the lock, the look before the first touch, pragmas, and
//! migrations.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::super::OpenError;
use super::ground;
use super::readable;

/// Numbered migrations; the index plus one is the version each leads to.
const MIGRATIONS: [&str; 2] = [
    include_str!("schema/0001.sql"),
    include_str!("schema/0002.sql"),
];

/// The version that this program writes.
const VERSION: u32 = MIGRATIONS.len() as u32;

/// The oldest version whose program can still work with what this one writes.
const OLDEST_READER: u32 = 1;

/// `PRAGMA application_id` of our files: "IMSr".
const APPLICATION_ID: i32 = 0x494d_5372;

/// What every SQLite file begins with.
pub const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// With less room than this SQLite may be unable to begin its log.
pub(super) const ROOM_BYTES_MIN: u64 = 256 * 1024;

/// How long an opening or a commit waits for another program that has the file
/// locked, such as a backup by hand. Below the time that an ack has.
pub const BUSY: Duration = Duration::from_secs(1);

/// Proof that no other process has the store. Released when dropped, or by the
/// operating system when the process ends, however it ends.
#[derive(Debug)]
pub struct StoreLock {
    path: PathBuf,
    _file: File,
}

impl StoreLock {
    /// Takes the lock of the store at `path`; its folder is made where it is
    /// missing. The lock is not waited for.
    ///
    /// # Errors
    /// [`OpenError`] where another process holds it, the folder cannot be
    /// written, or its file system would damage the store.
    pub fn take(path: &Path) -> Result<Self, OpenError> {
        ground::check(path)?;
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| no_folder(folder, &error))?;
        // Two names of one file share one lock.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut lock_path = target.into_os_string();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| no_folder(folder, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who holds it is a courtesy; without it the refusal stands all the same.
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => String::new(),
                    pid => format!(" (process {pid})"),
                };
                return Err(OpenError::Unusable {
                    path: path.to_owned(),
                    problem: format!("the store is in use by another ims-receiver{holder}"),
                    hint: "stop that process first, or give this one its own `store.path`".into(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(not_writable(&lock_path, &error)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = written {
            // On a full disk the lock holds without a process id in it.
            tracing::debug!(%error, "the lock file names no process");
        }
        Ok(Self {
            path: path.to_owned(),
            _file: file,
        })
    }

    /// The store that is locked.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The same of the store's folder, where a file may stand in its way.
fn no_folder(folder: &Path, error: &io::Error) -> OpenError {
    let is_file = |path: &&Path| fs::metadata(path).is_ok_and(|there_is| !there_is.is_dir());
    let Some(file) = folder.ancestors().find(is_file) else {
        return not_writable(folder, error);
    };
    OpenError::Unusable {
        path: folder.to_owned(),
        problem: format!("is to be a folder, and {} is a file", file.display()),
        hint: "move that file away, or set `store.path` to a place in another folder".to_owned(),
    }
}

/// Names who may write there, and who we are.
fn not_writable(path: &Path, error: &io::Error) -> OpenError {
    let there = ground::nearest(path);
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let owner = fs::metadata(&there).map_or_else(
        |_| format!("this is user {user} of group {group}"),
        |there_is| {
            format!(
                "{} belongs to user {} and group {} with mode {:o}, and this is user {user} of group {group}",
                there.display(),
                there_is.uid(),
                there_is.gid(),
                there_is.mode() & 0o7777,
            )
        },
    );
    let path = path.to_owned();
    let problem = format!("cannot be written: {error}; {owner}");
    let hint = match error.kind() {
        io::ErrorKind::StorageFull => return OpenError::NoRoom { path, problem },
        io::ErrorKind::ReadOnlyFilesystem => {
            "mount a volume there that can be written, or set `store.path` to one".to_owned()
        }
        _ => format!(
            "give user {user} the right to write there (`chown {user}:{group} {}`), or set `store.path` to a folder it owns",
            there.display()
        ),
    };
    OpenError::Unusable {
        path,
        problem,
        hint,
    }
}

/// Opens the writer's connection: looks at the file before touching it, then
/// sets it up and migrates it.
pub fn open_writer(lock: &StoreLock) -> Result<Connection, OpenError> {
    look_first(lock.path())?;
    reopen_writer(lock)
}

/// The same without the first look: closing a file that SQLite has open in this
/// process would take its locks away.
pub fn reopen_writer(lock: &StoreLock) -> Result<Connection, OpenError> {
    let path = lock.path();
    let failed = |error: rusqlite::Error| failed(path, "cannot be opened", &error);
    let mut connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(failed)?;
    // SQLite opens what it may not write as a file to read.
    if connection.is_readonly("main").map_err(failed)? {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        return Err(not_writable(path, &denied));
    }
    connection.busy_timeout(BUSY).map_err(failed)?;
    // What a refused start looked at must not be changed by closing it.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(failed)?;
    check_owner(&connection, path).map_err(|error| match error {
        Refusal::Open(open) => open,
        Refusal::Sqlite(error) => failed(error),
    })?;
    set_up(&connection).map_err(failed)?;
    migrate(&mut connection).map_err(failed)?;
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
        .map_err(failed)?;
    Ok(connection)
}

/// What SQLite says about the file at `path`. A disk without room shows as one
/// of several errors, some of which look like damage, so the disk is asked too.
pub fn failed(path: &Path, problem: &str, error: &rusqlite::Error) -> OpenError {
    let full = rustix::fs::statvfs(path)
        .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM_BYTES_MIN);
    let (path, problem) = (path.to_owned(), format!("{problem}: {}", readable(error)));
    if full {
        return OpenError::NoRoom { path, problem };
    }
    let hint =
        "look at the disk and the file's rights; a damaged file has to be restored from a backup";
    OpenError::Unusable {
        path,
        problem,
        hint: hint.to_owned(),
    }
}

/// Why a file is not opened.
pub enum Refusal {
    /// It is not ours, or not yet.
    Open(OpenError),
    /// It cannot be read.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Reads the first bytes without SQLite, which would already make files beside
/// it.
pub fn look_first(path: &Path) -> Result<(), OpenError> {
    let mut head = Vec::with_capacity(100);
    match File::open(path) {
        Ok(file) => file
            .take(100)
            .read_to_end(&mut head)
            .map_err(|error| not_writable(path, &error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(not_writable(path, &error)),
    };
    if head.is_empty() {
        return Ok(());
    }
    if head.len() < 100 || head[..16] != *MAGIC {
        return Err(OpenError::Unusable {
            path: path.to_owned(),
            problem: "is no database of ims-receiver".into(),
            hint: "move the file away, or set `store.path` to another one; it was not touched"
                .into(),
        });
    }
    let metadata = fs::metadata(path).map_err(|error| not_writable(path, &error))?;
    if metadata.permissions().readonly() {
        return Err(not_writable(
            path,
            &io::Error::from(io::ErrorKind::PermissionDenied),
        ));
    }
    let number =
        |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if number(68) != APPLICATION_ID.cast_unsigned() && has_tables(path) {
        return Err(foreign(path));
    }
    let version = number(60);
    if version > VERSION && !open_to_us(path, version) {
        return Err(newer(path, version));
    }
    Ok(())
}

fn foreign(path: &Path) -> OpenError {
    OpenError::Unusable {
        path: path.to_owned(),
        problem: "is the database of another program".into(),
        hint: "set `store.path` to another file; this one was not touched".into(),
    }
}

/// Whether there is anything in the file already.
fn has_tables(path: &Path) -> bool {
    open_immutable(path)
        .and_then(|connection| count_tables(&connection))
        .is_ok_and(|tables| tables > 0)
}

fn count_tables(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
}

/// Whether a file of a newer version says that this one may still use it.
fn open_to_us(path: &Path, version: u32) -> bool {
    open_immutable(path)
        .and_then(|connection| may_read(&connection, version))
        .unwrap_or(false)
}

/// Opened as immutable, so that a look leaves no file beside it.
fn open_immutable(path: &Path) -> rusqlite::Result<Connection> {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(*byte));
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    Connection::open_with_flags(
        uri,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI,
    )
}

/// Whether `meta` admits this program's version. It only counts where it was
/// written together with the version in the header.
fn may_read(connection: &Connection, version: u32) -> rusqlite::Result<bool> {
    let value = |name: &str| {
        connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| {
            row.get::<_, u32>(0)
        })
    };
    Ok(value("version")? == version && value("oldest_reader")? <= VERSION)
}

fn newer(path: &Path, version: u32) -> OpenError {
    OpenError::Unusable {
        path: path.to_owned(),
        problem: format!(
            "was written by a newer ims-receiver (version {version} of the schema; this one knows {VERSION})"
        ),
        hint: "start that newer release again, or restore the backup made before the upgrade; the file was not touched"
            .into(),
    }
}

/// Refuses files of other programs and of releases that this one cannot follow.
pub fn check_owner(connection: &Connection, path: &Path) -> Result<(), Refusal> {
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if count_tables(connection)? > 0 && application != APPLICATION_ID {
        return Err(Refusal::Open(foreign(path)));
    }
    if version > VERSION && !may_read(connection, version)? {
        return Err(Refusal::Open(newer(path, version)));
    }
    Ok(())
}

/// The pragmas of the writing connection.
fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // NORMAL would let a committed event vanish at power loss.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", "off")?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "cache_size", -8192)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Applies what is missing, each migration in a transaction of its own.
fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(version as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        let reached = index as u32 + 1;
        transaction.execute(
            "INSERT OR REPLACE INTO meta (name, value) VALUES ('version', ?1), ('oldest_reader', ?2)",
            [reached, OLDEST_READER],
        )?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", reached)?;
        transaction.commit()?;
    }
    Ok(())
}

/// A connection that only reads.
pub fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(connection)
}

/// The connection that checkpoints, off the ack path.
pub fn open_checkpointer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(connection)
}
