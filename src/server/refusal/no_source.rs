//! What may be wrong with a signed request to a path that is no source's: most
//! likely somebody wrote the URL wrong at the sender, and every event is lost.

use std::sync::Arc;

use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::signature_findings;
use crate::ingest::Source;
use crate::request::RequestHead;
use crate::signature::{HeadVerdict, RefusedBody, RefusedRequest, SignatureError};

/// So much of a path is compared.
const PATH_BYTES_MAX: usize = 128;

/// The signature is tried on so many sources, those with the nearest paths.
const SOURCES_TRIED_MAX: usize = 8;

/// So many paths are named.
const PATHS_NAMED_MAX: usize = 3;

/// What is wrong, the path first.
pub(super) fn findings(
    sources: &[Arc<Source>],
    head: &RequestHead<'_>,
    now: Timestamp,
) -> Vec<String> {
    let path = normal(head.uri.path());
    let mut near: Vec<(usize, &Arc<Source>)> = sources
        .iter()
        .map(|source| (distance(&path, &normal(source.path())), source))
        .collect();
    near.sort_by_key(|(distance, _)| *distance);
    near.truncate(SOURCES_TRIED_MAX);
    let mut found = vec![about_path(&path, &near)];
    found.extend(about_signature(sources, &near, head, now));
    found
}

fn about_path(path: &str, near: &[(usize, &Arc<Source>)]) -> String {
    let Some((distance, nearest)) = near.first() else {
        return "no source has this path: there is no HTTP source".to_owned();
    };
    let tolerated = (path.chars().count() / 3).clamp(1, 3);
    if *distance <= tolerated {
        return format!(
            "no source has this path; did you mean {}, the path of source {}? A path is compared character for character",
            nearest.path(),
            nearest.name()
        );
    }
    let named: Vec<&str> = near
        .iter()
        .take(PATHS_NAMED_MAX)
        .map(|(_, source)| source.path())
        .collect();
    format!("no source has this path; there are {}", named.join(", "))
}

/// Whether a sender that is configured here signed it.
fn about_signature(
    sources: &[Arc<Source>],
    near: &[(usize, &Arc<Source>)],
    head: &RequestHead<'_>,
    now: Timestamp,
) -> Vec<String> {
    let mut refused: Option<(&Arc<Source>, SignatureError)> = None;
    for (_, source) in near {
        let name = source.name();
        match source.check_head(head, now) {
            Ok(HeadVerdict::Authentic(verified)) if verified.key().is_some() => {
                return vec![format!(
                    "its signature is right for source {name}, so that something on the way changes the path: see the proxy in front"
                )];
            }
            Err(SignatureError::Stale { .. } | SignatureError::Future { .. }) => {
                return vec![format!(
                    "its signature is right for source {name}, and its timestamp is not"
                )];
            }
            Err(error) => {
                // One that signs it in any way says more than one that does not.
                let better = error == SignatureError::Mismatch
                    && !matches!(refused, Some((_, SignatureError::Mismatch)));
                if better || refused.is_none() {
                    refused = Some((source, error));
                }
            }
            // Nothing to judge by without the body.
            Ok(HeadVerdict::Authentic(_) | HeadVerdict::NeedsBody(_)) => {}
        }
    }
    let Some((source, error)) = refused else {
        return Vec::new();
    };
    let request = RefusedRequest {
        head: *head,
        body: RefusedBody::Unread,
        error,
        now,
        others: &[],
    };
    signature_findings(source, sources, &request)
}

/// A path without what is written wrong most often: case, a slash too many or
/// too few, percent signs.
fn normal(path: &str) -> String {
    let path = &path[..path.floor_char_boundary(PATH_BYTES_MAX)];
    let decoded = percent_decode_str(path).decode_utf8_lossy().to_lowercase();
    let segments = decoded.split('/').filter(|segment| !segment.is_empty());
    segments.collect::<Vec<_>>().join("/")
}

/// How far two normal paths are from each other; one that a proxy has put
/// something before, or taken something from, is near.
fn distance(path: &str, known: &str) -> usize {
    let apart = strsim::osa_distance(path, known);
    let is_end = |long: &str, short: &str| {
        let before = long.strip_suffix(short).unwrap_or_default();
        !short.is_empty() && before.ends_with('/')
    };
    match is_end(path, known) || is_end(known, path) {
        true => apart.min(1),
        false => apart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_near_that_are_easily_mistaken() {
        for (path, known, apart) in [
            ("/ims/callback/", "/ims/callback", 0),
            ("//ims//Callback", "/ims/callback", 0),
            ("/ims%2Fcallback", "/ims/callback", 0),
            ("/ims/calback", "/ims/callback", 1),
            ("/api/v1/ims/callback", "/ims/callback", 1),
            ("/callback", "/ims/callback", 1),
            ("/", "/ims/callback", 12),
            ("/wp-login.php", "/", 12),
        ] {
            assert_eq!(distance(&normal(path), &normal(known)), apart, "{path}");
        }
        let long = format!("/{}", "ä".repeat(5000));
        assert!(normal(&long).len() <= PATH_BYTES_MAX);
    }
}
