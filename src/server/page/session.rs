//! Who is signed in, and which forms are ours.
//!
//! A session is a random name in a cookie, and is kept in memory: whoever
//! restarts the service signs in again. A form carries a token that follows
//! from the session and from a secret of this process, so that no other site
//! can write one. On a listener without a token there is no session: the
//! token of its forms follows from the secret alone, and only a page of the
//! same origin can read it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use hmac::{Hmac, KeyInit, Mac};
use rand::RngCore;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The name of the cookie.
pub(in crate::server) const COOKIE_NAME: &str = "ims_receiver_session";

/// How long a session lasts.
const LIFETIME: Duration = Duration::from_hours(12);

/// Sessions at the same time; the oldest ends where one more begins.
const SESSIONS_MAX: usize = 256;

/// The name of a session: 256 random bits, in hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::server) struct SessionId(String);

/// All sessions of this process.
pub(in crate::server) struct Sessions {
    secret: [u8; 32],
    /// By the hash of their name: what is in memory opens nothing.
    live: Mutex<HashMap<[u8; 32], Instant>>,
}

impl Sessions {
    pub(in crate::server) fn new() -> Self {
        Self {
            secret: random(),
            live: Mutex::default(),
        }
    }

    /// Begins a session at `now`.
    pub(in crate::server) fn begin(&self, now: Instant) -> SessionId {
        let id = SessionId(hex(&random()));
        let mut live = self.live();
        live.retain(|_, end| *end > now);
        if live.len() >= SESSIONS_MAX
            && let Some(oldest) = live
                .iter()
                .min_by_key(|(_, end)| **end)
                .map(|(key, _)| *key)
        {
            live.remove(&oldest);
        }
        live.insert(id.key(), now + LIFETIME);
        id
    }

    /// The session that a request belongs to, where it is one of ours.
    pub(in crate::server) fn of(&self, headers: &HeaderMap, now: Instant) -> Option<SessionId> {
        let mut named = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|field| field.to_str().ok())
            .flat_map(|field| field.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| *name == COOKIE_NAME);
        let id = SessionId(named.next()?.1.to_owned());
        let live = self.live();
        // Looked up by its hash, which takes the same time whatever is sent.
        live.get(&id.key()).filter(|end| **end > now)?;
        Some(id)
    }

    /// Ends a session.
    pub(in crate::server) fn end(&self, id: &SessionId) {
        self.live().remove(&id.key());
    }

    /// What the forms of a session carry; of nobody's, where there is none.
    pub(in crate::server) fn form_token(&self, session: Option<&SessionId>) -> String {
        // A key of 32 bytes is taken by HMAC, as any is.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.secret) else {
            return hex(&random());
        };
        mac.update(b"form ");
        mac.update(session.map_or(&b""[..], |id| id.0.as_bytes()));
        hex(&mac.finalize().into_bytes())
    }

    /// Whether a form of this session carried `token`.
    pub(in crate::server) fn is_form_token(
        &self,
        session: Option<&SessionId>,
        token: &str,
    ) -> bool {
        let expected = self.form_token(session);
        bool::from(expected.as_bytes().ct_eq(token.as_bytes()))
    }

    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Instant>> {
        // A panic cannot leave the map half changed.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions")
            .field("live", &self.live().len())
            .finish()
    }
}

impl SessionId {
    fn key(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// The field that gives the cookie to a browser.
    pub(in crate::server) fn cookie(&self, secure: bool) -> String {
        format!(
            "{COOKIE_NAME}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{}",
            self.0,
            LIFETIME.as_secs(),
            if secure { "; Secure" } else { "" }
        )
    }

    /// The field that takes it away.
    pub(in crate::server) fn no_cookie() -> String {
        format!("{COOKIE_NAME}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
    }
}

impl std::fmt::Debug for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionId")
    }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(id: &SessionId) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let field = format!("other=1; {COOKIE_NAME}={}", id.0);
        headers.insert(COOKIE, field.parse().unwrap());
        headers
    }

    #[test]
    fn a_session_ends_by_time_by_will_and_for_room() {
        let sessions = Sessions::new();
        let now = Instant::now();
        let first = sessions.begin(now);
        assert_eq!(sessions.of(&with(&first), now), Some(first.clone()));
        assert_eq!(sessions.of(&HeaderMap::new(), now), None);
        assert_eq!(sessions.of(&with(&SessionId("0".repeat(64))), now), None);
        assert_eq!(sessions.of(&with(&first), now + LIFETIME), None);
        let others: Vec<_> = (1..=SESSIONS_MAX as u64)
            .map(|ms| sessions.begin(now + Duration::from_millis(ms)))
            .collect();
        let later = now + Duration::from_secs(1);
        assert_eq!(
            sessions.of(&with(&first), later),
            None,
            "the oldest made room"
        );
        assert!(sessions.of(&with(&others[0]), later).is_some());
        sessions.end(&others[0]);
        assert_eq!(sessions.of(&with(&others[0]), later), None);
    }

    #[test]
    fn a_form_belongs_to_its_session() {
        let sessions = Sessions::new();
        let now = Instant::now();
        let (one, other) = (sessions.begin(now), sessions.begin(now));
        let token = sessions.form_token(Some(&one));
        assert!(sessions.is_form_token(Some(&one), &token));
        assert!(!sessions.is_form_token(Some(&other), &token));
        assert!(!sessions.is_form_token(None, &token));
        assert!(!sessions.is_form_token(Some(&one), ""));
        assert!(!Sessions::new().is_form_token(None, &sessions.form_token(None)));
    }

    #[test]
    fn the_cookie_stays_where_it_is_safe() {
        let id = Sessions::new().begin(Instant::now());
        let cookie = id.cookie(true);
        for part in [
            "HttpOnly",
            "SameSite=Strict",
            "Path=/",
            "Max-Age=43200",
            "Secure",
        ] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert!(!id.cookie(false).contains("Secure"));
        assert_eq!(id.0.len(), 64);
        assert!(!format!("{id:?}").contains(&id.0));
    }
}
