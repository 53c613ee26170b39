//! HMAC-SHA256 over the raw body, for callbacks that a proxy of the user's own
//! relays and signs anew.
//!
//! Which header carries the signature, how it is written, and whether a
//! timestamp is signed along is the configuration's choice. The body is
//! covered, so a head alone can only refuse: what it announces is compared
//! once the body is there.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::parts::{check_time, from_hex, only, seconds, sent_at};
use super::{
    BodyCheck, Finding, HeadVerdict, KeyRing, RefusedRequest, Scheme, SchemeError, SchemeName,
    SignatureError, Verified,
};
use crate::request::RequestHead;

mod diagnose;

/// What a source with `scheme = "hmac_sha256"` accepts.
#[derive(Debug, Clone)]
pub struct HmacConfig {
    /// The keys, any of which may have been used; at least one.
    pub keys: Vec<SecretString>,
    /// The header that carries the signature.
    pub header: HeaderName,
    /// What stands in front of the signature in that header; often nothing.
    pub prefix: String,
    /// How the signature is written.
    pub encoding: Encoding,
    /// The header that carries the time of sending, in UNIX seconds, where it
    /// is signed along: then the signature covers time, `.` and body.
    pub timestamp_header: Option<HeaderName>,
    /// How far the timestamp may be from our clock, on both sides.
    pub tolerance: Duration,
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// 64 hexadecimal digits, of either case where they are read.
    Hex,
    /// Base64 with the standard alphabet and padding.
    Base64,
}

type Digest = [u8; 32];

impl Encoding {
    fn read(self, text: &[u8]) -> Option<Digest> {
        match self {
            Self::Hex => from_hex(text),
            Self::Base64 => STANDARD.decode(text).ok()?.try_into().ok(),
        }
    }

    fn write(self, digest: &Digest) -> String {
        match self {
            Self::Hex => digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            Self::Base64 => STANDARD.encode(digest),
        }
    }
}

/// The signature of `body` under `key`, with `timestamp` (UNIX seconds as
/// text) signed along where there is one.
pub fn sign(key: &str, timestamp: Option<&str>, body: &[u8], encoding: Encoding) -> String {
    encoding.write(&digest(key, timestamp.map(str::as_bytes), body))
}

fn digest(key: &str, timestamp: Option<&[u8]>, body: &[u8]) -> Digest {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes a key of any length");
    if let Some(timestamp) = timestamp {
        mac.update(timestamp);
        mac.update(b".");
    }
    mac.update(body);
    mac.finalize().into_bytes().into()
}

/// Judges requests by a signature over their body.
pub struct HmacScheme {
    keys: KeyRing,
    header: HeaderName,
    prefix: String,
    encoding: Encoding,
    timestamp_header: Option<HeaderName>,
    tolerance: Duration,
}

impl HmacScheme {
    /// The scheme of this configuration.
    ///
    /// # Errors
    /// [`SchemeError`] where there is no key, or an empty one.
    pub fn new(config: &HmacConfig) -> Result<Self, SchemeError> {
        Ok(Self {
            keys: KeyRing::new(&config.keys)?,
            header: config.header.clone(),
            prefix: config.prefix.clone(),
            encoding: config.encoding,
            timestamp_header: config.timestamp_header.clone(),
            tolerance: config.tolerance,
        })
    }

    fn read(&self, signature: &[u8]) -> Option<Digest> {
        let signature = signature.strip_prefix(self.prefix.as_bytes())?;
        self.encoding.read(signature)
    }
}

impl Scheme for HmacScheme {
    fn signature_header(&self) -> Option<HeaderName> {
        Some(self.header.clone())
    }

    fn check_head(
        &self,
        head: &RequestHead<'_>,
        now: Timestamp,
    ) -> Result<HeadVerdict, SignatureError> {
        let signature = only(head.headers, &self.header);
        let timestamp = self
            .timestamp_header
            .as_ref()
            .map(|name| only(head.headers, name));
        // What is missing is said before what is there too often.
        if let Some(Err(error @ SignatureError::Missing)) = timestamp {
            return Err(error);
        }
        let signature = signature?.as_bytes();
        let timestamp = timestamp.transpose()?.map(|value| value.as_bytes());
        let sent = timestamp.map(seconds);
        let skew_seconds = match sent.flatten() {
            Some(sent) => Some(check_time(sent, now, self.tolerance)?),
            None => None,
        };
        // What cannot be read matches nothing, and is told with the others that
        // do not: after the body.
        let is_readable = sent.is_none_or(|sent| sent.is_some());
        let claim = Claim {
            keys: self.keys.keys(),
            given: self.read(signature).filter(|_| is_readable),
            timestamp: timestamp.map(Into::into),
            skew_seconds,
        };
        let check = move |body: &[u8]| claim.check(body);
        Ok(HeadVerdict::NeedsBody(BodyCheck(Box::new(check))))
    }

    fn sent_at(&self, headers: &HeaderMap) -> Option<Timestamp> {
        sent_at(headers, self.timestamp_header.as_ref()?)
    }

    fn key_ring(&self) -> Option<&KeyRing> {
        Some(&self.keys)
    }

    fn diagnose(&self, refused: &RefusedRequest<'_>) -> Vec<Finding> {
        diagnose::diagnose(self, refused)
    }
}

/// What a head claims about the body that follows it.
struct Claim {
    keys: Arc<[SecretString]>,
    /// `None` where the head has no readable signature.
    given: Option<Digest>,
    timestamp: Option<Box<[u8]>>,
    skew_seconds: Option<i64>,
}

impl Claim {
    /// Compares with every key. No comparison ends early and none is left
    /// out, so that the time taken says nothing about how close a guess came,
    /// or which key is in use.
    fn check(self, body: &[u8]) -> Result<Verified, SignatureError> {
        let given = self.given.ok_or(SignatureError::Mismatch)?;
        let mut found = 0_u32;
        for (position, key) in (1..).zip(self.keys.iter()) {
            let digest = digest(key.expose_secret(), self.timestamp.as_deref(), body);
            let first = digest.ct_eq(&given) & found.ct_eq(&0);
            found.conditional_assign(&position, first);
        }
        if found == 0 {
            return Err(SignatureError::Mismatch);
        }
        Ok(Verified {
            scheme: SchemeName::HmacSha256,
            key: Some(found),
            url: None,
            public_origin: false,
            skew_seconds: self.skew_seconds,
            signature: None,
        })
    }
}

impl fmt::Debug for HmacScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HmacScheme")
            .field("keys", &self.keys)
            .field("header", &self.header)
            .field("prefix", &self.prefix)
            .field("encoding", &self.encoding)
            .field("timestamp_header", &self.timestamp_header)
            .field("tolerance", &self.tolerance)
            .finish()
    }
}

#[cfg(test)]
mod tests;
