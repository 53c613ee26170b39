//! What several schemes do alike: read a header that may come once, a
//! timestamp, a digest, and refuse keys that everybody knows.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::{SchemeError, SignatureError};

/// Refuses what would let in nobody, or everybody: anyone can sign with an
/// empty key.
pub(super) fn check_keys(keys: &[SecretString]) -> Result<(), SchemeError> {
    if keys.is_empty() {
        return Err(SchemeError::NoKey);
    }
    let empty = keys.iter().position(|key| key.expose_secret().is_empty());
    match empty {
        Some(index) => Err(SchemeError::EmptyKey {
            position: index + 1,
        }),
        None => Ok(()),
    }
}

/// The only value of a header.
pub(super) fn only<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<&'a HeaderValue, SignatureError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(SignatureError::Missing)?;
    match values.next() {
        None => Ok(value),
        Some(_) => Err(SignatureError::RepeatedHeader),
    }
}

/// The time in a header, where it stands there exactly once and in digits.
pub(super) fn sent_at(headers: &HeaderMap, name: &HeaderName) -> Option<Timestamp> {
    let value = only(headers, name).ok()?;
    Timestamp::from_second(seconds(value.as_bytes())?).ok()
}

/// UNIX seconds out of digits. A number too large to be a time is still a
/// number, and far in the future.
pub(super) fn seconds(text: &[u8]) -> Option<i64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_i64, |seconds, byte| {
        byte.is_ascii_digit().then(|| {
            seconds
                .saturating_mul(10)
                .saturating_add(i64::from(byte - b'0'))
        })
    })
}

/// Compares the sender's clock with ours; the skew is ours minus theirs.
pub(super) fn check_time(
    sent: i64,
    now: Timestamp,
    tolerance: Duration,
) -> Result<i64, SignatureError> {
    let skew_seconds = now.as_second().saturating_sub(sent);
    if Duration::from_secs(skew_seconds.unsigned_abs()) <= tolerance {
        Ok(skew_seconds)
    } else if skew_seconds > 0 {
        Err(SignatureError::Stale { skew_seconds })
    } else {
        Err(SignatureError::Future { skew_seconds })
    }
}

/// The `N` bytes that twice as many hexadecimal digits of either case stand for.
pub(super) fn from_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let (pairs, []) = text.as_chunks::<2>() else {
        return None;
    };
    let pairs: &[[u8; 2]; N] = pairs.try_into().ok()?;
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}
