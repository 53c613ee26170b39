//! Who sent it: the signature schemes, and the only door to a [`VerifiedRequest`].
//!
//! One file per scheme. A scheme is pure: it sees a request's head, perhaps
//! its body, and the time. What it lets through is a [`Verified`], which
//! nothing outside this module can make, and a [`VerifiedRequest`] wants one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::request::{KeptHead, RequestHead, SourceName};

mod diagnosis;
pub mod hmac_sha256;
pub mod ims;
mod key_ring;
pub mod mns;
pub mod none;
mod parts;

pub use diagnosis::{Finding, OtherSource, RefusedBody, RefusedRequest};
pub use ims::ReusePolicy;
pub use key_ring::KeyRing;

/// How a source's sender proves who it is.
pub trait Scheme: fmt::Debug + Send + Sync + 'static {
    /// Judges a request by its head, at the time `now`.
    ///
    /// # Errors
    /// The reason of the refusal; it is the same whatever the body will be.
    fn check_head(
        &self,
        head: &RequestHead<'_>,
        now: Timestamp,
    ) -> Result<HeadVerdict, SignatureError>;

    /// The header that carries the signature; `None` where there is none.
    fn signature_header(&self) -> Option<HeaderName> {
        None
    }

    /// The time a request says it was sent at; `None` unless it says so exactly
    /// once, in digits. Nothing about it is proved.
    fn sent_at(&self, _headers: &HeaderMap) -> Option<Timestamp> {
        None
    }

    /// Its keys; `None` where the scheme has none.
    fn key_ring(&self) -> Option<&KeyRing> {
        None
    }

    /// The URLs that its sender may have signed, as they were written.
    fn urls(&self) -> &[String] {
        &[]
    }

    /// What may be wrong with a request that this scheme refused, found out by
    /// trying. Costs thousands of times what judging costs, so it is nothing
    /// for the answering path; what comes out names no key and no signature.
    fn diagnose(&self, _refused: &RefusedRequest<'_>) -> Vec<Finding> {
        Vec::new()
    }
}

/// What a head alone can tell.
#[derive(Debug)]
pub enum HeadVerdict {
    /// The head proves the sender; the body is not covered by the signature.
    Authentic(Verified),
    /// The scheme signs the body, which has to be read first.
    NeedsBody(BodyCheck),
}

/// The second half of a check, for schemes that sign the body.
pub struct BodyCheck(BodyCheckFn);

type BodyCheckFn = Box<dyn FnOnce(&[u8]) -> Result<Verified, SignatureError> + Send>;

impl BodyCheck {
    /// Judges the whole body.
    ///
    /// # Errors
    /// The reason of the refusal.
    pub fn check(self, body: &[u8]) -> Result<Verified, SignatureError> {
        (self.0)(body)
    }
}

impl fmt::Debug for BodyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyCheck")
    }
}

/// What was proved about a request, kept with its event.
///
/// Only a scheme of this module makes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    scheme: SchemeName,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    key: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    url: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    public_origin: bool,
    /// Our clock minus the sender's, in seconds. Not kept with the event.
    #[serde(skip)]
    skew_seconds: Option<i64>,
    /// Which signature it was, where that does not cover the body. Not kept
    /// with the event.
    #[serde(skip)]
    signature: Option<SignatureUse>,
}

/// A signature that does not cover the body, so that it fits any body as long
/// as its timestamp is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignatureUse {
    /// Tells it from others in this process; tells nothing about it.
    pub id: u64,
    /// What its second use means.
    pub reuse: ReusePolicy,
}

impl Verified {
    /// The scheme that was used.
    pub fn scheme(&self) -> SchemeName {
        self.scheme
    }

    /// Position of the key that matched in the list of keys, counted from 1.
    pub fn key(&self) -> Option<u32> {
        self.key
    }

    /// Position of the callback URL that matched, counted from 1; `None` where
    /// it was the source's `public_origin` and the request's own path.
    pub fn url(&self) -> Option<u32> {
        self.url
    }

    /// Our clock minus the sender's, in seconds, where the scheme has a timestamp.
    pub fn skew_seconds(&self) -> Option<i64> {
        self.skew_seconds
    }

    /// Which signature it was, where the scheme does not sign the body.
    pub fn signature(&self) -> Option<SignatureUse> {
        self.signature
    }
}

