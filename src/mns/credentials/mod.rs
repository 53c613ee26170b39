//! What requests are signed with, and where it comes from.
//!
//! A [`CredentialSource`] fetches; [`Credentials`] keeps what it fetched, asks
//! again well before it expires, one at a time, and goes on with the old ones
//! while they are valid.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;

use crate::clock::Clock;

mod chain;
mod fixed;

pub use chain::{Chain, Variables};
pub use fixed::{Fixed, Reread};

/// Temporary credentials are replaced this long before they expire, or in the
/// last quarter of a shorter life.
const AHEAD_MAX: Duration = Duration::from_secs(15 * 60);

/// After a refresh that failed the old credentials are used this long before
/// the next.
const REFRESH_PAUSE: Duration = Duration::from_secs(10);

/// A key with its secret, and a token where it is temporary.
#[derive(Clone)]
pub struct Credential {
    /// The id of the key.
    pub access_key_id: String,
    /// Its secret.
    pub access_key_secret: SecretString,
    /// Goes along with temporary credentials.
    pub security_token: Option<SecretString>,
    /// From when on they are refused; `None` for ever.
    pub expires_at: Option<Timestamp>,
}

/// Where credentials come from.
#[async_trait]
pub trait CredentialSource: fmt::Debug + Send + Sync + 'static {
    /// Fetches the credentials that are good now.
    ///
    /// # Errors
    /// [`CredentialsError`], which never shows a secret.
    async fn fetch(&self) -> Result<Credential, CredentialsError>;
}

/// Credentials that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no credentials: {0}")]
pub struct CredentialsError(pub String);

/// Credentials that are there when a request is to be signed.
pub struct Credentials {
    source: Box<dyn CredentialSource>,
    clock: Arc<dyn Clock>,
    /// Locked while they are fetched, so that one fetch serves all who wait.
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    credential: Arc<Credential>,
    /// When to ask again.
    refresh_at: Option<Timestamp>,
}

impl Credentials {
    /// Credentials from `source`; fetches nothing yet.
    pub fn new(source: Box<dyn CredentialSource>, clock: Arc<dyn Clock>) -> Self {
        Self {
            source,
            clock,
            kept: Mutex::new(None),
        }
    }

    /// The credentials to sign with now.
    ///
    /// # Errors
    /// [`CredentialsError`] where none could be fetched and none are kept that
    /// are still valid.
    pub async fn current(&self) -> Result<Arc<Credential>, CredentialsError> {
        let mut kept = self.kept.lock().await;
        let now = self.clock.now();
        if let Some(kept) = &*kept
            && kept.refresh_at.is_none_or(|at| now < at)
        {
            return Ok(Arc::clone(&kept.credential));
        }
        match self.source.fetch().await {
            Ok(fresh) => Ok(keep(&mut kept, fresh, now)),
            Err(error) => match &mut *kept {
                Some(old) if old.credential.expires_at.is_none_or(|at| now < at) => {
                    tracing::warn!(%error, "the credentials could not be renewed; the old ones are still valid");
                    old.refresh_at = Some(now + REFRESH_PAUSE);
                    Ok(Arc::clone(&old.credential))
                }
                _ => Err(error),
            },
        }
    }

    /// Other credentials than `refused`, where there are any by now.
    ///
    /// # Errors
    /// [`CredentialsError`] where they cannot be fetched.
    pub async fn other_than(
        &self,
        refused: &Credential,
    ) -> Result<Option<Arc<Credential>>, CredentialsError> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = &*kept
            && !kept.credential.is_same(refused)
        {
            return Ok(Some(Arc::clone(&kept.credential)));
        }
        let fresh = self.source.fetch().await?;
        let differs = !fresh.is_same(refused);
        let fresh = keep(&mut kept, fresh, self.clock.now());
        Ok(differs.then_some(fresh))
    }
}

fn keep(kept: &mut Option<Kept>, fresh: Credential, now: Timestamp) -> Arc<Credential> {
    let credential = Arc::new(fresh);
    *kept = Some(Kept {
        credential: Arc::clone(&credential),
        refresh_at: credential.expires_at.map(|at| refresh_at(now, at)),
    });
    credential
}

fn refresh_at(now: Timestamp, expires_at: Timestamp) -> Timestamp {
    let life = Duration::try_from(expires_at.duration_since(now)).unwrap_or_default();
    expires_at - AHEAD_MAX.min(life / 4)
}

impl Credential {
    fn is_same(&self, other: &Self) -> bool {
        let token = |one: &Self| {
            let token = one.security_token.as_ref();
            token.map(|token| token.expose_secret().to_owned())
        };
        self.access_key_id == other.access_key_id
            && self.access_key_secret.expose_secret() == other.access_key_secret.expose_secret()
            && token(self) == token(other)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
