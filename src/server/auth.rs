//! Who may use the admin listener.

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, Uri};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::IpAddr;
use subtle::{Choice, ConstantTimeEq};

use super::AdminConfig;

/// The rule of one admin listener.
#[derive(Debug, Clone)]
pub(super) struct Access {
    token: Option<TokenHash>,
    metrics_token: Option<TokenHash>,
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub(super) enum Denied {
    /// A token is needed, and the request has none.
    #[error("the token is missing")]
    NoToken,
    /// What it has is not the right one.
    #[error("the token is wrong")]
    WrongToken,
    /// Without a token only this machine is served, and the request names
    /// another one: a page in somebody's browser may be behind it.
    #[error(
        "the Host of the request is not local: without admin.token only localhost, 127.0.0.1 and [::1] are served"
    )]
    ForeignHost,
    /// A page of another origin is behind it.
    #[error("the request comes from a page of another origin")]
    CrossOrigin,
    /// A change that comes as a form or as plain text: what a page of another
    /// origin can send without asking first.
    #[error("a change needs Content-Type: application/json (application/x-ndjson for an import)")]
    NotJson,
    /// A form that no page of this service wrote for its reader.
    #[error("the form is not one of this page, or is of an earlier start: go back and reload")]
    ForgedForm,
}

impl Denied {
    /// Every reason, as the metric spells them.
    pub(super) const REASONS: [(Self, &'static str); 6] = [
        (Self::NoToken, "no_token"),
        (Self::WrongToken, "wrong_token"),
        (Self::ForeignHost, "foreign_host"),
        (Self::CrossOrigin, "cross_origin"),
        (Self::NotJson, "not_json"),
        (Self::ForgedForm, "forged_form"),
    ];
}

impl Access {
    pub(super) fn new(config: &AdminConfig) -> Self {
        Self {
            token: config.token.as_ref().map(TokenHash::of_secret),
            metrics_token: config.metrics_token.as_ref().map(TokenHash::of_secret),
        }
    }

    /// Whether there is no token to sign in with.
    pub(super) fn is_open(&self) -> bool {
        self.token.is_none()
    }

    /// Judges a token that somebody typed.
    pub(super) fn check_token(&self, sent: &str) -> Result<(), Denied> {
        let sent = TokenHash::of(sent);
        let token = self.token.as_ref();
        let equal = token.is_some_and(|token| bool::from(token.equals(&sent)));
        if equal {
            Ok(())
        } else {
            Err(Denied::WrongToken)
        }
    }

    /// Judges who asks for `uri`: whoever has the token, or, where there is
    /// none, whoever names this machine.
    pub(super) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Denied> {
        let sent = bearer(headers).map(TokenHash::of);
        let opens = |token: &Option<TokenHash>| match (token, &sent) {
            (Some(token), Some(sent)) => token.equals(sent),
            _ => Choice::from(0),
        };
        let metrics = Choice::from(u8::from(uri.path() == "/metrics"));
        let open = opens(&self.token) | (opens(&self.metrics_token) & metrics);
        if bool::from(open) {
            Ok(())
        } else if self.token.is_some() && headers.contains_key(AUTHORIZATION) {
            Err(Denied::WrongToken)
        } else if self.token.is_some() {
            Err(Denied::NoToken)
        } else if host(uri, headers).is_some_and(is_local) {
            Ok(())
        } else {
            Err(Denied::ForeignHost)
        }
    }
}

/// Judges whether a program or a page of ours asks, and no other page in
/// somebody's browser.
pub(super) fn check_origin(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Denied> {
    if headers
        .get("sec-fetch-site")
        .is_some_and(|site| site == "cross-site")
    {
        return Err(Denied::CrossOrigin);
    }
    if method.is_safe() {
        return Ok(());
    }
    if is_own_origin(uri, headers) {
        Ok(())
    } else {
        Err(Denied::CrossOrigin)
    }
}

/// Judges whether a change looks like what no form can send.
pub(super) fn check_json(method: &Method, headers: &HeaderMap) -> Result<(), Denied> {
    if method.is_safe() || is_json(headers) {
        Ok(())
    } else {
        Err(Denied::NotJson)
    }
}

/// Whether the request names no origin, as programs do, or the very host that
/// it is sent to. The scheme is left out: a proxy in front may have ended TLS.
pub(super) fn is_own_origin(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let (Some(origin), more) = (origins.next(), origins.next()) else {
        return true;
    };
    let named = origin.to_str().ok().and_then(|origin| {
        let rest = origin.strip_prefix("http://");
        rest.or_else(|| origin.strip_prefix("https://"))
    });
    more.is_none() && named.is_some_and(|named| host(uri, headers) == Some(named))
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next(), kinds.next()) else {
        return false;
    };
    let kind = kind.to_str().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
        || kind.eq_ignore_ascii_case("application/x-ndjson")
}

/// The token of the one `Authorization: Bearer …` field.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return None;
    };
    let (scheme, token) = field.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The one host that the request names.
fn host<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    let mut fields = headers.get_all(HOST).iter();
    match (uri.authority(), fields.next(), fields.next()) {
        (Some(authority), _, None) => Some(authority.as_str()),
        (None, Some(field), None) => field.to_str().ok(),
        _ => None,
    }
}

