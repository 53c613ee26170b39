//! The scheme of IMS itself: MD5 over callback URL, timestamp and key, in the
//! headers `X-ICE-SIGNATURE` and `X-ICE-TIMESTAMP`.
//!
//! The body is not covered, so a request is judged by its head alone. This is
//! the hot path: everything that does not depend on the request is hashed when
//! the service starts, and judging one allocates nothing.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use md5::{Digest, Md5};
use secrecy::{ExposeSecret, SecretString};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::parts::{check_time, from_hex, only, seconds, sent_at};
use super::{
    Finding, HeadVerdict, KeyRing, RefusedRequest, Scheme, SchemeError, SchemeName, SignatureError,
    SignatureUse, Verified,
};
use crate::request::RequestHead;

mod diagnose;

/// The header that carries the time of sending: UNIX seconds, as text.
pub const TIMESTAMP_HEADER: HeaderName = HeaderName::from_static("x-ice-timestamp");

/// The header that carries the signature: 32 hexadecimal digits.
pub const SIGNATURE_HEADER: HeaderName = HeaderName::from_static("x-ice-signature");

/// The longest key that the IMS console takes, in characters.
pub const KEY_CHARS_MAX: usize = 32;

/// What a source with `scheme = "ims"` accepts.
#[derive(Debug, Clone)]
pub struct ImsConfig {
    /// The keys, any of which may have been used; at least one.
    pub keys: Vec<SecretString>,
    /// The callback URLs as configured at IMS, any of which may have been signed.
    pub callback_urls: Vec<String>,
    /// An origin (`https://host[:port]`) which, followed by the request's own
    /// path and query, is accepted as a signed URL too.
    pub public_origin: Option<String>,
    /// How far the timestamp may be from our clock, on both sides.
    pub tolerance: Duration,
    /// What happens to another body under a signature that was used before.
    pub reuse: ReusePolicy,
}

/// What happens to a new body under a signature that was first used longer ago
/// than the sender's own tries take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReusePolicy {
    /// It is stored, with a note, and counted.
    #[default]
    Note,
    /// It is refused.
    Refuse,
}

