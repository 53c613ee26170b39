//! `[sources.NAME.auth]`: how a sender proves who it is.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::HeaderName;
use secrecy::{ExposeSecret as _, SecretString};

use super::quantity::DAY;
use super::{Range, Resolver};
use crate::request::KEPT_HEADERS;
use crate::settings::raw::{RawAuth, RawEncoding, RawReuse, RawScheme};
use crate::settings::secrets;
use crate::signature::hmac_sha256::{Encoding, HmacConfig};
use crate::signature::ims::{ImsConfig, KEY_CHARS_MAX};
use crate::signature::{ReusePolicy, SchemeConfig};

/// A shorter key can be found by trying, given one signature.
const KEY_CHARS_WARNED: usize = 16;

/// Timestamps are whole seconds, so less than one would refuse everybody.
const TOLERANCE: Range = Range::between(Duration::from_secs(1), DAY);

/// `urls` are the source's callback URLs and its public origin.
pub(super) fn resolve(
    r: &mut Resolver<'_>,
    source: &str,
    raw: RawAuth,
    urls: (Vec<String>, Option<String>),
) -> Option<SchemeConfig> {
    match raw.scheme? {
        RawScheme::None => {
            r.warn(
                format!("{source}.auth.scheme"),
                "\"none\" lets everybody in who can reach the listener",
                "use it behind something that verifies, else \"ims\"",
            );
            Some(SchemeConfig::None)
        }
        RawScheme::Ims => ims(r, source, raw, urls).map(SchemeConfig::Ims),
        RawScheme::HmacSha256 => hmac(r, source, raw).map(SchemeConfig::HmacSha256),
    }
}

fn ims(
    r: &mut Resolver<'_>,
    source: &str,
    raw: RawAuth,
    (callback_urls, public_origin): (Vec<String>, Option<String>),
) -> Option<ImsConfig> {
    let urls_written = r.is_written(&format!("{source}.callback_urls"))
        || r.is_written(&format!("{source}.public_origin"));
    if !urls_written {
        r.problem(
            format!("{source}.callback_urls"),
            "is missing, and the scheme \"ims\" signs the URL",
            r#"write callback_urls = ["https://callbacks.example.com/ims/callback"], exactly as configured at IMS"#,
        );
    }
    let key = format!("{source}.auth");
    let tolerance = tolerance(r, &key, raw.tolerance);
    let keys = keys(r, &key, raw.keys, raw.keys_file)?;
    for (position, long) in (1..).zip(&keys) {
        if long.expose_secret().chars().count() > KEY_CHARS_MAX {
            let file = format!("{key}.keys_file");
            let inline = format!("{key}.keys");
            r.warn(
                if r.is_written(&file) { file } else { inline },
                format!("key {position} has more than {KEY_CHARS_MAX} characters, the most that IMS takes"),
                secrets::LONG_KEY_HINT,
            );
        }
    }
    Some(ImsConfig {
        keys,
        callback_urls,
        public_origin,
        tolerance: tolerance?,
        reuse: match raw.reuse? {
            RawReuse::Note => ReusePolicy::Note,
            RawReuse::Refuse => ReusePolicy::Refuse,
        },
    })
}

fn hmac(r: &mut Resolver<'_>, source: &str, raw: RawAuth) -> Option<HmacConfig> {
    for unused in ["callback_urls", "public_origin"] {
        let unused = format!("{source}.{unused}");
        if r.is_written(&unused) {
            r.warn(
                unused,
                "is not used: the scheme \"hmac_sha256\" signs the body and no URL",
                "remove it, or use the scheme \"ims\"",
            );
        }
    }
    let key = format!("{source}.auth");
    let header_key = format!("{key}.header");
    let header = raw.header.and_then(|name| header(r, &header_key, &name));
    let kept = |name: &HeaderName| KEPT_HEADERS.contains(&name.as_str());
    if let Some(header) = header.as_ref().filter(|header| kept(header)) {
        r.problem(
            &header_key,
            format!("{header} is kept with the event, where a signature must not stand"),
            r#"have the signature sent in a header of its own, such as "X-Signature""#,
        );
    }
    let prefix = prefix(r, &key, raw.prefix);
    let stamp_key = format!("{key}.timestamp_header");
    let stamped = raw
        .timestamp_header
        .map(|name| header_of(r, &stamp_key, &name, header.as_ref()));
    let tolerance = tolerance(r, &key, raw.tolerance);
    if !r.is_written(&stamp_key) && r.is_written(&format!("{key}.tolerance")) {
        r.warn(
            format!("{key}.tolerance"),
            "has no effect without timestamp_header",
            r#"write timestamp_header = "X-Timestamp", or remove it"#,
        );
    }
    let keys = keys(r, &key, raw.keys, raw.keys_file);
    Some(HmacConfig {
        keys: keys?,
        header: header?,
        prefix: prefix?,
        encoding: match raw.encoding? {
            RawEncoding::Hex => Encoding::Hex,
            RawEncoding::Base64 => Encoding::Base64,
        },
        timestamp_header: match stamped {
            None => None,
            Some(name) => Some(name?),
        },
        tolerance: tolerance?,
    })
}

