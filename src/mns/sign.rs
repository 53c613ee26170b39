//! Signature V2 of the MNS API: HMAC-SHA1 over the request as it goes over
//! the wire. Pure; the emulator of the tests checks requests with it as well.

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, DATE};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

/// The headers of the protocol begin with this, and each of them is signed.
const OWN_PREFIX: &str = "x-mns-";

/// What is signed: the verb, three headers, every `x-mns-` header, and the
/// request's target exactly as it stands on the request line.
pub fn string_to_sign(verb: &str, target: &str, headers: &HeaderMap) -> String {
    let value = |name: &str| text(headers.get(name));
    let date = match value("x-mns-date") {
        "" => value(DATE.as_str()),
        own => own,
    };
    let mut own: Vec<(&str, &str)> = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with(OWN_PREFIX))
        .map(|(name, value)| (name.as_str(), text(Some(value))))
        .collect();
    own.sort_unstable();
    let own: String = own
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let (md5, content_type) = (value("content-md5"), value(CONTENT_TYPE.as_str()));
    format!("{verb}\n{md5}\n{content_type}\n{date}\n{own}{target}")
}

/// The value of `Authorization` for a request that is otherwise complete.
pub fn authorization(
    access_key_id: &str,
    access_key_secret: &str,
    verb: &str,
    target: &str,
    headers: &HeaderMap,
) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(access_key_secret.as_bytes())
        .expect("an HMAC takes a key of any length");
    mac.update(string_to_sign(verb, target, headers).as_bytes());
    let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    format!("MNS {access_key_id}:{signature}")
}

fn text(value: Option<&axum::http::HeaderValue>) -> &str {
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .trim()
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use serde_json::Value;

    use super::*;

    /// Made by the official SDKs; see the file.
    const VECTORS: &str = include_str!("../../tests/fixtures/mns/signature-vectors.json");

    #[test]
    fn all_published_vectors_come_out_exactly() {
        let file: Value = serde_json::from_str(VECTORS).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        assert_eq!(vectors.len(), 28);
        for vector in vectors {
            let text = |key: &str| vector[key].as_str().unwrap();
            let headers: HeaderMap = vector["headers"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| {
                    let name = HeaderName::try_from(name).unwrap();
                    (
                        name,
                        HeaderValue::from_str(value.as_str().unwrap()).unwrap(),
                    )
                })
                .collect();
            let (verb, target) = (text("verb"), text("resource"));
            let name = text("name");
            assert_eq!(
                string_to_sign(verb, target, &headers),
                text("string_to_sign"),
                "{name}"
            );
            let (id, secret) = (text("access_key_id"), text("access_key_secret"));
            assert_eq!(
                authorization(id, secret, verb, target, &headers),
                text("authorization"),
                "{name}"
            );
        }
    }

    #[test]
    fn every_part_of_a_request_changes_its_signature() {
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            let pair = |(name, value): &(&'static str, &'static str)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            };
            pairs.iter().map(pair).collect()
        };
        let own = [("date", "a"), ("x-mns-version", "2015-06-06")];
        let base = authorization("id", "secret", "GET", "/queues/q", &headers(&own));
        for other in [
            authorization("id", "other", "GET", "/queues/q", &headers(&own)),
            authorization("id", "secret", "PUT", "/queues/q", &headers(&own)),
            authorization("id", "secret", "GET", "/queues/q?a=b", &headers(&own)),
            authorization("id", "secret", "GET", "/queues/q", &headers(&own[..1])),
            authorization("id", "secret", "GET", "/queues/q", &headers(&own[1..])),
        ] {
            assert_ne!(base, other);
        }
    }
}
