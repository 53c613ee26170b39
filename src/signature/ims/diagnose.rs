//! What may be wrong with a request that does not have the signature of IMS.

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Digest as _;
use secrecy::ExposeSecret as _;
use subtle::ConstantTimeEq as _;

use super::{ImsScheme, SIGNATURE_HEADER, TIMESTAMP_HEADER, begin};
use crate::signature::diagnosis::{
    Finding, RefusedRequest, Signed, Spelling, TRIES_MAX, headers, keys, urls,
};
use crate::signature::parts::{check_time, from_hex, only, seconds};
use crate::signature::{HeadVerdict, SignatureError};

/// What the time is a multiple of when two clocks differ by their zones.
const HOUR: i64 = 3600;
/// The farthest that two zones are apart.
const ZONES_MAX: i64 = 26;

/// A timestamp of so many digits counts milliseconds: in seconds, eleven
/// digits begin in the year 2286.
const MILLISECOND_DIGITS: usize = 13;

pub(super) fn diagnose(scheme: &ImsScheme, refused: &RefusedRequest<'_>) -> Vec<Finding> {
    let wanted = [&SIGNATURE_HEADER, &TIMESTAMP_HEADER];
    let fields = refused.head.headers;
    match refused.error {
        SignatureError::Missing => headers::missing(fields, &wanted),
        SignatureError::RepeatedHeader => headers::repeated(fields, &wanted),
        SignatureError::Stale { skew_seconds } | SignatureError::Future { skew_seconds } => {
            clock(fields, skew_seconds)
        }
        SignatureError::Mismatch => mismatch(scheme, refused),
    }
}

/// What a skew may come from.
fn clock(fields: &HeaderMap, skew_seconds: i64) -> Vec<Finding> {
    const CLOCKS_AGREE_SECONDS: i64 = 300;
    if timestamp(fields).is_some_and(is_in_milliseconds) {
        return vec![Finding::Milliseconds];
    }
    let mut findings = vec![Finding::Clock { skew_seconds }];
    let hours = skew_seconds.saturating_add(HOUR / 2).div_euclid(HOUR);
    let rest = skew_seconds.saturating_sub(hours.saturating_mul(HOUR));
    if hours != 0 && hours.abs() <= ZONES_MAX && rest.abs() <= CLOCKS_AGREE_SECONDS {
        findings.push(Finding::TimeZone { hours });
    }
    findings
}

fn timestamp(fields: &HeaderMap) -> Option<&[u8]> {
    let value = only(fields, &TIMESTAMP_HEADER).ok()?;
    Some(value.as_bytes())
}

fn is_in_milliseconds(timestamp: &[u8]) -> bool {
    timestamp.len() == MILLISECOND_DIGITS && seconds(timestamp).is_some()
}

fn mismatch(scheme: &ImsScheme, refused: &RefusedRequest<'_>) -> Vec<Finding> {
    let fields = refused.head.headers;
    let mut findings = Vec::new();
    let Some(stamp) = timestamp(fields) else {
        return findings;
    };
    let sent = seconds(stamp);
    match sent {
        None => findings.push(Finding::NoTimestamp),
        Some(_) if is_in_milliseconds(stamp) => findings.push(Finding::Milliseconds),
        Some(_) => {}
    }
    let signature = only(fields, &SIGNATURE_HEADER);
    let signature = signature.map_or(&b""[..], |value| value.as_bytes());
    let Some((given, spelling)) = read(signature) else {
        findings.push(Finding::NoDigest {
            expected: "32 hexadecimal digits",
            length: signature.len(),
        });
        return findings;
    };
    if let Some(name) = wrong_path(refused) {
        findings.push(Finding::OtherSource { name });
        return findings;
    }
    let mut found = search(scheme, refused, &given, stamp);
    let is_signed = match &mut found {
        Finding::Signed(signed) => {
            signed.spelling.extend(spelling);
            true
        }
        _ => false,
    };
    findings.push(found);
    let skew = sent.map(|sent| check_time(sent, refused.now, scheme.tolerance));
    if let Some(Err(
        SignatureError::Stale { skew_seconds } | SignatureError::Future { skew_seconds },
    )) = skew
        && is_signed
        && !is_in_milliseconds(stamp)
    {
        findings.extend(clock(fields, skew_seconds));
    }
    findings
}