fn tolerance(r: &mut Resolver<'_>, auth: &str, text: Option<String>) -> Option<Duration> {
    r.duration(&format!("{auth}.tolerance"), &text?, TOLERANCE)
}

fn header(r: &mut Resolver<'_>, key: &str, text: &str) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(text.as_bytes()).ok();
    if name.is_none() {
        r.problem(
            key,
            format!("\"{text}\" is no name of a header field"),
            r#"write letters, digits and `-`, as in "X-Signature""#,
        );
    }
    name
}

/// The timestamp's header, which is not the signature's.
fn header_of(
    r: &mut Resolver<'_>,
    key: &str,
    text: &str,
    signature: Option<&HeaderName>,
) -> Option<HeaderName> {
    let name = header(r, key, text)?;
    if Some(&name) == signature {
        r.problem(
            key,
            format!("\"{text}\" is the header of the signature"),
            r#"name the header with the UNIX seconds, such as "X-Timestamp""#,
        );
        return None;
    }
    Some(name)
}

/// What header fields can begin with. They lose their outer blanks.
fn prefix(r: &mut Resolver<'_>, auth: &str, text: Option<String>) -> Option<String> {
    let text = text.unwrap_or_default();
    let visible = |b: u8| b == b' ' || b.is_ascii_graphic();
    let fault = if !text.bytes().all(visible) {
        "holds something else than visible ASCII characters"
    } else if text.starts_with(' ') {
        "begins with a blank, as no header field does"
    } else {
        return Some(text);
    };
    r.problem(
        format!("{auth}.prefix"),
        format!("\"{text}\" {fault}"),
        r#"write what stands in front of the signature, such as "sha256=""#,
    );
    None
}

fn keys(
    r: &mut Resolver<'_>,
    auth: &str,
    inline: Option<Vec<SecretString>>,
    file: Option<PathBuf>,
) -> Option<Vec<SecretString>> {
    let key = format!("{auth}.keys");
    if inline.is_some() && file.is_some() {
        r.both(&key);
    }
    let written = r.is_written(&key) || r.is_written(&format!("{key}_file"));
    let (keys, named) = match (inline, file) {
        (Some(keys), _) => (inline_keys(r, &key, keys)?, key),
        (None, Some(file)) => {
            let keys = r.secret_file(&key, &file, secrets::read_keys)?;
            (keys, format!("{key}_file"))
        }
        (None, None) => {
            if !written {
                r.problem(
                    key,
                    "is missing",
                    r#"write keys_file = "/run/secrets/ims-keys", a file with one key a line"#,
                );
            }
            return None;
        }
    };
    for (position, key) in (1..).zip(&keys) {
        if key.expose_secret().chars().count() < KEY_CHARS_WARNED {
            r.warn(
                named.clone(),
                format!("key {position} has fewer than {KEY_CHARS_WARNED} characters, so that a signature seen once tells it by trying"),
                "use one of 32 letters and digits",
            );
        }
    }
    Some(keys)
}

/// The same rules as for keys in a file.
fn inline_keys(
    r: &mut Resolver<'_>,
    key: &str,
    keys: Vec<SecretString>,
) -> Option<Vec<SecretString>> {
    let blank = |secret: &SecretString| secrets::has_blank(secret.expose_secret());
    if let Some(position) = keys.iter().position(blank) {
        r.problem(
            format!("{key}[{position}]"),
            "has a blank or a control character inside",
            "write the key alone",
        );
        return None;
    }
    if let Some((later, first)) = secrets::repeated(&keys) {
        r.problem(
            format!("{key}[{}]", later - 1),
            format!("is the same as key {first} of the list"),
            "remove it",
        );
        return None;
    }
    Some(keys)
}
