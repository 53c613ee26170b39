//! What arrives, before anybody has judged it: the names of the parties and
//! the head of a request.

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, Uri};
use serde::{Serialize, Serializer};

/// A name from the configuration that breaks the rule for names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no valid name: use lower-case letters, digits, `-` and single `_`, beginning with a letter or digit"
)]
pub struct InvalidName(pub String);

/// Checks `name` against `[a-z0-9]([a-z0-9-]|_(?!_))*`.
///
/// Two underscores in a row separate the levels of an environment variable,
/// so a name that holds them could not be addressed from there.
fn check_name(name: &str) -> Result<(), InvalidName> {
    let bytes = name.as_bytes();
    let first_fits = bytes
        .first()
        .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let rest_fits = bytes
        .iter()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
    if first_fits && rest_fits && !name.contains("__") {
        Ok(())
    } else {
        Err(InvalidName(name.to_owned()))
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a name as it stands in the configuration.
            ///
            /// # Errors
            /// [`InvalidName`] where it breaks the rule for names.
            pub fn new(name: &str) -> Result<Self, InvalidName> {
                check_name(name)?;
                Ok(Self(name.into()))
            }

            /// Takes a name that a store kept; it was checked when it was written.
            pub(crate) fn from_store(name: &str) -> Self {
                Self(name.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

name_type! {
    /// The name of a configured sender, the `NAME` of `[sources.NAME]`.
    SourceName
}

name_type! {
    /// The name of a configured handler, the `NAME` of `[handlers.NAME]`.
    HandlerName
}

/// The head of a request, as a signature scheme gets to see it.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The request's target as it came: path and query, nothing decoded.
    pub uri: &'a Uri,
    /// All header fields, repeated ones included.
    pub headers: &'a HeaderMap,
}

/// What of a request's head is kept with the event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptHead {
    /// The query, without its `?`.
    pub query: Option<String>,
    /// Selected header fields, names in lower case; never a signature or a token.
    pub headers: Vec<(String, String)>,
    /// Who sent it, after trusted proxies were looked through; `None` for a queue.
    pub peer: Option<IpAddr>,
}

/// Header fields worth keeping: what a handler needs to repeat the request
/// and what helps to trace it. Signatures and tokens are never among them.
pub const KEPT_HEADERS: [&str; 6] = [
    "content-type",
    "content-encoding",
    "user-agent",
    "x-ice-timestamp",
    "x-request-id",
    "traceparent",
];

/// Header values longer than this many bytes are cut when they are kept.
const KEPT_HEADER_BYTES_MAX: usize = 256;

impl KeptHead {
    /// Takes from `head` what is worth keeping.
    pub fn from_head(head: &RequestHead<'_>, peer: Option<IpAddr>) -> Self {
        let headers = KEPT_HEADERS
            .iter()
            .filter_map(|name| Some((*name, head.headers.get(*name)?)))
            .map(|(name, value)| {
                let value = value.as_bytes();
                let value = &value[..value.len().min(KEPT_HEADER_BYTES_MAX)];
                (name.to_owned(), String::from_utf8_lossy(value).into_owned())
            })
            .collect();
        Self {
            query: head.uri.query().map(str::to_owned),
            headers,
            peer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["a", "9", "default", "cms-2", "a_b", "a_b_c", "0_"] {
            assert!(HandlerName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "_a", "-a", "A", "a__b", "ä", "a b", "a.b", "a__"] {
            assert!(SourceName::new(bad).is_err(), "{bad}");
        }
    }
}
