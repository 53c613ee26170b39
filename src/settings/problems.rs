//! What is wrong with a configuration: every problem at once, one line each.

use std::fmt::{self, Write as _};

use crate::escape::OneLine;

/// A configuration that cannot be used, with everything that is wrong with it.
///
/// `Display` gives one line per problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// What is wrong; never empty.
    pub problems: Vec<Problem>,
    /// What is odd beside it.
    pub warnings: Vec<Warning>,
}

impl std::error::Error for SettingsError {}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.problems.iter().enumerate() {
            if position > 0 {
                f.write_char('\n')?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

/// One thing that is wrong. `Display` gives one line, whatever the
/// configuration holds: `handlers.cms.timeout: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key.
    pub key: String,
    /// What is wrong with it; never a secret.
    pub problem: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem with a hint.
    pub fn new(
        key: impl Into<String>,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            key: key.into(),
            problem: problem.into(),
            hint: Some(hint.into()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", OneLine(&self.key), OneLine(&self.problem))?;
        match &self.hint {
            Some(hint) => write!(f, ": {}", OneLine(hint)),
            None => Ok(()),
        }
    }
}

/// Something that works and is probably not what was meant. `Display` gives
/// one line that begins with `warning:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub Problem);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "warning: {}", self.0)
    }
}

/// `parent.key`, with the key quoted where TOML would need it.
pub(super) fn dotted(parent: &str, key: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let key = if !key.is_empty() && key.bytes().all(bare) {
        key.to_owned()
    } else {
        format!("{key:?}")
    };
    if parent.is_empty() {
        key
    } else {
        format!("{parent}.{key}")
    }
}