/// Whether `host`, with or without a port, means this machine.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((ipv6, port)) if is_port(port) => ipv6,
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            Some(_) => return false,
            None => host,
        },
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn is_port(text: &str) -> bool {
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

/// A token's hash. Hashes are compared in constant time and tell nothing about
/// the token's length.
#[derive(Clone)]
struct TokenHash([u8; 32]);

impl TokenHash {
    fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    fn of_secret(token: &SecretString) -> Self {
        Self::of(token.expose_secret())
    }

    fn equals(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(token: Option<&str>, metrics_token: Option<&str>) -> Access {
        Access::new(&AdminConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            token: token.map(SecretString::from),
            metrics_token: metrics_token.map(SecretString::from),
        })
    }

    fn check(access: &Access, path: &str, fields: &[(&'static str, &str)]) -> Result<(), Denied> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        access.check(&path.parse().unwrap(), &headers)
    }

    #[test]
    fn a_token_opens_and_nothing_else_does() {
        let access = access(Some("s3cret"), Some("scrape"));
        let good = ("authorization", "Bearer s3cret");
        assert_eq!(check(&access, "/api/events/x", &[good]), Ok(()));
        let lower = ("authorization", "bearer s3cret");
        assert_eq!(check(&access, "/metrics", &[lower]), Ok(()));
        for fields in [
            &[][..],
            &[("host", "localhost")],
            &[("authorization", "Bearer s3cre")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Basic s3cret")],
            &[("authorization", "s3cret")],
            &[good, good],
            &[("authorization", "Bearer scrape")],
        ] {
            let denied = check(&access, "/api/events/x", fields);
            let expected = match fields.iter().any(|(name, _)| *name == "authorization") {
                true => Denied::WrongToken,
                false => Denied::NoToken,
            };
            assert_eq!(denied, Err(expected), "{fields:?}");
        }
        let scrape = ("authorization", "Bearer scrape");
        assert_eq!(check(&access, "/metrics", &[scrape]), Ok(()));
    }

    #[test]
    fn without_a_token_the_host_is_local() {
        let access = access(None, None);
        for host in [
            "localhost",
            "LOCALHOST:9090",
            "127.0.0.1:9090",
            "127.9.9.9",
            "[::1]:9090",
            "[::1]",
        ] {
            let found = check(&access, "/metrics", &[("host", host)]);
            assert_eq!(found, Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]",
            "[::1]evil",
            "localhost:evil",
            "",
        ] {
            let found = check(&access, "/metrics", &[("host", host)]);
            assert_eq!(found, Err(Denied::ForeignHost), "{host}");
        }
        assert_eq!(check(&access, "/metrics", &[]), Err(Denied::ForeignHost));
        let two = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(check(&access, "/metrics", &two), Err(Denied::ForeignHost));
        let http2 = check(&access, "http://localhost:9090/metrics", &[]);
        assert_eq!(http2, Ok(()));
        let http2 = check(&access, "http://evil.example/metrics", &[]);
        assert_eq!(http2, Err(Denied::ForeignHost));
    }

    #[test]
    fn a_change_comes_from_a_program_or_a_page_of_ours() {
        let judge = |method: Method, fields: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            headers.append("host", "localhost:9090".parse().unwrap());
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            check_origin(&method, &"/api/redeliver".parse().unwrap(), &headers)
                .and_then(|()| check_json(&method, &headers))
        };
        let json = ("content-type", "application/json; charset=utf-8");
        assert_eq!(judge(Method::POST, &[json]), Ok(()));
        let lines = ("content-type", "application/x-ndjson");
        assert_eq!(judge(Method::POST, &[lines]), Ok(()));
        for own in ["http://localhost:9090", "https://localhost:9090"] {
            let fields = [json, ("origin", own), ("sec-fetch-site", "same-origin")];
            assert_eq!(judge(Method::POST, &fields), Ok(()), "{own}");
        }
        for foreign in [
            "http://evil.example",
            "http://localhost",
            "http://localhost:9091",
            "null",
            "",
        ] {
            let denied = judge(Method::POST, &[json, ("origin", foreign)]);
            assert_eq!(denied, Err(Denied::CrossOrigin), "{foreign}");
        }
        let own = ("origin", "http://localhost:9090");
        let twice = judge(Method::POST, &[json, own, own]);
        assert_eq!(twice, Err(Denied::CrossOrigin));
        let site = ("sec-fetch-site", "cross-site");
        assert_eq!(judge(Method::POST, &[json, site]), Err(Denied::CrossOrigin));
        assert_eq!(judge(Method::GET, &[site]), Err(Denied::CrossOrigin));
        assert_eq!(judge(Method::GET, &[("origin", "null")]), Ok(()));
        for kind in ["application/x-www-form-urlencoded", "text/plain", ""] {
            let denied = judge(Method::POST, &[("content-type", kind)]);
            assert_eq!(denied, Err(Denied::NotJson), "{kind}");
        }
        assert_eq!(judge(Method::POST, &[]), Err(Denied::NotJson));
        assert_eq!(judge(Method::POST, &[json, json]), Err(Denied::NotJson));
    }

    #[test]
    fn no_token_reaches_any_output() {
        let access = access(Some("s3cret"), Some("scrape"));
        let debug = format!("{access:?}");
        assert!(!debug.contains("s3cret") && !debug.contains("scrape"));
    }
}
