//! `[sources.NAME]`: who may send, and how they prove it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::quantity::DAY;
use super::{Range, Resolver, Surroundings};
use crate::ingest::SourceConfig;
use crate::request::SourceName;
use crate::settings::raw::{RawAuth, RawScheme, RawSource};
use crate::settings::secrets;
use crate::signature::SchemeConfig;
use crate::signature::ims::ImsConfig;

/// A shorter key can be found by trying, given one signature.
const KEY_CHARS_WARNED: usize = 16;

/// Timestamps are whole seconds, so less than one would refuse everybody.
const TOLERANCE: Range = Range::between(Duration::from_secs(1), DAY);

pub(super) fn sources(
    r: &mut Resolver<'_>,
    raw: BTreeMap<String, RawSource>,
    around: &Surroundings<'_>,
) -> Option<Vec<SourceConfig>> {
    let count = raw.len();
    check_shared_paths(r, &raw);
    let sources: Vec<SourceConfig> = raw
        .into_iter()
        .filter_map(|(name, source)| one(r, &name, source, around))
        .collect();
    (sources.len() == count).then_some(sources)
}

fn check_shared_paths(r: &mut Resolver<'_>, raw: &BTreeMap<String, RawSource>) {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, source) in raw {
        let Some(path) = source.path.as_deref() else {
            continue;
        };
        if let Some(other) = seen.insert(path, name) {
            r.problem(
                format!("sources.{name}.path"),
                format!("\"{path}\" is the path of sources.{other} as well"),
                "give each source a path of its own",
            );
        }
    }
}

fn one(
    r: &mut Resolver<'_>,
    name: &str,
    raw: RawSource,
    around: &Surroundings<'_>,
) -> Option<SourceConfig> {
    let key = &format!("sources.{name}");
    let path = raw
        .path
        .and_then(|path| r.path(&format!("{key}.path"), path));
    if let (Some(path), Some(server)) = (&path, around.server)
        && *path == server.health_path
    {
        r.problem(
            format!("{key}.path"),
            format!("\"{path}\" is server.health_path"),
            "change one of the two",
        );
    }
    for (position, url) in raw.callback_urls.iter().enumerate() {
        let key = format!("{key}.callback_urls[{position}]");
        r.callback_url(&key, url, path.as_deref());
    }
    if let Some(origin) = &raw.public_origin {
        r.origin(&format!("{key}.public_origin"), origin);
    }
    // `None` twice over: not written, or written and wrong.
    let allow_from = raw
        .allow_from
        .map(|texts| r.networks(&format!("{key}.allow_from"), &texts));
    let auth = raw.auth.and_then(|auth| {
        let urls = (raw.callback_urls, raw.public_origin);
        scheme(r, key, auth, urls)
    });
    Some(SourceConfig {
        name: SourceName::new(name).ok()?,
        path: path?,
        auth: auth?,
        allow_from: match allow_from {
            None => None,
            Some(networks) => Some(networks?),
        },
    })
}

fn scheme(
    r: &mut Resolver<'_>,
    source: &str,
    raw: RawAuth,
    (callback_urls, public_origin): (Vec<String>, Option<String>),
) -> Option<SchemeConfig> {
    let key = format!("{source}.auth");
    match raw.scheme? {
        RawScheme::None => {
            r.warn(
                format!("{key}.scheme"),
                "\"none\" lets everybody in who can reach the listener",
                "use it behind something that verifies, else \"ims\"",
            );
            Some(SchemeConfig::None)
        }
        RawScheme::Ims => {
            let urls_written = r.is_written(&format!("{source}.callback_urls"))
                || r.is_written(&format!("{source}.public_origin"));
            if !urls_written {
                r.problem(
                    format!("{source}.callback_urls"),
                    "is missing, and the scheme \"ims\" signs the URL",
                    r#"write callback_urls = ["https://callbacks.example.com/ims/callback"], exactly as configured at IMS"#,
                );
            }
            let tolerance = raw.tolerance.unwrap_or_default();
            let tolerance = r.duration(&format!("{key}.tolerance"), &tolerance, TOLERANCE);
            Some(SchemeConfig::Ims(ImsConfig {
                keys: keys(r, &key, raw.keys, raw.keys_file)?,
                callback_urls,
                public_origin,
                tolerance: tolerance?,
            }))
        }
    }
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
