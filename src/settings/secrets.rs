//! Files that hold secrets: keys one a line, or a single token.
//!
//! They are UTF-8. A BOM, carriage returns, and blanks around a line are
//! removed and empty lines skipped, since editors and shells add them.
//! Errors name the file and the line, never what stands there.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

/// A larger file is no file of secrets.
const BYTES_MAX: u64 = 64 * 1024;

/// What to do about a key that is longer than any.
pub(crate) const LONG_KEY_HINT: &str =
    "write one key a line; do two stand on one line, behind one that did not end?";

/// A file of secrets that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// The system does not let us read it.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is there, and something in it is wrong.
    #[error("{}: {fault}", path.display())]
    Faulty {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: Fault,
    },
}

/// What is wrong with the content of a file of secrets. Lines count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Over 64 KiB.
    #[error("is larger than 64 KiB, so it is no file of secrets")]
    TooLarge,
    /// Not UTF-8.
    #[error("line {0} is not UTF-8")]
    NotUtf8(usize),
    /// Nothing but blanks.
    #[error("holds nothing but blank lines")]
    Empty,
    /// A blank or a control character inside a secret.
    #[error("line {0} has a blank or a control character inside")]
    Blank(usize),
    /// The same key twice.
    #[error("line {line} repeats line {first}")]
    Repeated {
        /// The later one.
        line: usize,
        /// The earlier one.
        first: usize,
    },
    /// A second line where one is expected.
    #[error("line {0} is one too many: one line is expected")]
    OneTooMany(usize),
    /// No `NAME=value`.
    #[error("line {0} is no variable of the form `NAME=value`")]
    NoVariable(usize),
    /// No `Name: value`.
    #[error("line {0} is no header field of the form `Name: value`")]
    NoHeader(usize),
}

impl SecretFileError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unreadable { path, source } => match source.kind() {
                io::ErrorKind::NotFound => "create the file, or correct the path".to_owned(),
                io::ErrorKind::IsADirectory => {
                    "it is a folder, as container engines make one where the file to mount is missing: remove it, then create the file".to_owned()
                }
                io::ErrorKind::PermissionDenied => format!(
                    "let user {} read it, which runs the service, and nobody else: chown {0} {}",
                    rustix::process::geteuid().as_raw(),
                    path.display()
                ),
                _ => "name a readable file".to_owned(),
            },
            Self::Faulty { fault, .. } => match fault {
                Fault::Empty => "write the secret on a line of its own",
                Fault::Repeated { .. } | Fault::OneTooMany(_) => "remove the line",
                Fault::NoVariable(_) => "write one `NAME=value` a line",
                Fault::NoHeader(_) => "write one `Name: value` a line",
                Fault::TooLarge | Fault::NotUtf8(_) | Fault::Blank(_) => {
                    "write the secret as plain text"
                }
            }
            .to_owned(),
        }
    }

    /// [`hint`](Self::hint) for a secret that is ours to choose: where nothing
    /// is there yet, with the command that makes one.
    pub(super) fn hint_for_ours(&self) -> String {
        let hint = self.hint();
        match self {
            Self::Unreadable { path, source }
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::IsADirectory
                ) =>
            {
                format!("{hint}; a new one: {}", making(path))
            }
            Self::Faulty {
                path,
                fault: Fault::Empty,
            } => format!("{hint}; a new one: {}", making(path)),
            _ => hint,
        }
    }
}

/// The command that makes a key or a token of 32 letters and digits, as IMS
/// takes them, with what every Debian has.
fn making(path: &Path) -> String {
    let path = path.to_string_lossy().replace('\'', r"'\''");
    format!("(umask 077; tr -dc A-Za-z0-9 </dev/urandom | head -c 32 >'{path}')")
}

/// Reads the keys of a source, one a line, in their order.
///
/// # Errors
/// [`SecretFileError`]: unreadable, no key at all, a blank inside a key, or a
/// key twice.
pub fn read_keys(path: &Path) -> Result<Vec<SecretString>, SecretFileError> {
    let lines = read_lines(path)?;
    for (position, (line, key)) in lines.iter().enumerate() {
        if has_blank(key) {
            return Err(faulty(path, Fault::Blank(*line)));
        }
        if let Some((first, _)) = lines[..position].iter().find(|(_, other)| other == key) {
            let (line, first) = (*line, *first);
            return Err(faulty(path, Fault::Repeated { line, first }));
        }
    }
    Ok(lines.into_iter().map(|(_, key)| key.into()).collect())
}

/// Reads a file that holds one secret on one line.
///
/// # Errors
/// [`SecretFileError`]: unreadable, empty, a second line, or a blank inside.
pub fn read_one(path: &Path) -> Result<SecretString, SecretFileError> {
    let mut lines = read_lines(path)?.into_iter();
    let (line, secret) = lines.next().ok_or_else(|| faulty(path, Fault::Empty))?;
    if let Some((second, _)) = lines.next() {
        return Err(faulty(path, Fault::OneTooMany(second)));
    }
    if has_blank(&secret) {
        return Err(faulty(path, Fault::Blank(line)));
    }
    Ok(secret.into())
}

/// Reads header fields, one `Name: value` a line, in their order.
pub(super) fn read_headers(path: &Path) -> Result<Vec<(String, SecretString)>, SecretFileError> {
    let field = |(line, text): (usize, String)| match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() && !value.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned().into()))
        }
        _ => Err(faulty(path, Fault::NoHeader(line))),
    };
    read_lines(path)?.into_iter().map(field).collect()
}

/// Reads environment variables, one `NAME=value` a line, in their order.
pub(super) fn read_variables(path: &Path) -> Result<Vec<(String, SecretString)>, SecretFileError> {
    let variable = |(line, text): (usize, String)| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned().into())),
        None => Err(faulty(path, Fault::NoVariable(line))),
    };
    read_lines(path)?.into_iter().map(variable).collect()
}

/// Whether people other than the file's owner and group can read it, or
/// others than the owner can write it. Mounts for secrets are left out: the
/// systems that make them choose the mode, and nobody else is in there.
pub(super) fn is_exposed(path: &Path) -> bool {
    let mounted = path.starts_with("/run/secrets") || path.starts_with("/var/run/secrets");
    let mode = path
        .metadata()
        .map(|metadata| metadata.permissions().mode());
    !mounted && mode.is_ok_and(|mode| mode & 0o026 != 0)
}

/// A secret holds no blanks: where one is, two lines ran together or text was
/// pasted along.
pub(super) fn has_blank(secret: &str) -> bool {
    secret.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// The position of the first key that equals an earlier one, counted from 1, with that one's.
pub(super) fn repeated(keys: &[SecretString]) -> Option<(usize, usize)> {
    keys.iter().enumerate().find_map(|(position, key)| {
        let same = |other: &SecretString| other.expose_secret() == key.expose_secret();
        let first = keys[..position].iter().position(same)?;
        Some((position + 1, first + 1))
    })
}

/// The lines that hold something, trimmed, with their numbers; at least one.
fn read_lines(path: &Path) -> Result<Vec<(usize, String)>, SecretFileError> {
    let bytes = read_bytes(path).map_err(|source| SecretFileError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(faulty(path, Fault::TooLarge));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        faulty(path, Fault::NotUtf8(line))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines: Vec<(usize, String)> = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim().to_owned()))
        .filter(|(_, line)| !line.is_empty())
        .collect();
    if lines.is_empty() {
        return Err(faulty(path, Fault::Empty));
    }
    Ok(lines)
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn faulty(path: &Path, fault: Fault) -> SecretFileError {
    SecretFileError::Faulty {
        path: path.to_owned(),
        fault,
    }
}
