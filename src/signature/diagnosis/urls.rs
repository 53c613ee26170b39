//! The URLs that a sender may have signed instead of the right one.

use std::collections::HashSet;

use axum::http::HeaderMap;
use axum::http::header::HOST;
use percent_encoding::{
    AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode,
};

use super::OtherSource;
use super::finding::{UrlBase, UrlUsed};
use crate::request::RequestHead;

/// A URL to try.
pub(in crate::signature) struct UrlCandidate {
    pub(in crate::signature) text: String,
    pub(in crate::signature) used: UrlUsed,
    /// How far it is from what is configured.
    pub(in crate::signature) distance: usize,
}

/// At most so many things are changed at a URL at the same time.
const CHANGES_MAX: usize = 3;

/// A URL is shown up to so many bytes.
const SHOWN_BYTES_MAX: usize = 200;

/// What is encoded in a URL that keeps its shape.
const UNSAFE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`');

/// Where the target of a request may stand that a proxy has rewritten.
const ORIGINAL_TARGETS: [&str; 3] = ["x-original-uri", "x-original-url", "x-rewrite-url"];

/// All URLs that are worth a try, the most likely first.
pub(in crate::signature) fn candidates(
    urls: &[String],
    public_origin: Option<&str>,
    head: &RequestHead<'_>,
    others: &[OtherSource<'_>],
) -> Vec<UrlCandidate> {
    let mut found = Candidates::default();
    let target = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    for (position, url) in (1..).zip(urls) {
        found.vary(url, &UrlBase::Callback(position), head, 0);
    }
    if let Some(origin) = public_origin {
        let url = format!("{origin}{target}");
        found.vary(&url, &UrlBase::PublicOrigin, head, 0);
    }
    for (what, host) in hosts(head) {
        for target in targets(head, target) {
            for scheme in ["https", "http"] {
                let url = format!("{scheme}://{host}{target}");
                found.vary(&url, &UrlBase::Request(what), head, 1);
            }
        }
    }
    for other in others {
        for url in other.scheme.urls() {
            found.add(
                url.clone(),
                UrlBase::OtherSource(other.name.clone()),
                Vec::new(),
                1,
            );
        }
    }
    found.list.sort_by_key(|candidate| candidate.distance);
    found.list
}

/// The hosts that a request names, and where.
fn hosts<'r>(head: &RequestHead<'r>) -> Vec<(&'static str, &'r str)> {
    let field = |name: &str| first(head.headers, name);
    let own = head
        .uri
        .authority()
        .map(|authority| authority.as_str())
        .or_else(|| field(HOST.as_str()));
    let forwarded = field("x-forwarded-host")
        .and_then(|value| value.split(',').next())
        .map(str::trim);
    let named = [
        ("the request's own host", own),
        ("the host in X-Forwarded-Host", forwarded),
    ];
    let named = named.into_iter();
    named
        .filter_map(|(what, host)| Some((what, host.filter(|host| !host.is_empty())?)))
        .collect()
}

/// The request's target, and what it was before a proxy changed it.
fn targets<'r>(head: &RequestHead<'r>, target: &'r str) -> Vec<&'r str> {
    let original = ORIGINAL_TARGETS
        .iter()
        .filter_map(|name| first(head.headers, name))
        .filter(|text| text.starts_with('/'));
    let mut targets: Vec<&str> = std::iter::once(target).chain(original).collect();
    targets.dedup();
    targets
}

fn first<'r>(headers: &'r HeaderMap, name: &str) -> Option<&'r str> {
    headers.get(name)?.to_str().ok()
}

/// A part of a URL and how it differs.
type Variant = (String, Option<&'static str>);

#[derive(Default)]
struct Candidates {
    seen: HashSet<String>,
    list: Vec<UrlCandidate>,
}

impl Candidates {
    fn add(&mut self, text: String, base: UrlBase, changes: Vec<&'static str>, distance: usize) {
        if self.seen.contains(&text) {
            return;
        }
        self.seen.insert(text.clone());
        let shown = shown(&text);
        let distance = distance + changes.len();
        self.list.push(UrlCandidate {
            text,
            used: UrlUsed {
                shown,
                base,
                changes,
            },
            distance,
        });
    }

    /// Adds `url` and whatever it may be mistaken for. Fewer changes come
    /// first, so that a URL is known by the simplest way to it.
    fn vary(&mut self, url: &str, base: &UrlBase, head: &RequestHead<'_>, distance: usize) {
        let Some(parts) = Parts::of(url) else {
            self.add(url.to_owned(), base.clone(), Vec::new(), distance);
            return;
        };
        let mut varied = Vec::new();
        for scheme in parts.schemes() {
            for host in parts.hosts(&scheme.0) {
                for path in parts.paths(head) {
                    for query in parts.queries(head) {
                        let parts = [&scheme, &host, &path, &query];
                        let changes: Vec<&'static str> =
                            parts.iter().filter_map(|(_, change)| *change).collect();
                        let text = format!("{}://{}{}{}", scheme.0, host.0, path.0, query.0);
                        varied.push((text, changes));
                    }
                }
            }
        }
        let mut rewritten = Vec::new();
        for (text, changes) in &varied {
            // Whoever changed that much did not encode it, too.
            if changes.len() < CHANGES_MAX - 1 {
                rewritten.extend(written(text).map(|(text, change)| {
                    let changes = changes.iter().copied().chain([change]);
                    (text, changes.collect::<Vec<_>>())
                }));
            }
        }
        varied.append(&mut rewritten);
        varied.retain(|(_, changes)| changes.len() <= CHANGES_MAX);
        // Stable: what changes one part comes before what rewrites the whole.
        varied.sort_by_key(|(_, changes)| changes.len());
        for (text, changes) in varied {
            self.add(text, base.clone(), changes, distance);
        }
    }
}

/// A URL in parts that can be changed one by one.
struct Parts<'u> {
    scheme: &'u str,
    host: &'u str,
    path: &'u str,
    /// With its `?`, or empty.
    query: &'u str,
}

impl<'u> Parts<'u> {
    fn of(url: &'u str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, target) = rest.split_at(end);
        let end = target.find('?').unwrap_or(target.len());
        let (path, query) = target.split_at(end);
        Some(Self {
            scheme,
            host,
            path,
            query,
        })
    }

    fn schemes(&self) -> Vec<Variant> {
        let mut found = vec![(self.scheme.to_owned(), None)];
        match self.scheme.to_ascii_lowercase().as_str() {
            "https" => found.push(("http".to_owned(), Some("with http instead of https"))),
            "http" => found.push(("https".to_owned(), Some("with https instead of http"))),
            _ => {}
        }
        found
    }

    fn hosts(&self, scheme: &str) -> Vec<Variant> {
        let mut found = vec![(self.host.to_owned(), None)];
        let port = self
            .host
            .rsplit_once(':')
            .filter(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        match port {
            Some((bare, _)) => found.push((bare.to_owned(), Some("without its port"))),
            None if scheme.eq_ignore_ascii_case("https") => {
                found.push((format!("{}:443", self.host), Some("with the port 443")));
            }
            None => found.push((format!("{}:80", self.host), Some("with the port 80"))),
        }
        match self.host.strip_prefix("www.") {
            Some(bare) => found.push((bare.to_owned(), Some("without www"))),
            None => found.push((format!("www.{}", self.host), Some("with www"))),
        }
        let lower = self.host.to_lowercase();
        if lower != self.host {
            found.push((lower, Some("with its host in lower case")));
        }
        found
    }

    fn paths(&self, head: &RequestHead<'_>) -> Vec<Variant> {
        let mut found = vec![(self.path.to_owned(), None)];
        match self.path.strip_suffix('/') {
            Some(bare) => found.push((bare.to_owned(), Some("without the slash at its end"))),
            None => found.push((format!("{}/", self.path), Some("with a slash at its end"))),
        }
        let own = head.uri.path();
        if own != self.path {
            found.push((own.to_owned(), Some("with the request's own path")));
        }
        found
    }

    fn queries(&self, head: &RequestHead<'_>) -> Vec<Variant> {
        let mut found = vec![(self.query.to_owned(), None)];
        if !self.query.is_empty() {
            found.push((String::new(), Some("without its query string")));
        }
        let own = head.uri.query().map(|query| format!("?{query}"));
        if let Some(own) = own.filter(|own| own != self.query) {
            found.push((own, Some("with the query string of the request")));
        }
        found
    }
}

/// Other ways to write the same URL.
fn written(url: &str) -> impl Iterator<Item = (String, &'static str)> {
    let decoded = percent_decode_str(url).decode_utf8_lossy().into_owned();
    [
        (url.to_lowercase(), "all in lower case"),
        (decoded, "percent-decoded"),
        (
            utf8_percent_encode(url, UNSAFE).to_string(),
            "percent-encoded",
        ),
        (
            utf8_percent_encode(url, NON_ALPHANUMERIC).to_string(),
            "percent-encoded as a whole",
        ),
        (format!("{url} "), "with a blank behind it"),
        (format!(" {url}"), "with a blank before it"),
    ]
    .into_iter()
}

/// A URL as it may be shown: a user, a password and a query may be secrets.
fn shown(url: &str) -> String {
    let (url, query) = match url.split_once('?') {
        Some((url, _)) => (url, "?…"),
        None => (url, ""),
    };
    let without_user = match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or(authority);
            format!("{scheme}://{host}{path}")
        }
        // Encoded as a whole: where a query begins cannot be seen.
        None => return "…".to_owned(),
    };
    let mut end = without_user.len().min(SHOWN_BYTES_MAX);
    while !without_user.is_char_boundary(end) {
        end -= 1;
    }
    let cut = if end < without_user.len() { "…" } else { "" };
    format!("{}{cut}{query}", &without_user[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_in_a_url_is_not_shown() {
        for (url, said) in [
            ("https://a/b", "https://a/b"),
            ("https://u:p@a/b?token=x", "https://a/b?…"),
            ("https://a?token=x", "https://a?…"),
            ("https%3A%2F%2Fa%3Ftoken%3Dx", "…"),
        ] {
            assert_eq!(shown(url), said);
        }
        assert!(shown(&format!("https://a/{}", "ä".repeat(500))).len() < 210);
    }
}
