//! The keys of a source, which may change while requests are judged.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::SchemeError;
use super::parts::check_keys;

/// How long a key that was taken out of force is remembered, so that what is
/// still signed with it can be told.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// At most so many of them.
const REMEMBERED_MAX: usize = 16;

/// A list of keys, any of which may have been used. Never without one.
pub struct KeyRing {
    in_force: RwLock<Arc<[SecretString]>>,
    /// Nothing is let in by these.
    retired: Mutex<Vec<RetiredKey>>,
}

/// A key that is not in force any more.
#[derive(Clone)]
pub(super) struct RetiredKey {
    pub(super) key: SecretString,
    pub(super) since: Timestamp,
}

impl KeyRing {
    /// # Errors
    /// [`SchemeError`] where there is no key, or an empty one.
    pub(super) fn new(keys: &[SecretString]) -> Result<Self, SchemeError> {
        check_keys(keys)?;
        Ok(Self {
            in_force: RwLock::new(keys.into()),
            retired: Mutex::default(),
        })
    }

    /// Takes other keys, for requests from `now` on.
    ///
    /// # Errors
    /// [`SchemeError`] where there is no key, or an empty one; the keys stay
    /// as they are then.
    pub fn replace(&self, keys: &[SecretString], now: Timestamp) -> Result<(), SchemeError> {
        check_keys(keys)?;
        let former = {
            let mut in_force = self
                .in_force
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *in_force, keys.into())
        };
        let is_in_force = |key: &SecretString| keys.iter().any(|other| equal(key, other));
        let mut retired = self.lock_retired();
        retired.retain(|one| !is_in_force(&one.key));
        let gone = former.iter().filter(|key| !is_in_force(key));
        retired.extend(gone.map(|key| RetiredKey {
            key: key.clone(),
            since: now,
        }));
        let surplus = retired.len().saturating_sub(REMEMBERED_MAX);
        retired.drain(..surplus);
        Ok(())
    }

    /// Forgets keys that went out of force long before `now`.
    pub fn forget_retired(&self, now: Timestamp) {
        self.lock_retired()
            .retain(|one| now.duration_since(one.since).unsigned_abs() < REMEMBERED);
    }

    /// The keys in force; a request is judged by one list from its beginning
    /// to its end.
    pub(super) fn keys(&self) -> Arc<[SecretString]> {
        let in_force = self.in_force.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&in_force)
    }

    /// Those that went out of force within a day before `now`.
    pub(super) fn retired(&self, now: Timestamp) -> Vec<RetiredKey> {
        self.forget_retired(now);
        self.lock_retired().clone()
    }

    fn lock_retired(&self) -> MutexGuard<'_, Vec<RetiredKey>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn equal(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.keys().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn list(keys: &[&str]) -> Vec<SecretString> {
        keys.iter().map(|key| SecretString::from(*key)).collect()
    }

    fn retired(ring: &KeyRing, now: i64) -> Vec<(String, i64)> {
        let text = |one: RetiredKey| (one.key.expose_secret().to_owned(), one.since.as_second());
        ring.retired(at(now)).into_iter().map(text).collect()
    }

    #[test]
    fn keys_out_of_force_are_remembered_for_a_day() {
        let ring = KeyRing::new(&list(&["old", "older"])).unwrap();
        ring.replace(&list(&["new", "old"]), at(100)).unwrap();
        assert_eq!(retired(&ring, 100), [("older".to_owned(), 100)]);
        ring.replace(&list(&["new", "older"]), at(200)).unwrap();
        assert_eq!(retired(&ring, 200), [("old".to_owned(), 200)]);
        assert_eq!(retired(&ring, 200 + 86_399).len(), 1);
        assert_eq!(retired(&ring, 200 + 86_400), []);
        assert!(ring.replace(&[], at(300)).is_err());
    }

    #[test]
    fn their_number_is_bounded() {
        let ring = KeyRing::new(&list(&["0"])).unwrap();
        for number in 1..=20 {
            let key = number.to_string();
            ring.replace(&list(&[&key]), at(number)).unwrap();
        }
        let kept = retired(&ring, 20);
        assert_eq!(kept.len(), REMEMBERED_MAX);
        assert_eq!(kept[0].0, "4", "the oldest go");
    }
}
