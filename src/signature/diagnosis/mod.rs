//! Why a request was refused, found out by trying: other keys, other spellings
//! of the URL, other ways to write a signature.
//!
//! Each scheme tries what can go wrong with it; what is common to them is here.
//! What comes out is for people and says nothing that helps a stranger: no
//! key, no signature, no query of a URL.

use jiff::Timestamp;

use super::{Scheme, SignatureError};
use crate::request::{RequestHead, SourceName};

mod finding;
pub(super) mod headers;
pub(super) mod keys;
pub(super) mod urls;

pub use finding::Finding;
pub(super) use finding::{KeyUsed, Signed, Spelling};

/// Combinations of key, URL and timestamp that are tried for one request. All
/// of them take some hundredths of a second.
pub(super) const TRIES_MAX: usize = 40_000;

/// A request that a scheme refused.
#[derive(Debug, Clone, Copy)]
pub struct RefusedRequest<'a> {
    /// Its head.
    pub head: RequestHead<'a>,
    /// What is there of its body.
    pub body: RefusedBody<'a>,
    /// Why it was refused.
    pub error: SignatureError,
    /// The time that it was judged by.
    pub now: Timestamp,
    /// The other sources, one of which may have been meant.
    pub others: &'a [OtherSource<'a>],
}

/// The body of a refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBody<'a> {
    /// It was refused before its body was read.
    Unread,
    /// Too much to try things on: so many bytes.
    TooLarge(usize),
    /// All of it.
    Whole(&'a [u8]),
}

/// Another configured source.
#[derive(Debug, Clone, Copy)]
pub struct OtherSource<'a> {
    /// Its name.
    pub name: &'a SourceName,
    /// Its scheme.
    pub scheme: &'a dyn Scheme,
}

#[cfg(test)]
mod tests;
