//! Which file a command's first word means.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// The file that `name` means. With a slash in it that is `name` itself,
/// whether it is there or not; without one, the first file of that name in the
/// folders of `path` that can be run. Relative folders in `path` do not count.
pub fn find(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(name.into());
    }
    std::env::split_paths(path?)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|file| can_run(file).is_ok())
}

/// Whether this process could run `file`.
///
/// # Errors
/// What the system would answer to the attempt, as far as the file's own
/// presence and permissions decide it.
pub fn can_run(file: &Path) -> io::Result<()> {
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(access(file, Access::EXEC_OK)?)
}

/// Why the command that begins with `name` did not start, with what helps.
pub(super) fn fault(name: &str, error: &io::Error) -> String {
    let shown = error.to_string();
    // The number says nothing beside its text.
    let what = shown.split(" (os error").next().unwrap_or(&shown);
    match error.kind() {
        io::ErrorKind::NotFound if !name.contains('/') => {
            format!("No such file or directory ({name} is nowhere in PATH)")
        }
        io::ErrorKind::NotFound if Path::new(name).exists() => {
            format!("{what} ({name} is there, but not the interpreter in its first line)")
        }
        _ if error.raw_os_error() == Some(libc::ENOEXEC) => {
            format!("{what} ({name}; a script begins with a line such as #!/bin/sh)")
        }
        _ => format!("{what} ({name})"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_bare_name_is_the_first_that_can_be_run() {
        let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
        for (folder, mode) in folders.iter().zip([0o644, 0o755, 0o755]) {
            let file = folder.path().join("hook");
            fs::write(&file, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(folders[0].path().join("folder")).unwrap();
        let path = std::env::join_paths(folders.iter().map(|folder| folder.path())).unwrap();
        let found = find("hook", Some(&path));
        assert_eq!(found, Some(folders[1].path().join("hook")));
        assert_eq!(find("folder", Some(&path)), None);
        assert_eq!(find("hook", None), None);
        assert_eq!(find("./hook", None), Some("./hook".into()));
        assert_eq!(find("Cargo.toml", Some(OsStr::new(":."))), None);
    }
}