/// The digest in a header, and what is odd about the way it is written.
fn read(signature: &[u8]) -> Option<([u8; 16], Option<Spelling>)> {
    if let Some(digest) = from_hex(signature) {
        return Some((digest, None));
    }
    if let Some(digest) = STANDARD.decode(signature).ok()
        && let Ok(digest) = digest.try_into()
    {
        return Some((digest, Some(Spelling("written in Base64 instead of hex"))));
    }
    let text = std::str::from_utf8(signature).ok()?;
    let hex = text.trim_matches(|c: char| !c.is_ascii_hexdigit());
    let end = hex.len().checked_sub(32)?;
    let digest = from_hex(hex.as_bytes().get(end..)?)?;
    let odd = Spelling("with something around the 32 hexadecimal digits");
    Some((digest, Some(odd)))
}

/// The source that would have let it in.
fn wrong_path(refused: &RefusedRequest<'_>) -> Option<crate::request::SourceName> {
    let lets_in = |scheme: &dyn crate::signature::Scheme| {
        // A scheme that asks for no key proves nothing.
        scheme.key_ring().is_some()
            && matches!(
                scheme.check_head(&refused.head, refused.now),
                Ok(HeadVerdict::Authentic(_))
                    | Err(SignatureError::Stale { .. } | SignatureError::Future { .. })
            )
    };
    // What does not sign its head says nothing before its body is there.
    let signs_urls = refused
        .others
        .iter()
        .filter(|other| !other.scheme.urls().is_empty());
    let mut fitting = signs_urls.filter(|other| lets_in(other.scheme));
    fitting.next().map(|other| other.name.clone())
}

/// The combination of key, URL and timestamp that gives the signature and
/// differs least from what is configured.
fn search(
    scheme: &ImsScheme,
    refused: &RefusedRequest<'_>,
    given: &[u8; 16],
    stamp: &[u8],
) -> Finding {
    let keys = keys::candidates(&scheme.keys, refused.others, refused.now);
    let origin = scheme.written.public_origin.as_deref();
    let urls = urls::candidates(
        &scheme.written.callback_urls,
        origin,
        &refused.head,
        refused.others,
    );
    let stamps = stamps(stamp);
    let mut best: Option<(usize, Signed)> = None;
    let mut tries = 0;
    let mut spellings = 0;
    for url in &urls {
        let least = best.as_ref().map_or(usize::MAX, |(distance, _)| *distance);
        if url.distance >= least || tries >= TRIES_MAX {
            break;
        }
        spellings += 1;
        let prefix = begin(&url.text);
        for (stamp, spelling) in &stamps {
            let prefix = prefix.clone().chain_update(stamp).chain_update("|");
            for key in &keys {
                tries += 1;
                let secret = key.key.expose_secret();
                let digest = prefix.clone().chain_update(secret).finalize();
                if !bool::from(digest.as_slice().ct_eq(given)) {
                    continue;
                }
                let distance = url.distance + key.distance + usize::from(spelling.is_some());
                let least = best.as_ref().map_or(usize::MAX, |(distance, _)| *distance);
                if distance < least {
                    let signed = Signed {
                        key: key.used.clone(),
                        url: Some(url.used.clone()),
                        spelling: spelling.iter().copied().collect(),
                    };
                    best = Some((distance, signed));
                }
            }
        }
    }
    let nothing = Finding::NothingFits {
        keys: keys.len(),
        spellings,
        of: "spellings of the URLs",
    };
    best.map_or(nothing, |(_, signed)| Finding::Signed(signed))
}

/// The timestamp as it came, and as the sender may have signed it.
fn stamps(stamp: &[u8]) -> Vec<(Vec<u8>, Option<Spelling>)> {
    let mut found = vec![(stamp.to_vec(), None)];
    if seconds(stamp).is_none() {
        return found;
    }
    if is_in_milliseconds(stamp) {
        let text = stamp[..MILLISECOND_DIGITS - 3].to_vec();
        let spelling = "signed with the timestamp in seconds";
        found.push((text, Some(Spelling(spelling))));
    } else {
        let text = [stamp, b"000"].concat();
        let spelling = "signed with the timestamp in milliseconds";
        found.push((text, Some(Spelling(spelling))));
    }
    found
}
