//! Who is signed in, and which forms are ours.
//!
//! A session is a random name in a cookie, and is kept in memory: whoever
//! restarts the service signs in again. A form carries a token that follows
//! from the session and from a secret of this process, so that no other site
//! can write one. On a listener without a token there is no session: the
//! token of its forms follows from the secret alone, and only a page of the
//! same origin can read it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body as AxumBody;
use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use hyper::body::{Body, Frame, SizeHint};
use rand::RngCore;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

/// The name of the cookie.
pub(in crate::server) const COOKIE_NAME: &str = "ims_receiver_session";

/// How long a session lasts.
const LIFETIME: Duration = Duration::from_hours(12);

/// Sessions at the same time; the oldest ends where one more begins.
const SESSIONS_MAX: usize = 256;

/// Cookies of our name that are tried at the most. A page on another port of
/// this host shares our cookies, and may have put some of its own beside ours.
const COOKIES_MAX: usize = 64;

/// Digits of a session's name.
const NAME_DIGITS: usize = 64;

/// The name of a session: 256 random bits, in hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::server) struct SessionId(String);

/// All sessions of this process.
pub(in crate::server) struct Sessions {
    secret: [u8; 32],
    /// By the hash of their name: what is in memory opens nothing.
    live: Mutex<HashMap<[u8; 32], Live>>,
}

/// A session that goes on.
struct Live {
    end: Instant,
    /// Dropped with the session, which is how its answers learn that it ended.
    goes_on: watch::Sender<()>,
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
        live.retain(|_, session| session.end > now);
        if live.len() >= SESSIONS_MAX
            && let Some(oldest) = live
                .iter()
                .min_by_key(|(_, session)| session.end)
                .map(|(key, _)| *key)
        {
            live.remove(&oldest);
        }
        let session = Live {
            end: now + LIFETIME,
            goes_on: watch::Sender::default(),
        };
        live.insert(id.key(), session);
        id
    }

    /// The session that a request belongs to, where it is one of ours.
    pub(in crate::server) fn of(&self, headers: &HeaderMap, now: Instant) -> Option<SessionId> {
        let named = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|field| field.to_str().ok())
            .flat_map(|field| field.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, value)| *name == COOKIE_NAME && value.len() == NAME_DIGITS);
        let mut tried = named
            .take(COOKIES_MAX)
            .map(|(_, value)| SessionId(value.to_owned()));
        let live = self.live();
        // Looked up by its hash, which takes the same time whatever is sent.
        tried.find(|id| (live.get(&id.key())).is_some_and(|session| session.end > now))
    }

    /// `body`, cut off when the session ends: by its reader, by time or for
    /// room.
    pub(in crate::server) fn bound(&self, id: &SessionId, body: AxumBody) -> AxumBody {
        let bounds = self.live().get(&id.key()).map(|session| {
            let end = tokio::time::Instant::from_std(session.end);
            (session.goes_on.subscribe(), end)
        });
        let over = async move {
            if let Some((mut goes_on, end)) = bounds {
                // Nothing is ever sent: it fails when the session is gone.
                let gone = goes_on.changed();
                let _ = tokio::time::timeout_at(end, gone).await;
            }
        };
        AxumBody::new(Bound {
            body,
            over: Box::pin(over),
        })
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

    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Live>> {
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

/// An answer that ends with its session.
struct Bound {
    body: AxumBody,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Why an answer has no end: its session was over before it.
#[derive(Debug, thiserror::Error)]
#[error("the session is over")]
struct Over;

impl Body for Bound {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.over.as_mut().poll(cx).is_ready() {
            // A failure and no end, so that nobody takes half an export for all
            // of it. It is not asked again after this.
            return Poll::Ready(Some(Err(axum::Error::new(Over))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
    fn planted_cookies_lock_nobody_out() {
        let sessions = Sessions::new();
        let now = Instant::now();
        let ours = sessions.begin(now);
        let planted: String = (0..COOKIES_MAX - 1)
            .map(|number| format!("{COOKIE_NAME}={number:064}; {COOKIE_NAME}=short; "))
            .collect();
        let mut headers = HeaderMap::new();
        let field = format!("{planted}{COOKIE_NAME}={}", ours.0);
        headers.insert(COOKIE, field.parse().unwrap());
        assert_eq!(sessions.of(&headers, now), Some(ours.clone()));
        // As HTTP/2 may send them.
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, format!("{COOKIE_NAME}={:064}", 0).parse().unwrap());
        headers.append(COOKIE, format!("{COOKIE_NAME}={}", ours.0).parse().unwrap());
        assert_eq!(sessions.of(&headers, now), Some(ours));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_with_its_session() {
        use http_body_util::BodyExt;

        let sessions = Sessions::new();
        let now = tokio::time::Instant::now().into_std();
        let (leaves, stays) = (sessions.begin(now), sessions.begin(now));
        let endless = || {
            let frames = futures_util::stream::pending::<Result<Bytes, axum::Error>>();
            AxumBody::from_stream(frames)
        };
        let mut left = sessions.bound(&leaves, endless());
        let mut stayed = sessions.bound(&stays, endless());
        let whole = sessions.bound(&stays, AxumBody::from("whole"));
        assert_eq!(whole.collect().await.unwrap().to_bytes(), "whole");
        let mut late = sessions.bound(&SessionId("0".repeat(NAME_DIGITS)), endless());
        assert!(late.frame().await.is_some_and(|frame| frame.is_err()));
        sessions.end(&leaves);
        assert!(left.frame().await.is_some_and(|frame| frame.is_err()));
        let soon = tokio::time::timeout(LIFETIME - Duration::from_secs(1), stayed.frame());
        assert!(soon.await.is_err(), "the other one goes on");
        let ended = tokio::time::timeout(Duration::from_secs(2), stayed.frame());
        assert!(
            ended
                .await
                .is_ok_and(|frame| frame.is_some_and(|f| f.is_err()))
        );
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
