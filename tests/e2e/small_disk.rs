//! A file system of its own, small enough to fill.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::output;

/// Mounted until it is dropped.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub fn mount(kilobytes: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={kilobytes}k"), "tmpfs"])
            .arg(folder.path());
        let (code, _, stderr) = output(&mut mount);
        assert_eq!(
            code, 0,
            "a full disk is tested on a small tmpfs, which needs the right to mount: run as root or under `unshare -Urm`: {stderr}"
        );
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// From now on nobody can write there.
    pub fn make_read_only(&self) {
        let mut mount = Command::new("mount");
        mount.args(["-o", "remount,ro"]).arg(self.0.path());
        let (code, _, stderr) = output(&mut mount);
        assert_eq!(code, 0, "{stderr}");
    }

    /// Takes this much of the room.
    pub fn take(&self, kilobytes: usize) {
        let taken = self.take_until(kilobytes);
        assert_eq!(taken, kilobytes, "there was no room to take");
    }

    /// Takes what room is left, down to the last block.
    pub fn fill(&self) {
        self.take_until(usize::MAX);
    }

    fn take_until(&self, kilobytes: usize) -> usize {
        let mut ballast = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.path("ballast"))
            .expect("a file");
        let zeros = [0; 1024];
        (0..kilobytes)
            .take_while(|_| ballast.write_all(&zeros).is_ok())
            .count()
    }

    pub fn make_room(&self) {
        std::fs::remove_file(self.path("ballast")).expect("the ballast is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a service that is about to end may still have files open.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Asserts that SQLite finds nothing wrong with the database.
pub fn is_whole(store: &Path) {
    let connection = rusqlite::Connection::open(store).expect("a database");
    let verdict: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("it can be read");
    assert_eq!(verdict, "ok");
}
