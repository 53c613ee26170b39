//! A refused request, as far as it is kept until somebody has looked at it,
//! and what there is to say about it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::header::{HOST, USER_AGENT};
use axum::http::{HeaderMap, HeaderName, Uri};
use bytes::Bytes;
use ipnet::IpNet;
use jiff::Timestamp;

use super::list::{Facts, RefusalView};
use super::{Refusal, no_source};
use crate::ingest::Source;
use crate::request::RequestHead;
use crate::server::TrustedProxies;
use crate::server::admin::Time;
use crate::server::peer::X_FORWARDED_FOR;
use crate::signature::{HeadVerdict, OtherSource, RefusedBody, RefusedRequest, SignatureError};

/// A larger body is not kept to try things on.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A sender's text is shown up to so many bytes.
const TEXT_BYTES_MAX: usize = 128;

/// Names of so many parameters are shown.
const PARAMETERS_MAX: usize = 16;

/// One sentence of a diagnosis takes at most so many bytes.
const SENTENCE_BYTES_MAX: usize = 512;

/// A request that was turned away. Cannot be printed, since its head holds what
/// is secret.
pub(in crate::server) struct Sighting {
    /// `None` where its path is no source's.
    source: Option<Arc<Source>>,
    refusal: Refusal,
    at: Timestamp,
    connection: IpAddr,
    peer: Option<IpAddr>,
    uri: Uri,
    headers: HeaderMap,
    body: SightedBody,
}

/// What is kept of a refused request's body.
enum SightedBody {
    Unread,
    TooLarge(usize),
    Whole(Bytes),
}

/// Where a refused request came from.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Origin {
    pub(in crate::server) connection: IpAddr,
    pub(in crate::server) peer: Option<IpAddr>,
    /// When it was judged.
    pub(in crate::server) at: Timestamp,
}

impl Sighting {
    pub(in crate::server) fn new(
        source: Option<Arc<Source>>,
        refusal: Refusal,
        origin: Origin,
        head: (Uri, HeaderMap),
        body: Option<&Bytes>,
    ) -> Self {
        let (uri, headers) = head;
        Self {
            source,
            refusal,
            at: origin.at,
            connection: origin.connection,
            peer: origin.peer,
            uri,
            headers,
            body: match body {
                None => SightedBody::Unread,
                Some(body) if body.len() > BODY_BYTES_MAX => SightedBody::TooLarge(body.len()),
                Some(body) => SightedBody::Whole(body.clone()),
            },
        }
    }

    /// Looks at it, which takes a millisecond or many.
    pub(super) fn diagnose(
        &self,
        sources: &[Arc<Source>],
        proxies: &TrustedProxies,
    ) -> RefusalView {
        let head = RequestHead {
            uri: &self.uri,
            headers: &self.headers,
        };
        let diagnosis = match (self.refusal, &self.source) {
            (Refusal::NoSource, _) | (_, None) => no_source::findings(sources, &head, self.at),
            (Refusal::Signature(error), Some(source)) => signature_findings(
                source,
                sources,
                &RefusedRequest {
                    head,
                    body: self.body.as_refused(),
                    error,
                    now: self.at,
                    others: &[],
                },
            ),
            (Refusal::Peer, Some(source)) => {
                let connection = Some(self.connection);
                let mut found =
                    peer_findings(source, proxies, connection, self.peer, &self.headers);
                found.extend(signature_too(source, &head, self.at));
                found
            }
            (Refusal::Reused(reused), Some(_)) => vec![format!(
                "{reused}: somebody has seen that request and sends it with a body of their own, or the sender signs once for many events"
            )],
        };
        let diagnosis = diagnosis.into_iter();
        RefusalView {
            at: Time(self.at),
            first_at: Time(self.at),
            source: self.source.as_ref().map(|source| source.name().clone()),
            path: cut(self.uri.path(), TEXT_BYTES_MAX),
            peer: self.peer,
            reason: self.refusal.reason(),
            skew_seconds: self.refusal.skew_seconds(),
            diagnosis: diagnosis
                .map(|sentence| cut(&sentence, SENTENCE_BYTES_MAX))
                .collect(),
            facts: facts(&self.uri, &self.headers),
            count: 1,
        }
    }
}

impl SightedBody {
    fn as_refused(&self) -> RefusedBody<'_> {
        match self {
            Self::Unread => RefusedBody::Unread,
            Self::TooLarge(bytes) => RefusedBody::TooLarge(*bytes),
            Self::Whole(body) => RefusedBody::Whole(body),
        }
    }
}

