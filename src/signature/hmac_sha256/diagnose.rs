//! What may be wrong with a request whose body is not signed as it should be.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use secrecy::ExposeSecret as _;
use subtle::ConstantTimeEq as _;

use super::{Digest, Encoding, HmacScheme, digest};
use crate::event::json;
use crate::signature::SignatureError;
use crate::signature::diagnosis::{
    Finding, RefusedBody, RefusedRequest, Signed, Spelling, headers, keys,
};
use crate::signature::parts::{from_hex, only, seconds};

/// So many bytes are hashed for one request at most, which takes a tenth of a
/// second at worst.
const HASHED_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(super) fn diagnose(scheme: &HmacScheme, refused: &RefusedRequest<'_>) -> Vec<Finding> {
    let wanted: Vec<_> = std::iter::once(&scheme.header)
        .chain(&scheme.timestamp_header)
        .collect();
    let fields = refused.head.headers;
    match refused.error {
        SignatureError::Missing => headers::missing(fields, &wanted),
        SignatureError::RepeatedHeader => headers::repeated(fields, &wanted),
        SignatureError::Stale { skew_seconds } | SignatureError::Future { skew_seconds } => {
            vec![clock(scheme, refused, skew_seconds)]
        }
        SignatureError::Mismatch => mismatch(scheme, refused),
    }
}

fn clock(scheme: &HmacScheme, refused: &RefusedRequest<'_>, skew_seconds: i64) -> Finding {
    const MILLISECOND_DIGITS: usize = 13;
    match timestamp(scheme, refused) {
        Some(stamp) if stamp.len() == MILLISECOND_DIGITS => Finding::Milliseconds,
        _ => Finding::Clock { skew_seconds },
    }
}

fn timestamp<'r>(scheme: &HmacScheme, refused: &RefusedRequest<'r>) -> Option<&'r [u8]> {
    let name = scheme.timestamp_header.as_ref()?;
    let value = only(refused.head.headers, name).ok()?;
    Some(value.as_bytes())
}

fn mismatch(scheme: &HmacScheme, refused: &RefusedRequest<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let stamp = timestamp(scheme, refused);
    if stamp.is_some_and(|stamp| seconds(stamp).is_none()) {
        findings.push(Finding::NoTimestamp);
    }
    let value = only(refused.head.headers, &scheme.header);
    let value = value.map_or(&b""[..], |value| value.as_bytes());
    let given = readings(scheme, value);
    if given.is_empty() {
        findings.push(Finding::NoDigest {
            expected: match scheme.encoding {
                Encoding::Hex => "64 hexadecimal digits",
                Encoding::Base64 => "32 bytes in Base64",
            },
            length: value.len(),
        });
        return findings;
    }
    match refused.body {
        RefusedBody::Unread => {}
        RefusedBody::TooLarge(bytes) => findings.push(Finding::BodyTooLarge { bytes }),
        RefusedBody::Whole(body) => findings.push(search(scheme, refused, &given, stamp, body)),
    }
    findings
}

type Reading = (Digest, Vec<Spelling>);

/// All that the value of the header may mean, as configured first.
fn readings(scheme: &HmacScheme, value: &[u8]) -> Vec<Reading> {
    let mut found: Vec<Reading> = Vec::new();
    let configured = value.strip_prefix(scheme.prefix.as_bytes());
    let after = |sign: u8| {
        let at = value.iter().position(|byte| *byte == sign)?;
        value.get(at + 1..)
    };
    let other = "with another prefix than the configured one";
    let texts = [
        (configured, None),
        (Some(value), Some("without the configured prefix")),
        (after(b'='), Some(other)),
        (after(b','), Some(other)),
        (after(b' '), Some(other)),
    ];
    for (text, prefix) in texts {
        let Some(text) = text else {
            continue;
        };
        for (digest, written) in decodings(scheme.encoding, text) {
            if found.iter().any(|(known, _)| *known == digest) {
                continue;
            }
            let spellings = [prefix, written].into_iter().flatten();
            found.push((digest, spellings.map(Spelling).collect()));
        }
    }
    found
}

