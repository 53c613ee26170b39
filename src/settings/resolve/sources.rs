//! `[sources.NAME]`: who may send, and where they arrive.

use std::collections::BTreeMap;

use super::{Resolver, Surroundings, auth};
use crate::ingest::SourceConfig;
use crate::request::SourceName;
use crate::settings::raw::RawSource;

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
    let keys_file = raw.auth.as_ref().and_then(|auth| auth.keys_file.clone());
    let auth = raw.auth.and_then(|auth| {
        let urls = (raw.callback_urls, raw.public_origin);
        auth::resolve(r, key, auth, urls)
    });
    Some(SourceConfig {
        name: SourceName::new(name).ok()?,
        path: path?,
        auth: auth?,
        keys_file,
        allow_from: match allow_from {
            None => None,
            Some(networks) => Some(networks?),
        },
    })
}