/// What the scheme of `source` finds, knowing of the other sources.
pub(in crate::server) fn signature_findings(
    source: &Source,
    sources: &[Arc<Source>],
    refused: &RefusedRequest<'_>,
) -> Vec<String> {
    let others = sources
        .iter()
        .filter(|other| other.name() != source.name())
        .map(|other| other.as_other());
    let others: Vec<OtherSource<'_>> = others.collect();
    let refused = RefusedRequest {
        others: &others,
        ..*refused
    };
    let findings = source.diagnose(&refused).into_iter();
    findings.map(|finding| finding.to_string()).collect()
}

/// Why a peer is not let in. `connection` is `None` where there was none, as
/// for a captured request.
pub(in crate::server) fn peer_findings(
    source: &Source,
    proxies: &TrustedProxies,
    connection: Option<IpAddr>,
    peer: Option<IpAddr>,
    headers: &HeaderMap,
) -> Vec<String> {
    let Some(peer) = peer else {
        return vec!["X-Forwarded-For cannot be read, so that nobody knows who sent it".to_owned()];
    };
    let mut found = vec![format!("allow_from does not contain {peer}")];
    let Some(connection) = connection else {
        return found;
    };
    if !headers.contains_key(X_FORWARDED_FOR) {
        return found;
    }
    if proxies.trusts(connection) {
        found.push(format!("the trusted proxy {connection} names that address"));
        return found;
    }
    let alone = [IpNet::from(connection.to_canonical())];
    let forwarded = TrustedProxies::new(&alone).peer(connection, headers);
    let allowed = if source.admits(forwarded) {
        "; the address that it forwards is in allow_from"
    } else {
        ""
    };
    found.push(format!(
        "X-Forwarded-For is there, and {connection} is not in server.trusted_proxies: if that is your proxy, add it{allowed}"
    ));
    found
}

/// Whether the signature of somebody who may not send is right all the same.
fn signature_too(source: &Source, head: &RequestHead<'_>, at: Timestamp) -> Option<String> {
    let said = match source.check_head(head, at) {
        Ok(HeadVerdict::Authentic(verified)) => {
            // Where nothing is signed nothing is right.
            verified.key()?;
            "its signature is right: it is the sender, from an address that is not allowed"
        }
        Err(SignatureError::Stale { .. } | SignatureError::Future { .. }) => {
            "its signature is right and its timestamp is not"
        }
        Err(SignatureError::Mismatch) => "its signature is not right either",
        Err(SignatureError::Missing) => "it has no signature either",
        Err(SignatureError::RepeatedHeader) | Ok(HeadVerdict::NeedsBody(_)) => return None,
    };
    Some(said.to_owned())
}

fn facts(uri: &Uri, headers: &HeaderMap) -> Facts {
    let text = |name: HeaderName| {
        let value = headers.get(name)?;
        let text = String::from_utf8_lossy(value.as_bytes());
        Some(cut(&text, TEXT_BYTES_MAX))
    };
    let authority = uri.authority().map(|authority| {
        // A user and a password may stand before it.
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        cut(host, TEXT_BYTES_MAX)
    });
    Facts {
        host: authority.or_else(|| text(HOST)),
        user_agent: text(USER_AGENT),
        parameters: parameters(uri.query().unwrap_or_default()),
        forwarded: headers.contains_key(X_FORWARDED_FOR),
    }
}

/// The names in a query. What has no value may be one itself, and so may what
/// ends in the padding of Base64.
fn parameters(query: &str) -> Vec<String> {
    let named = query.split('&').filter_map(|pair| pair.split_once('='));
    named
        .filter(|(_, value)| !value.is_empty() && !value.starts_with('='))
        .map(|(name, _)| cut(name, TEXT_BYTES_MAX / 2))
        .take(PARAMETERS_MAX)
        .collect()
}

/// The beginning of a text.
fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_query_only_names_are_kept() {
        assert_eq!(parameters("token=x&a=b=c&&d=e"), ["token", "a", "d"]);
        for secret in ["c2VjcmV0", "c2VjcmV0==", "c2VjcmV0=", ""] {
            assert!(parameters(secret).is_empty(), "{secret}");
        }
        assert_eq!(parameters(&"a=b&".repeat(100)).len(), PARAMETERS_MAX);
        assert!(parameters(&format!("{}=b", "ä".repeat(500)))[0].len() < 70);
    }
}
