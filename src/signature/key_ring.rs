//! The keys of a source, which may change while requests are judged.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use secrecy::SecretString;

use super::SchemeError;
use super::parts::check_keys;

/// A list of keys, any of which may have been used. Never without one.
pub(super) struct KeyRing(RwLock<Arc<[SecretString]>>);

impl KeyRing {
    /// # Errors
    /// [`SchemeError`] where there is no key, or an empty one.
    pub(super) fn new(keys: &[SecretString]) -> Result<Self, SchemeError> {
        check_keys(keys)?;
        Ok(Self(RwLock::new(keys.into())))
    }

    /// Takes other keys, for requests from now on.
    ///
    /// # Errors
    /// As for [`new`](Self::new); the keys stay as they are then.
    pub(super) fn replace(&self, keys: &[SecretString]) -> Result<(), SchemeError> {
        check_keys(keys)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
        Ok(())
    }

    /// The keys in force; a request is judged by one list from its beginning
    /// to its end.
    pub(super) fn keys(&self) -> Arc<[SecretString]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.keys().len())
    }
}
