//! Takes our own secrets out of what a destination says.

/// Shorter values are too common to be recognised as a secret.
const SECRET_BYTES_MIN: usize = 4;

/// Replaces secrets: a destination that echoes the request would otherwise
/// carry its token into the history.
pub(super) struct Redactor {
    /// The longest first, so that no part of one is replaced before the whole.
    secrets: Vec<String>,
}

impl Redactor {
    pub(super) fn new(mut secrets: Vec<String>) -> Self {
        secrets.retain(|secret| secret.len() >= SECRET_BYTES_MIN);
        secrets.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        Self { secrets }
    }

    /// `text` with `***` in place of every secret.
    pub(super) fn apply(&self, text: String) -> String {
        self.secrets.iter().fold(text, |text, secret| {
            if text.contains(secret.as_str()) {
                text.replace(secret.as_str(), "***")
            } else {
                text
            }
        })
    }
}
