//! Credentials that the configuration names.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Credential, CredentialSource, CredentialsError};

/// Reads the configured files once more; the error says which and why.
pub type Reread = Arc<dyn Fn() -> Result<Credential, String> + Send + Sync>;

/// A key that the configuration names, itself or by files. Files are read
/// again whenever MNS refuses what they held.
#[derive(Clone)]
pub struct Fixed(Reread);

impl Fixed {
    /// Credentials that `reread` reads.
    pub fn new(reread: Reread) -> Self {
        Self(reread)
    }
}

#[async_trait]
impl CredentialSource for Fixed {
    async fn fetch(&self) -> Result<Credential, CredentialsError> {
        (self.0)().map_err(CredentialsError)
    }
}

impl fmt::Debug for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fixed")
    }
}