/// The name of a scheme, as the configuration and the stored event spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemeName {
    /// MD5 over URL, timestamp and key, in `X-ICE-*` headers.
    Ims,
    /// It came out of a queue, which lets in nobody else.
    Mns,
    /// HMAC-SHA256 over the body, in a header of the configuration's choice.
    HmacSha256,
    /// Everybody is let in.
    None,
}

/// Why a request was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SignatureError {
    /// No signature or no timestamp.
    #[error("the signature or the timestamp is missing")]
    Missing,
    /// The signature or the timestamp came more than once.
    #[error("a signature header came more than once")]
    RepeatedHeader,
    /// No key gives this signature.
    #[error("the signature does not match")]
    Mismatch,
    /// Older than the tolerance. The signature is right, where it does not
    /// cover the body; else it has not been looked at.
    #[error("the timestamp is {skew_seconds} s behind our clock")]
    Stale {
        /// Our clock minus the sender's.
        skew_seconds: i64,
    },
    /// Further ahead than the tolerance; about the signature the same holds.
    #[error("the timestamp is {} s ahead of our clock", -skew_seconds)]
    Future {
        /// Our clock minus the sender's; negative here.
        skew_seconds: i64,
    },
}

impl SignatureError {
    /// The reason as logs and metrics spell it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::RepeatedHeader => "repeated_header",
            Self::Mismatch => "mismatch",
            Self::Stale { .. } => "stale",
            Self::Future { .. } => "future",
        }
    }

    /// Our clock minus the sender's, in seconds, where it is the clock.
    pub fn skew_seconds(self) -> Option<i64> {
        match self {
            Self::Stale { skew_seconds } | Self::Future { skew_seconds } => Some(skew_seconds),
            _ => None,
        }
    }
}

/// A request whose sender has been proved. The only thing that
/// [`event::parse`](crate::event::parse) takes.
#[derive(Debug)]
pub struct VerifiedRequest {
    source: SourceName,
    verified: Verified,
    head: KeptHead,
    body: Bytes,
}

impl VerifiedRequest {
    /// Joins what was proved with what arrived. The proof cannot be made
    /// outside this module.
    pub fn new(source: SourceName, verified: Verified, head: KeptHead, body: Bytes) -> Self {
        Self {
            source,
            verified,
            head,
            body,
        }
    }

    /// The raw body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Takes the request apart.
    pub fn into_parts(self) -> (SourceName, Verified, KeptHead, Bytes) {
        (self.source, self.verified, self.head, self.body)
    }
}

/// The configuration of one scheme.
#[derive(Debug, Clone)]
pub enum SchemeConfig {
    /// `scheme = "ims"`.
    Ims(ims::ImsConfig),
    /// `scheme = "hmac_sha256"`.
    HmacSha256(hmac_sha256::HmacConfig),
    /// `scheme = "none"`.
    None,
}

impl SchemeConfig {
    /// Makes the scheme.
    ///
    /// # Errors
    /// [`SchemeError`] where the configuration could let in everybody or nobody.
    pub fn build(&self) -> Result<Arc<dyn Scheme>, SchemeError> {
        Ok(match self {
            Self::Ims(config) => Arc::new(ims::ImsScheme::new(config)?),
            Self::HmacSha256(config) => Arc::new(hmac_sha256::HmacScheme::new(config)?),
            Self::None => Arc::new(none::NoSignature),
        })
    }

    /// The keys, any of which may have been used; none where the scheme has none.
    pub fn keys(&self) -> &[SecretString] {
        match self {
            Self::Ims(config) => &config.keys,
            Self::HmacSha256(config) => &config.keys,
            Self::None => &[],
        }
    }

    /// How far a timestamp may be from our clock, where the scheme has one.
    pub fn tolerance(&self) -> Option<Duration> {
        match self {
            Self::Ims(config) => Some(config.tolerance),
            Self::HmacSha256(config) => Some(config.tolerance),
            Self::None => None,
        }
    }
}

/// Why a scheme cannot be used as it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SchemeError {
    /// Nobody could be let in.
    #[error("there is no key")]
    NoKey,
    /// Everybody could sign.
    #[error("key number {position} is empty")]
    EmptyKey {
        /// Its position in the list, counted from 1.
        position: usize,
    },
    /// Nobody could be let in.
    #[error("there is neither a callback URL nor a public origin")]
    NoUrl,
}