/// The signature IMS sends for `url` at `timestamp` (UNIX seconds as text)
/// under `key`: 32 lower-case hexadecimal digits.
pub fn sign(url: &str, timestamp: &str, key: &str) -> String {
    let digest = begin(url)
        .chain_update(timestamp)
        .chain_update("|")
        .chain_update(key)
        .finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Judges requests by their `X-ICE-*` headers.
pub struct ImsScheme {
    /// The hash after `url|`, one per callback URL, in configured order.
    urls: Vec<Md5>,
    /// The hash after the public origin, to be followed by the request's target.
    public_origin: Option<Md5>,
    keys: KeyRing,
    tolerance: Duration,
    reuse: ReusePolicy,
    /// Tells signatures apart without keeping them.
    pairs: RandomState,
    /// The URLs and the origin as they were written, for the diagnosis.
    written: Written,
}

struct Written {
    callback_urls: Vec<String>,
    public_origin: Option<String>,
}

impl ImsScheme {
    /// Prepares the hashes of everything that is known before a request.
    ///
    /// # Errors
    /// [`SchemeError`] where nothing could ever match, or where a key is empty:
    /// everybody can sign with an empty key, so it must not come to be used.
    pub fn new(config: &ImsConfig) -> Result<Self, SchemeError> {
        let keys = KeyRing::new(&config.keys)?;
        if config.callback_urls.is_empty() && config.public_origin.is_none() {
            return Err(SchemeError::NoUrl);
        }
        let origin = config.public_origin.as_deref();
        Ok(Self {
            urls: config.callback_urls.iter().map(|url| begin(url)).collect(),
            public_origin: origin
                .map(|origin| Md5::new().chain_update(origin.trim_end_matches('/'))),
            keys,
            tolerance: config.tolerance,
            reuse: config.reuse,
            pairs: RandomState::new(),
            written: Written {
                callback_urls: config.callback_urls.clone(),
                public_origin: origin.map(|origin| origin.trim_end_matches('/').to_owned()),
            },
        })
    }

    /// Compares `given` with every combination of URL and key. No comparison
    /// ends early and none is left out, so that the time taken says nothing
    /// about how close a guess came, or which key is in use.
    fn find(&self, given: &[u8; 16], timestamp: &[u8], target: &str) -> Match {
        let mut found = Match::default();
        let keys = self.keys.keys();
        let own = self
            .public_origin
            .as_ref()
            .map(|origin| origin.clone().chain_update(target).chain_update("|"));
        let urls = (1..)
            .zip(&self.urls)
            .chain(own.as_ref().map(|own| (0, own)));
        for (url, prefix) in urls {
            let prefix = prefix.clone().chain_update(timestamp).chain_update("|");
            for (key, secret) in (1..).zip(keys.iter()) {
                let digest = prefix
                    .clone()
                    .chain_update(secret.expose_secret())
                    .finalize();
                let equal = digest.as_slice().ct_eq(given);
                let first = equal & found.key.ct_eq(&0);
                found.key.conditional_assign(&key, first);
                found.url.conditional_assign(&url, first);
            }
        }
        found
    }
}

impl Scheme for ImsScheme {
    fn signature_header(&self) -> Option<HeaderName> {
        Some(SIGNATURE_HEADER)
    }

    fn check_head(
        &self,
        head: &RequestHead<'_>,
        now: Timestamp,
    ) -> Result<HeadVerdict, SignatureError> {
        let signature = only(head.headers, &SIGNATURE_HEADER);
        let timestamp = only(head.headers, &TIMESTAMP_HEADER);
        // What is missing is said before what is there too often.
        if let Err(error @ SignatureError::Missing) = timestamp {
            return Err(error);
        }
        let (signature, timestamp) = (signature?.as_bytes(), timestamp?.as_bytes());
        let given = from_hex(signature).ok_or(SignatureError::Mismatch)?;
        let sent = seconds(timestamp).ok_or(SignatureError::Mismatch)?;
        let target = head
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());

        let found = self.find(&given, timestamp, target);
        if found.key == 0 {
            return Err(SignatureError::Mismatch);
        }
        let skew_seconds = check_time(sent, now, self.tolerance)?;
        Ok(HeadVerdict::Authentic(Verified {
            scheme: SchemeName::Ims,
            key: Some(found.key),
            url: (found.url != 0).then_some(found.url),
            public_origin: found.url == 0,
            skew_seconds: Some(skew_seconds),
            signature: Some(SignatureUse {
                // The timestamp is signed, so the digest alone tells the pair.
                id: self.pairs.hash_one(given),
                reuse: self.reuse,
            }),
        }))
    }

    fn sent_at(&self, headers: &HeaderMap) -> Option<Timestamp> {
        sent_at(headers, &TIMESTAMP_HEADER)
    }

    fn key_ring(&self) -> Option<&KeyRing> {
        Some(&self.keys)
    }

    fn urls(&self) -> &[String] {
        &self.written.callback_urls
    }

    fn diagnose(&self, refused: &RefusedRequest<'_>) -> Vec<Finding> {
        diagnose::diagnose(self, refused)
    }
}

impl fmt::Debug for ImsScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImsScheme")
            .field("keys", &self.keys)
            .field("urls", &self.urls.len())
            .field("public_origin", &self.public_origin.is_some())
            .field("tolerance", &self.tolerance)
            .finish()
    }
}

/// Which combination matched. `key` 0: none did. `url` 0: the public origin.
#[derive(Default)]
struct Match {
    key: u32,
    url: u32,
}

/// The hash after `url|`.
fn begin(url: &str) -> Md5 {
    Md5::new().chain_update(url).chain_update("|")
}

#[cfg(test)]
mod tests;
