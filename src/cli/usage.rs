//! Bad usage, and the arguments that several commands share.

use std::path::{Path, PathBuf};

use clap::Args;
use secrecy::SecretString;

use crate::settings::secrets;

/// A command that was used in a way that cannot work: exit code 64. The text
/// says what is wrong and what to do; it never shows a secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Exit code for bad usage.
pub const EXIT_USAGE: u8 = 64;

/// A key, or a file that holds one.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub struct KeyArgs {
    /// The key to sign with; other users of this machine can see it, so
    /// prefer --key-file
    #[arg(long, value_name = "KEY")]
    pub key: Option<SecretString>,
    /// A file with the key to sign with; of several lines the first is used
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

impl KeyArgs {
    /// The key, where one was given.
    ///
    /// # Errors
    /// [`UsageError`] where the file cannot be read or holds no usable key, or
    /// where the key is empty.
    pub fn resolve(self) -> Result<Option<SecretString>, UsageError> {
        use secrecy::ExposeSecret as _;
        match (self.key, self.key_file) {
            (Some(key), _) if key.expose_secret().is_empty() => Err(UsageError(
                "--key is empty; give the key as it is configured at IMS".to_owned(),
            )),
            (Some(key), _) => Ok(Some(key)),
            (None, Some(file)) => read_key(&file).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// The first key of a file of keys, read as the service reads it.
fn read_key(file: &Path) -> Result<SecretString, UsageError> {
    let keys = secrets::read_keys(file)
        .map_err(|error| UsageError(format!("--key-file: {error}; {}", error.hint())))?;
    let first = keys.into_iter().next();
    Ok(first.expect("a file without a key was refused"))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn of_file(text: &[u8]) -> Result<Option<SecretString>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let arguments = KeyArgs {
            key: None,
            key_file: Some(file.path().to_owned()),
        };
        arguments.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_key_is_read_whatever_surrounds_it() {
        for text in [
            "Abc123",
            "Abc123\n",
            "\u{feff}Abc123\r\nold\r\n",
            "\n\r\n \tAbc123\t \nold",
        ] {
            let key = of_file(text.as_bytes()).unwrap().unwrap();
            assert_eq!(key.expose_secret(), "Abc123", "{text:?}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        for (text, problem) in [
            (&b""[..], "nothing but blank lines"),
            (b"\n  \n", "nothing but blank lines"),
            (b"\ns3 cret\n", "line 2"),
            (b"s3cret\xff", "not UTF-8"),
        ] {
            let error = of_file(text).unwrap_err();
            assert!(error.contains(problem), "{error}");
            assert!(!error.contains("s3"), "{error}");
        }
        let missing = KeyArgs {
            key: None,
            key_file: Some("/no/such/file".into()),
        };
        let error = missing.resolve().unwrap_err().to_string();
        assert!(error.contains("/no/such/file"), "{error}");
        let empty = KeyArgs {
            key: Some("".into()),
            key_file: None,
        };
        assert!(empty.resolve().is_err());
    }
}
