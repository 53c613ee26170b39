//! The keys of a `forward` handler.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use axum::http::HeaderName;
use reqwest::Url;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};

use super::{Resolver, net, sections};
use crate::handler::forward::ForwardConfig;
use crate::settings::problems::dotted;
use crate::settings::raw::RawForward;
use crate::settings::secrets;

/// Fields that are the connection's business or that we set ourselves.
const RESERVED: [&str; 11] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "traceparent",
];

/// A larger file is no file of certificates.
const CA_BYTES_MAX: u64 = 4 * 1024 * 1024;

pub(super) fn resolve(r: &mut Resolver<'_>, key: &str, raw: RawForward) -> Option<ForwardConfig> {
    let url_key = format!("{key}.url");
    let url_written = r.is_written(&url_key) || r.is_written(&format!("{url_key}_file"));
    if !url_written {
        r.problem(
            &url_key,
            "is missing",
            r#"write url = "https://cms.internal/hooks/media", or url_file"#,
        );
    }
    let url = r.secret(&url_key, raw.url, raw.url_file);
    let parsed = url.as_ref().and_then(|url| checked_url(r, &url_key, url));
    let bearer_key = format!("{key}.bearer_token");
    let bearer = sections::token(r, &bearer_key, raw.bearer_token, raw.bearer_token_file);

    let headers_key = format!("{key}.headers");
    if raw.headers.is_some() && raw.headers_file.is_some() {
        r.both(&headers_key);
    }
    let headers = match (raw.headers, raw.headers_file) {
        (Some(headers), _) => Some(headers.into_iter().collect()),
        (None, Some(file)) => r.secret_file(&headers_key, &file, secrets::read_headers),
        (None, None) => Some(Vec::new()),
    };
    let headers = headers.and_then(|headers| checked_headers(r, &headers_key, headers));
    check_authorization(r, key, parsed.as_ref(), bearer.as_ref(), headers.as_deref());
    let ca_key = format!("{key}.ca_file");
    let ca_fits = raw
        .ca_file
        .as_ref()
        .is_none_or(|file| check_ca(r, &ca_key, file));
    parsed?;
    Some(ForwardConfig {
        url: url?,
        bearer_token: bearer,
        headers: headers?,
        ca_file: raw.ca_file.filter(|_| ca_fits),
    })
}

/// The messages never repeat the URL: its user, password and query are secret,
/// and what cannot be parsed cannot be masked.
fn checked_url(r: &mut Resolver<'_>, key: &str, url: &SecretString) -> Option<Url> {
    let parsed = net::absolute_http(url.expose_secret());
    let fault = match &parsed {
        None => "is no absolute http or https URL",
        Some(url) if url.fragment().is_some() => "has a fragment, which is never sent",
        Some(_) => return parsed,
    };
    r.problem(key, fault, r#"write "https://cms.internal/hooks/media""#);
    None
}

pub(super) fn checked_headers(
    r: &mut Resolver<'_>,
    key: &str,
    headers: Vec<(String, SecretString)>,
) -> Option<Vec<(String, SecretString)>> {
    let count = headers.len();
    let mut seen = BTreeSet::new();
    let mut checked = Vec::with_capacity(count);
    for (name, value) in headers {
        let key = dotted(key, &name);
        match header_fault(&name, &value, &mut seen) {
            Some((problem, hint)) => r.problem(key, problem, hint),
            None => checked.push((name.to_ascii_lowercase(), value)),
        }
    }
    checked.sort_by(|a, b| a.0.cmp(&b.0));
    (checked.len() == count).then_some(checked)
}

fn header_fault(
    name: &str,
    value: &SecretString,
    seen: &mut BTreeSet<String>,
) -> Option<(&'static str, &'static str)> {
    let lower = name.to_ascii_lowercase();
    let value = value.expose_secret();
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Some((
            "is no name of a header field",
            "write letters, digits and `-`",
        ));
    }
    if RESERVED.contains(&lower.as_str()) || lower.starts_with("x-ims-") {
        return Some(("is set by the service itself", "remove it"));
    }
    if !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return Some((
            "its value holds something else than visible ASCII characters",
            "encode it",
        ));
    }
    if value.trim().is_empty() {
        return Some(("its value is blank", "write a value, or remove the field"));
    }
    if !seen.insert(lower) {
        return Some((
            "stands there twice; case does not count",
            "remove one of the two",
        ));
    }
    None
}

/// `Authorization` can come from three keys, and a request carries one.
fn check_authorization(
    r: &mut Resolver<'_>,
    key: &str,
    url: Option<&Url>,
    bearer: Option<&SecretString>,
    headers: Option<&[(String, SecretString)]>,
) {
    let in_url = url.is_some_and(|url| !url.username().is_empty() || url.password().is_some());
    let in_headers = headers
        .into_iter()
        .flatten()
        .any(|(name, _)| name == "authorization");
    if [in_url, bearer.is_some(), in_headers]
        .iter()
        .filter(|set| **set)
        .count()
        > 1
    {
        r.problem(
            key,
            "the Authorization field is given more than once",
            "keep one of bearer_token, the user in the URL, and the field in headers",
        );
    }
    if let Some(url) = url
        && url.scheme() == "http"
        && (bearer.is_some() || in_headers || in_url)
        && !is_loopback(url)
    {
        r.warn(
            format!("{key}.url"),
            "is plain http: whoever is in between reads the token that goes with it",
            "use https",
        );
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let address = address.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether `file` holds certificates that can be trusted, and nothing broken.
pub(super) fn check_ca(r: &mut Resolver<'_>, key: &str, file: &Path) -> bool {
    let fault = match certificates(file) {
        Ok(0) => format!("{} holds no PEM certificate", file.display()),
        Ok(_) => return true,
        Err(error) => format!("cannot use {}: {error}", file.display()),
    };
    r.problem(
        key,
        fault,
        "name a readable file with at least one -----BEGIN CERTIFICATE-----",
    );
    false
}

fn certificates(file: &Path) -> io::Result<usize> {
    let mut bytes = Vec::new();
    File::open(file)?
        .take(CA_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > CA_BYTES_MAX {
        return Err(io::Error::other("it is larger than 4 MiB"));
    }
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let broken = |_| io::Error::other("its PEM is broken");
        let certificate = certificate.map_err(broken)?;
        let no_authority = |_| io::Error::other("it holds something else than certificates");
        store.add(certificate).map_err(no_authority)?;
    }
    Ok(store.len())
}