fn decodings(encoding: Encoding, text: &[u8]) -> Vec<(Digest, Option<&'static str>)> {
    let text = text.trim_ascii();
    let base64 = |engine: &base64::engine::GeneralPurpose| -> Option<Digest> {
        engine.decode(text).ok()?.try_into().ok()
    };
    let hex = "written in hex instead of Base64";
    let standard = "written in Base64 instead of hex";
    let unlike = |other: Encoding, said| (encoding != other).then_some(said);
    [
        (from_hex(text), unlike(Encoding::Hex, hex)),
        (base64(&STANDARD), unlike(Encoding::Base64, standard)),
        (
            base64(&STANDARD_NO_PAD),
            Some("written in Base64 without padding"),
        ),
        (
            base64(&URL_SAFE),
            Some("written in Base64 with the alphabet for URLs"),
        ),
        (
            base64(&URL_SAFE_NO_PAD),
            Some("written in Base64 with the alphabet for URLs"),
        ),
    ]
    .into_iter()
    .filter_map(|(digest, written)| Some((digest?, written)))
    .collect()
}

/// What may have been signed, and how it differs from what should have been.
fn contents(stamp: Option<&[u8]>, body: &[u8]) -> Vec<(Vec<u8>, Option<&'static str>)> {
    let stamped = |body: &[u8]| match stamp {
        Some(stamp) => [stamp, b".", body].concat(),
        None => body.to_vec(),
    };
    let mut found = vec![(stamped(body), None)];
    if let Some(stamp) = stamp {
        found.extend([
            (
                body.to_vec(),
                Some("over the body alone, without the timestamp"),
            ),
            (
                [stamp, body].concat(),
                Some("over timestamp and body without the dot between them"),
            ),
        ]);
    }
    let trimmed = body.trim_ascii();
    if trimmed.len() < body.len() {
        let how = "over the body without the blanks around it, which were added on the way";
        found.push((stamped(trimmed), Some(how)));
    }
    let ended = [body, b"\n"].concat();
    let how = "over the body with a line end, which was lost on the way";
    found.push((stamped(&ended), Some(how)));
    if let Some(text) = json::checked(body) {
        let compact = json::minify(text);
        let how = "over the body without blanks between its tokens: it was written anew on the way";
        found.push((stamped(compact.as_bytes()), Some(how)));
    }
    if !body.is_empty() {
        let how = "over an empty body: the body was added or replaced on the way";
        found.push((stamped(b""), Some(how)));
    }
    found
}

fn search(
    scheme: &HmacScheme,
    refused: &RefusedRequest<'_>,
    given: &[Reading],
    stamp: Option<&[u8]>,
    body: &[u8],
) -> Finding {
    let keys = keys::candidates(&scheme.keys, refused.others, refused.now);
    let contents = contents(stamp, body);
    let mut best: Option<(usize, Signed)> = None;
    let mut hashed = 0;
    let mut forms = 0;
    for (content, how) in &contents {
        if hashed >= HASHED_BYTES_MAX {
            break;
        }
        forms += 1;
        for key in &keys {
            hashed += content.len();
            if hashed >= HASHED_BYTES_MAX {
                break;
            }
            let digest = digest(key.key.expose_secret(), None, content);
            let equal = |(given, _): &&Reading| bool::from(digest.ct_eq(given));
            let Some((_, spelling)) = given.iter().find(equal) else {
                continue;
            };
            let distance = key.distance + spelling.len() + usize::from(how.is_some());
            let least = best.as_ref().map_or(usize::MAX, |(distance, _)| *distance);
            if distance < least {
                let spelling = how
                    .map(Spelling)
                    .into_iter()
                    .chain(spelling.iter().copied());
                let signed = Signed {
                    key: key.used.clone(),
                    url: None,
                    spelling: spelling.collect(),
                };
                best = Some((distance, signed));
            }
        }
    }
    let nothing = Finding::NothingFits {
        keys: keys.len(),
        spellings: forms,
        of: "forms of the body",
    };
    best.map_or(nothing, |(_, signed)| Finding::Signed(signed))
}
