//! What requests are signed with, and where it comes from.
//!
//! A [`CredentialSource`] fetches; [`Credentials`] keeps what it fetched, asks
//! again well before it expires, one at a time and beside the requests, and
//! goes on with the old ones while they are valid.

use std::fmt;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::throttle::Throttle;

mod chain;
mod fixed;
mod profiles;

pub use chain::{Chain, Variables};
pub use fixed::{Fixed, Reread};

/// Temporary credentials are replaced this long before they expire, or in the
/// last quarter of a shorter life.
const AHEAD_MAX: Duration = Duration::from_secs(15 * 60);

/// After a refresh that failed the old credentials are used this long before
/// the next.
const REFRESH_PAUSE: Duration = Duration::from_secs(10);

/// A renewal that fails is told once in this span.
const TOLD_SPAN: Duration = Duration::from_secs(60);

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
    state: StdMutex<State>,
    /// Held while they are fetched, so that one fetch serves all who wait.
    fetching: Arc<Mutex<()>>,
    told: Throttle,
}

#[derive(Default)]
struct State {
    kept: Option<Kept>,
    /// How often they were fetched, and what the last fetch failed with.
    fetches: u64,
    failed: Option<CredentialsError>,
}

struct Kept {
    credential: Arc<Credential>,
    /// From when on they are not used any more.
    valid_until: Option<Timestamp>,
    /// When to ask again.
    refresh_at: Option<Timestamp>,
    /// When they were fetched again after a refusal and were the same.
    same_at: Option<Timestamp>,
}

impl Credentials {
    /// Credentials from `source`; fetches nothing yet.
    pub fn new(source: Box<dyn CredentialSource>, clock: Arc<dyn Clock>) -> Self {
        Self {
            source,
            clock,
            state: StdMutex::default(),
            fetching: Arc::default(),
            told: Throttle::new(1, TOLD_SPAN),
        }
    }

    /// The credentials to sign with now. Those that are soon to expire are
    /// renewed beside the request, which does not wait for it.
    ///
    /// # Errors
    /// [`CredentialsError`] where none could be fetched and none are kept that
    /// are still valid.
    pub async fn current(self: &Arc<Self>) -> Result<Arc<Credential>, CredentialsError> {
        let fetches = match self.valid() {
            Ok(valid) => return Ok(valid),
            Err(fetches) => fetches,
        };
        let _one = self.fetching.lock().await;
        if let Ok(valid) = self.valid() {
            return Ok(valid);
        }
        if let Some(error) = self.failed_since(fetches) {
            return Err(error);
        }
        self.fetch().await
    }

    /// Other credentials than `refused`, where there are any by now.
    ///
    /// # Errors
    /// [`CredentialsError`] where they cannot be fetched.
    pub async fn other_than(
        &self,
        refused: &Credential,
    ) -> Result<Option<Arc<Credential>>, CredentialsError> {
        let fetches = self.state().fetches;
        let _one = self.fetching.lock().await;
        let now = self.clock.now();
        if let Some(kept) = &self.state().kept {
            if !kept.credential.is_same(refused) {
                return Ok(Some(Arc::clone(&kept.credential)));
            }
            // Many requests may be refused at once, and asked again at once.
            if kept.same_at.is_some_and(|at| now < at + REFRESH_PAUSE) {
                return Ok(None);
            }
        }
        if let Some(error) = self.failed_since(fetches) {
            return Err(error);
        }
        let fresh = self.fetch().await?;
        if !fresh.is_same(refused) {
            return Ok(Some(fresh));
        }
        if let Some(kept) = &mut self.state().kept {
            kept.same_at = Some(self.clock.now());
        }
        Ok(None)
    }

    /// What is kept and valid; how often they were fetched where nothing is.
    fn valid(self: &Arc<Self>) -> Result<Arc<Credential>, u64> {
        let state = self.state();
        let now = self.clock.now();
        let valid = |kept: &&Kept| kept.valid_until.is_none_or(|at| now < at);
        let kept = state.kept.as_ref().filter(valid).ok_or(state.fetches)?;
        if kept.refresh_at.is_some_and(|at| now >= at)
            && let Ok(one) = Arc::clone(&self.fetching).try_lock_owned()
        {
            let credentials = Arc::clone(self);
            tokio::spawn(async move {
                let _one = one;
                credentials.renew().await;
            });
        }
        Ok(Arc::clone(&kept.credential))
    }

    /// The error of a fetch that ended while this caller waited for its turn.
    fn failed_since(&self, fetches: u64) -> Option<CredentialsError> {
        let state = self.state();
        state.failed.clone().filter(|_| state.fetches != fetches)
    }

    async fn renew(&self) {
        let Err(error) = self.fetch().await else {
            return;
        };
        if let Some(suppressed) = self.told.admit(Instant::now()) {
            tracing::warn!(%error, suppressed, "the credentials could not be renewed; the old ones are still valid");
        }
        if let Some(kept) = &mut self.state().kept {
            kept.refresh_at = Some(self.clock.now() + REFRESH_PAUSE);
        }
    }

    /// Fetches; to be called by whoever holds `fetching`.
    async fn fetch(&self) -> Result<Arc<Credential>, CredentialsError> {
        let fetched = self.source.fetch().await;
        let now = self.clock.now();
        let mut state = self.state();
        state.fetches += 1;
        state.failed = fetched.as_ref().err().cloned();
        let credential = Arc::new(fetched?);
        state.kept = Some(Kept::new(Arc::clone(&credential), now));
        Ok(credential)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn new(credential: Arc<Credential>, now: Timestamp) -> Self {
        let (valid_until, refresh_at) = match credential.expires_at {
            None => (None, None),
            // Expired when they came: a clock of ours that is far ahead. To
            // ask for each request would not make it right.
            Some(at) if at <= now => (Some(now + REFRESH_PAUSE), None),
            Some(at) => (Some(at), Some(refresh_at(now, at))),
        };
        Self {
            credential,
            valid_until,
            refresh_at,
            same_at: None,
        }
    }
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
