//! What was found out about a refused request, and how it is told.

use std::fmt;

use jiff::Timestamp;

use crate::request::SourceName;

/// One thing that was found out about a refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// There is no signature, nor anything that looks like one.
    NoSignature,
    /// One of the headers is there, this one is not.
    Absent {
        /// The header.
        header: String,
    },
    /// It came through a proxy, which may have taken the headers away.
    DroppedByProxy {
        /// The headers that proxies add, and that are there.
        marks: Vec<&'static str>,
    },
    /// The header is there with underscores in its name.
    Underscores {
        /// The name as it came.
        header: String,
    },
    /// The headers are those of another product or scheme.
    OtherProduct {
        /// Whose they are, and what they look like.
        product: &'static str,
    },
    /// A header came more than once.
    Repeated {
        /// The header.
        header: String,
        /// How often.
        times: usize,
        /// Whether all of them say the same.
        alike: bool,
    },
    /// The signature cannot be read.
    NoDigest {
        /// What it should look like.
        expected: &'static str,
        /// How many characters it has.
        length: usize,
    },
    /// The timestamp is no number.
    NoTimestamp,
    /// The timestamp counts milliseconds.
    Milliseconds,
    /// The signature is right, or cannot be judged; the clocks differ.
    Clock {
        /// Our clock minus the sender's.
        skew_seconds: i64,
    },
    /// The clocks differ by a number of whole hours: one of them may be told
    /// the time of another zone.
    TimeZone {
        /// How many.
        hours: i64,
    },
    /// The signature is right for this.
    Signed(Signed),
    /// It would be let in by another source.
    OtherSource {
        /// The source.
        name: SourceName,
    },
    /// Nothing that was tried gives this signature.
    NothingFits {
        /// How many keys were tried.
        keys: usize,
        /// Over how many spellings of the URL, or forms of the body.
        spellings: usize,
        /// What these are: "spellings of the URLs", "forms of the body".
        of: &'static str,
    },
    /// The body is signed, and too large to try things on.
    BodyTooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// What gives the signature that a request came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub(in crate::signature) key: KeyUsed,
    /// `None` where the scheme signs no URL.
    pub(in crate::signature) url: Option<UrlUsed>,
    /// What else is not as it should be.
    pub(in crate::signature) spelling: Vec<Spelling>,
}

/// The key that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::signature) enum KeyUsed {
    /// One that is in force, by its position.
    InForce(usize),
    /// The same, with something that is not part of it.
    Spelt(usize, &'static str),
    /// One that went out of force at this time.
    Retired(Timestamp),
    /// One of another source.
    OtherSource(SourceName),
}

/// The URL that was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::signature) struct UrlUsed {
    /// The URL itself, without its query.
    pub(in crate::signature) shown: String,
    /// Which URL it is, or comes from.
    pub(in crate::signature) base: UrlBase,
    /// How it differs from that.
    pub(in crate::signature) changes: Vec<&'static str>,
}

/// Where a URL that is tried comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::signature) enum UrlBase {
    /// A callback URL, by its position.
    Callback(usize),
    /// The public origin and the request's own target.
    PublicOrigin,
    /// The host that the request, or a proxy, names and the request's own
    /// target.
    Request(&'static str),
    /// A callback URL of another source.
    OtherSource(SourceName),
}

/// Another way to write something than the configured one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::signature) struct Spelling(pub(in crate::signature) &'static str);

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSignature => f.write_str(
                "no signature at all: authentication is off at the sender, or it is somebody else",
            ),
            Self::Absent { header } => write!(f, "the header {header} is missing"),
            Self::DroppedByProxy { marks } => write!(
                f,
                "it came through a proxy ({} is there), which may drop the headers of the signature: have it pass them on",
                marks.join(", ")
            ),
            Self::Underscores { header } => write!(
                f,
                "the header {header} is there, with underscores for hyphens: something in front renames it"
            ),
            Self::OtherProduct { product } => write!(f, "the signature headers are {product}"),
            Self::Repeated {
                header,
                times,
                alike,
            } => write!(
                f,
                "the header {header} came {times} times, {}",
                if *alike {
                    "each time the same: a proxy in front adds a copy"
                } else {
                    "and not the same each time"
                }
            ),
            Self::NoDigest { expected, length } => write!(
                f,
                "the signature is not {expected}: it has {length} characters"
            ),
            Self::NoTimestamp => f.write_str("the timestamp is no number of UNIX seconds"),
            Self::Milliseconds => f.write_str("the timestamp is in milliseconds, not in seconds"),
            Self::Clock { skew_seconds } => write!(
                f,
                "the sender's clock is {} {} ours, or the request was held up on its way or sent again",
                Span(*skew_seconds),
                if *skew_seconds < 0 {
                    "ahead of"
                } else {
                    "behind"
                },
            ),
            Self::TimeZone { hours } => write!(
                f,
                "the difference is {} {}: a clock was set to the time of another zone",
                hours.abs(),
                if hours.abs() == 1 {
                    "hour exactly"
                } else {
                    "hours exactly"
                },
            ),
            Self::Signed(signed) => signed.fmt(f),
            Self::OtherSource { name } => write!(
                f,
                "source {name} would let it in: it was sent to the wrong path"
            ),
            Self::NothingFits {
                keys,
                spellings,
                of,
            } => write!(
                f,
                "no key that is known gives this signature: tried {keys}, over {spellings} {of}; it is another key, or another sender"
            ),
            Self::BodyTooLarge { bytes } => write!(
                f,
                "the body of {bytes} bytes is too large to try other keys and forms on it"
            ),
        }
    }
}

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the signature matches with {}", self.key)?;
        if let Some(url) = &self.url {
            write!(f, ", over {url}")?;
        }
        for Spelling(text) in &self.spelling {
            write!(f, ", {text}")?;
        }
        Ok(())
    }
}

impl fmt::Display for KeyUsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InForce(position) => write!(f, "key {position}"),
            Self::Spelt(position, how) => write!(f, "key {position} {how}"),
            Self::Retired(since) => {
                write!(f, "a key that was removed at {since:.0}")
            }
            Self::OtherSource(name) => write!(f, "a key of source {name}"),
        }
    }
}

impl fmt::Display for UrlUsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.base {
            UrlBase::Callback(position) => write!(f, "callback URL {position}")?,
            UrlBase::PublicOrigin => {
                f.write_str("public_origin and the request's own path and query")?;
            }
            UrlBase::Request(what) => write!(f, "{what} and the request's own path")?,
            UrlBase::OtherSource(name) => write!(f, "a callback URL of source {name}")?,
        }
        for (number, change) in self.changes.iter().enumerate() {
            write!(f, "{} {change}", if number == 0 { "" } else { " and" })?;
        }
        if self.changes.is_empty() && !matches!(self.base, UrlBase::Request(_)) {
            return Ok(());
        }
        write!(f, " ({})", self.shown)
    }
}

/// A number of seconds, as people say it.
struct Span(i64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.unsigned_abs();
        match seconds {
            0..120 => write!(f, "{seconds} s"),
            120..7200 => write!(f, "{} min", seconds / 60),
            7200..172_800 => write!(f, "{} h", seconds / 3600),
            _ => write!(f, "{} days", seconds / 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_say_them() {
        for (skew, words) in [
            (301, "5 min behind ours"),
            (-100, "100 s ahead of ours"),
            (8 * 3600, "8 h behind"),
            (-9 * 86_400, "9 days ahead"),
            (i64::MIN, "106751991167300 days ahead"),
        ] {
            let said = Finding::Clock { skew_seconds: skew }.to_string();
            assert!(said.contains(words), "{said}");
        }
    }
}
