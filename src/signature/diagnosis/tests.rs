//! Everything that is known to go wrong, and what is said about it.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use proptest::prelude::*;
use secrecy::SecretString;

use super::*;
use crate::signature::hmac_sha256::{self, Encoding, HmacConfig, HmacScheme};
use crate::signature::ims::{ImsConfig, ImsScheme, sign};
use crate::signature::{HeadVerdict, ReusePolicy};

const KEY: &str = "TestKey001TestKey001";
const OLD: &str = "OldKey0001OldKey0001";
const THEIRS: &str = "TheirKey01TheirKey01";
const URL: &str = "https://cb.example.com/ims";
const TIME: &str = "1795500000";
const NOW: i64 = 1_795_500_000;
const BODY: &str = r#"{"a": 1, "b": [2]}"#;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn ims(keys: &[&str], urls: &[&str], origin: Option<&str>) -> ImsScheme {
    ImsScheme::new(&ImsConfig {
        keys: keys.iter().map(|key| SecretString::from(*key)).collect(),
        callback_urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        public_origin: origin.map(str::to_owned),
        tolerance: Duration::from_secs(300),
        reuse: ReusePolicy::Note,
    })
    .unwrap()
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name: HeaderName = name.parse().unwrap();
        map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}

/// What a scheme says of a request, judged as the service does it; `None`
/// where it is let in. No key and no signature is ever told.
fn diagnosed(
    scheme: &dyn Scheme,
    others: &[OtherSource<'_>],
    target: &str,
    fields: &HeaderMap,
    body: &str,
) -> Option<String> {
    let uri: Uri = target.parse().unwrap();
    let head = RequestHead {
        uri: &uri,
        headers: fields,
    };
    let verdict = scheme.check_head(&head, at(NOW));
    let error = match verdict {
        Ok(HeadVerdict::Authentic(_)) => return None,
        Ok(HeadVerdict::NeedsBody(check)) => check.check(body.as_bytes()).err()?,
        Err(error) => error,
    };
    let findings = scheme.diagnose(&RefusedRequest {
        head,
        body: RefusedBody::Whole(body.as_bytes()),
        error,
        now: at(NOW),
        others,
    });
    let said: Vec<String> = findings.iter().map(Finding::to_string).collect();
    let said = said.join("; ");
    for secret in [KEY, OLD, THEIRS] {
        assert!(!said.contains(secret), "{said}");
    }
    for value in fields.values() {
        let value = value.to_str().unwrap();
        assert!(value.len() < 24 || !said.contains(value), "{said}");
    }
    Some(said)
}

/// What is said of a request signed like this.
fn signed(
    scheme: &ImsScheme,
    target: &str,
    url: &str,
    key: &str,
    further: &[(&str, &str)],
) -> String {
    let signature = sign(url, TIME, key);
    let mut fields = vec![("x-ice-signature", &*signature), ("x-ice-timestamp", TIME)];
    fields.extend(further);
    diagnosed(scheme, &[], target, &headers(&fields), "").expect("it is refused")
}

#[test]
fn another_spelling_of_the_url_is_found() {
    let scheme = ims(&[KEY], &["https://other.example.com/x", URL], None);
    for (url, said) in [
        (
            "http://cb.example.com/ims",
            "callback URL 2 with http instead of https (http://cb.example.com/ims)",
        ),
        ("https://cb.example.com:443/ims", "URL 2 with the port 443"),
        ("https://www.cb.example.com/ims", "URL 2 with www"),
        (
            "https://cb.example.com/ims/",
            "URL 2 with a slash at its end",
        ),
        (
            "https://cb.example.com/ims?job=7&token=s3cret",
            "URL 2 with the query string of the request (https://cb.example.com/ims?…)",
        ),
        (
            "http://cb.example.com:80/ims/",
            "URL 2 with http instead of https and with the port 80 and with a slash at its end",
        ),
        (
            "https%3A%2F%2Fcb%2Eexample%2Ecom%2Fims",
            "URL 2 percent-encoded as a whole (…)",
        ),
        (
            "https://cb.example.com/ims ",
            "URL 2 with a blank behind it",
        ),
        (
            " https://cb.example.com/ims",
            "URL 2 with a blank before it",
        ),
        (
            "https://other.example.com/own",
            "URL 1 with the request's own path",
        ),
    ] {
        let found = signed(&scheme, "/own?job=7&token=s3cret", url, KEY, &[]);
        assert!(found.contains(said), "{url}: {found}");
        assert!(found.contains("matches with key 1, over"), "{found}");
        assert!(!found.contains("s3cret"), "{found}");
    }
}

#[test]
fn what_is_written_too_precisely_is_found() {
    for (configured, url, said) in [
        ("http://a/x", "https://a/x", "with https instead of http"),
        ("https://a:8443/x", "https://a/x", "without its port"),
        ("https://www.a/x", "https://a/x", "without www"),
        (
            "https://a/x/",
            "https://a/x",
            "without the slash at its end",
        ),
        ("https://a", "https://a/", "with a slash at its end"),
        ("https://a/x?y=z", "https://a/x", "without its query string"),
        ("https://A/x", "https://a/x", "with its host in lower case"),
        ("https://a/X", "https://a/x", "all in lower case"),
        ("https://a/%C3%A4", "https://a/ä", "percent-decoded"),
        ("https://a/ä", "https://a/%C3%A4", "percent-encoded"),
    ] {
        let scheme = ims(&[KEY], &[configured], None);
        let found = signed(&scheme, "/q", url, KEY, &[]);
        assert!(found.contains(said), "{configured} {url}: {found}");
    }
}

#[test]
fn the_host_and_the_path_that_the_request_names_are_tried() {
    let scheme = ims(&[KEY], &[URL], Some("https://pub.example.com"));
    let forwarded = [
        ("host", "10.0.0.1:8080"),
        ("x-forwarded-host", "api.example.com, lb"),
        ("x-original-uri", "/hooks/ims?a=b"),
    ];
    for (url, further, said) in [
        (
            "https://api.example.com/in?a=b",
            &[("host", "api.example.com")][..],
            "over the request's own host and the request's own path (https://api.example.com/in?…)",
        ),
        (
            "https://api.example.com/hooks/ims?a=b",
            &forwarded,
            "over the host in X-Forwarded-Host and the request's own path (https://api.example.com/hooks/ims?…)",
        ),
        (
            "https://pub.example.com/in",
            &[],
            "over public_origin and the request's own path and query without its query string",
        ),
    ] {
        let found = signed(&scheme, "/in?a=b", url, KEY, further);
        assert!(found.contains(said), "{url}: {found}");
    }
}

#[test]
fn other_keys_are_found() {
    let scheme = ims(&[OLD, KEY], &[URL], None);
    scheme
        .key_ring()
        .unwrap()
        .replace(&[KEY.into()], at(NOW - 60))
        .unwrap();
    for (key, said) in [
        (
            OLD.to_owned(),
            "a key that was removed at 2026-11-24T05:59:00Z, over callback URL 1",
        ),
        (format!("{KEY}\n"), "key 1 and a line end behind it"),
        (format!("{KEY}\r\n"), "key 1 and a line end behind it"),
        (format!(" {KEY}"), "key 1 and a blank before it"),
        (format!("{KEY} "), "key 1 and a blank behind it"),
        (format!("\"{KEY}\""), "key 1 in quotation marks"),
        (KEY.to_lowercase(), "key 1 in lower case"),
        (KEY.to_uppercase(), "key 1 in upper case"),
    ] {
        let found = signed(&scheme, "/ims", URL, &key, &[]);
        assert!(found.contains(said), "{key:?}: {found}");
    }
    let both = signed(&scheme, "/ims", "http://cb.example.com/ims", OLD, &[]);
    assert!(
        both.contains("was removed") && both.contains("with http instead"),
        "{both}"
    );
    scheme.key_ring().unwrap().forget_retired(at(NOW + 90_000));
    let forgotten = signed(&scheme, "/ims", URL, OLD, &[]);
    assert!(forgotten.contains("no key that is known"), "{forgotten}");
}

#[test]
fn another_source_is_found_by_its_name_alone() {
    let scheme = ims(&[KEY], &[URL], None);
    let theirs = ims(&[THEIRS], &["https://cb.example.com/theirs"], None);
    let name = SourceName::new("staging").unwrap();
    let others = [OtherSource {
        name: &name,
        scheme: &theirs,
    }];
    for (url, key, said) in [
        (
            "https://cb.example.com/theirs",
            THEIRS,
            "source staging would let it in",
        ),
        (
            URL,
            THEIRS,
            "with a key of source staging, over callback URL 1",
        ),
        (
            "https://cb.example.com/theirs",
            KEY,
            "key 1, over a callback URL of source staging",
        ),
    ] {
        let signature = sign(url, TIME, key);
        let fields = headers(&[("x-ice-signature", &signature), ("x-ice-timestamp", TIME)]);
        let found = diagnosed(&scheme, &others, "/ims", &fields, "").unwrap();
        assert!(found.contains(said), "{found}");
    }
}

#[test]
fn timestamps_and_digests_of_another_form_are_found() {
    let scheme = ims(&[KEY], &[URL], None);
    let right = sign(URL, TIME, KEY);
    let base64 = {
        use base64::Engine as _;
        let digest: [u8; 16] = crate::signature::parts::from_hex(right.as_bytes()).unwrap();
        base64::engine::general_purpose::STANDARD.encode(digest)
    };
    let millis = format!("{TIME}123");
    let early = (NOW - 8 * 3600 - 20).to_string();
    let late = (NOW - 900).to_string();
    for (signature, timestamp, said) in [
        (base64, TIME, "written in Base64 instead of hex"),
        (
            format!("md5={right}"),
            TIME,
            "with something around the 32 hexadecimal digits",
        ),
        (
            format!("\"{right}\""),
            TIME,
            "with something around the 32 hexadecimal digits",
        ),
        (
            "abc".to_owned(),
            TIME,
            "is not 32 hexadecimal digits: it has 3 characters",
        ),
        (
            sign(URL, &millis, KEY),
            &*millis,
            "in milliseconds, not in seconds",
        ),
        (
            right.clone(),
            &*millis,
            "signed with the timestamp in seconds",
        ),
        (
            sign(URL, &format!("{TIME}000"), KEY),
            TIME,
            "signed with the timestamp in milliseconds",
        ),
        (
            sign(URL, "yesterday", KEY),
            "yesterday",
            "no number of UNIX seconds; the signature matches",
        ),
        (
            sign(URL, &early, KEY),
            &*early,
            "8 h behind ours, or the request was held up on its way or sent again; the difference is 8 hours exactly",
        ),
        (
            sign(URL, &late, KEY),
            &*late,
            "the sender's clock is 15 min behind ours",
        ),
        (
            sign("http://cb.example.com/ims", &late, KEY),
            &*late,
            "with http instead of https (http://cb.example.com/ims); the sender's clock is 15 min behind",
        ),
    ] {
        let fields = headers(&[
            ("x-ice-signature", &signature),
            ("x-ice-timestamp", timestamp),
        ]);
        let found = diagnosed(&scheme, &[], "/ims", &fields, "").unwrap();
        assert!(found.contains(said), "{said}: {found}");
    }
}

#[test]
fn missing_and_repeated_headers_are_explained() {
    let scheme = ims(&[KEY], &[URL], None);
    let (s, t) = (("x-ice-signature", "1"), ("x-ice-timestamp", TIME));
    for (fields, said) in [
        (&[][..], "no signature at all"),
        (&[s], "the header x-ice-timestamp is missing"),
        (
            &[t, ("via", "1.1 x")],
            "x-ice-signature is missing; it came through a proxy (via is there)",
        ),
        (
            &[("x-forwarded-for", "a"), ("via", "b")],
            "no signature at all: authentication is off at the sender, or it is somebody else; it came through a proxy (via, x-forwarded-for is there)",
        ),
        (
            &[("x_ice_signature", "1"), t],
            "X_ICE_SIGNATURE is there, with underscores",
        ),
        (
            &[("x-vod-signature", "1"), ("x-vod-timestamp", TIME)],
            "ApsaraVideo VOD",
        ),
        (&[("ali-live-signature", "1")], "ApsaraVideo Live"),
        (&[("webhook-signature", "v1,x")], "Standard Webhooks"),
        (
            &[s, s, t],
            "x-ice-signature came 2 times, each time the same",
        ),
        (
            &[s, t, ("x-ice-timestamp", "1")],
            "x-ice-timestamp came 2 times, and not the same",
        ),
    ] {
        let found = diagnosed(&scheme, &[], "/ims", &headers(fields), "").unwrap();
        assert!(found.contains(said), "{said}: {found}");
    }
}

#[test]
fn what_nothing_fits_says_how_much_was_tried() {
    let scheme = ims(&[KEY, OLD], &[URL], None);
    let found = signed(&scheme, "/ims", URL, "SomebodyElse", &[]);
    assert!(
        found.starts_with("no key that is known gives this signature: tried 18, over "),
        "{found}"
    );
    let many: Vec<String> = (0..32)
        .map(|n| format!("https://h{n}.example.com/{n}"))
        .collect();
    let urls: Vec<&str> = many.iter().map(String::as_str).collect();
    let keys: Vec<String> = (0..32).map(|n| format!("Key{n:020}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let began = std::time::Instant::now();
    let found = signed(
        &ims(&keys, &urls, None),
        "/ims?a=b",
        URL,
        "SomebodyElse",
        &[],
    );
    assert!(found.contains("no key that is known"), "{found}");
    // Unoptimised, and beside other tests; optimised it is some milliseconds.
    assert!(began.elapsed() < Duration::from_secs(5), "it is bounded");
}

fn relay(timestamp: bool) -> HmacScheme {
    HmacScheme::new(&HmacConfig {
        keys: vec![KEY.into()],
        header: HeaderName::from_static("x-signature"),
        prefix: "sha256=".to_owned(),
        encoding: Encoding::Hex,
        timestamp_header: timestamp.then(|| HeaderName::from_static("x-sent")),
        tolerance: Duration::from_secs(300),
    })
    .unwrap()
}

#[test]
fn a_signed_body_is_tried_in_other_forms() {
    let scheme = relay(true);
    let hex = |stamp, body: &str, key| {
        let signature = hmac_sha256::sign(key, stamp, body.as_bytes(), Encoding::Hex);
        format!("sha256={signature}")
    };
    let right = hex(Some(TIME), BODY, KEY);
    let base64 = hmac_sha256::sign(KEY, Some(TIME), BODY.as_bytes(), Encoding::Base64);
    let url_safe = base64.replace('+', "-").replace('/', "_");
    for (signature, said) in [
        (
            right.replace("sha256=", ""),
            "without the configured prefix",
        ),
        (right.replace("sha256=", "v1,"), "with another prefix"),
        (
            format!("sha256={base64}"),
            "written in Base64 instead of hex",
        ),
        (
            format!("sha256={}", url_safe.trim_end_matches('=')),
            "written in Base64",
        ),
        (
            hex(None, BODY, KEY),
            "over the body alone, without the timestamp",
        ),
        (hex(None, &format!("{TIME}{BODY}"), KEY), "without the dot"),
        (
            hex(Some(TIME), &format!("{BODY}\n"), KEY),
            "with a line end, which was lost",
        ),
        (
            hex(Some(TIME), r#"{"a":1,"b":[2]}"#, KEY),
            "without blanks between its tokens",
        ),
        (hex(Some(TIME), "", KEY), "over an empty body"),
        (
            hex(Some(TIME), BODY, &format!("{KEY}\n")),
            "key 1 and a line end behind it",
        ),
        (
            hex(Some(TIME), BODY, OLD),
            "no key that is known gives this signature",
        ),
        ("sha256=abc".to_owned(), "is not 64 hexadecimal digits"),
    ] {
        let fields = headers(&[("x-signature", &signature), ("x-sent", TIME)]);
        let found = diagnosed(&scheme, &[], "/r", &fields, BODY).unwrap();
        assert!(found.contains(said), "{said}: {found}");
    }
    let ended = format!("{BODY}\n");
    let fields = headers(&[("x-signature", &right), ("x-sent", TIME)]);
    let found = diagnosed(&scheme, &[], "/r", &fields, &ended).unwrap();
    assert!(found.contains("without the blanks around it"), "{found}");
}

#[test]
fn a_relays_other_mistakes_are_told_too() {
    let scheme = relay(true);
    let (s, millis) = (("x-signature", "sha256=1"), format!("{TIME}000"));
    for (fields, said) in [
        (&[("x-sent", "1795499000"), s][..], "16 min behind ours"),
        (&[("x-sent", &*millis), s], "in milliseconds"),
        (
            &[("x-sent", "now"), ("x-signature", "sha256=1")],
            "no number of UNIX seconds",
        ),
        (
            &[("x-ice-signature", "1"), ("x-ice-timestamp", TIME)],
            "for which the scheme is \"ims\"",
        ),
        (&[s], "the header x-sent is missing"),
    ] {
        let found = diagnosed(&scheme, &[], "/r", &headers(fields), BODY).unwrap();
        assert!(found.contains(said), "{said}: {found}");
    }
    let fields = headers(&[
        ("x-signature", &format!("sha256={}", "0".repeat(64))),
        ("x-sent", TIME),
    ]);
    let findings = scheme.diagnose(&RefusedRequest {
        head: RequestHead {
            uri: &Uri::from_static("/r"),
            headers: &fields,
        },
        body: RefusedBody::TooLarge(100_000),
        error: SignatureError::Mismatch,
        now: at(NOW),
        others: &[],
    });
    assert_eq!(findings, [Finding::BodyTooLarge { bytes: 100_000 }]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_request_makes_it_panic(
        signature in "\\PC{0,70}",
        stamp in "[0-9]{0,16}|\\PC{0,16}",
        host in "\\PC{0,20}",
        target in "/[a-z%/?=&.:@]{0,20}",
        url in "(https?://)?\\PC{0,20}",
        body in "\\PC{0,20}",
    ) {
        let fields = [
            ("x-ice-signature", &*signature),
            ("x-ice-timestamp", &*stamp),
            ("x-signature", &*signature),
            ("x-sent", &*stamp),
            ("host", &*host),
            ("x-forwarded-host", &*host),
            ("x-original-uri", &*target),
        ];
        let fields = fields.into_iter().filter_map(|(name, value)| {
            Some((HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).ok()?))
        });
        let fields: HeaderMap = fields.collect();
        let Ok(uri) = target.parse::<Uri>() else {
            return Ok(());
        };
        let ims = ims(&[KEY, OLD], &[&url], Some("https://pub.example.com"));
        let (stamped, plain) = (relay(true), relay(false));
        let schemes: [&dyn Scheme; 3] = [&ims, &stamped, &plain];
        for error in [
            SignatureError::Missing,
            SignatureError::RepeatedHeader,
            SignatureError::Mismatch,
            SignatureError::Stale { skew_seconds: i64::MAX },
            SignatureError::Future { skew_seconds: i64::MIN },
        ] {
            for scheme in schemes {
                let findings = scheme.diagnose(&RefusedRequest {
                    head: RequestHead { uri: &uri, headers: &fields },
                    body: RefusedBody::Whole(body.as_bytes()),
                    error,
                    now: at(NOW),
                    others: &[],
                });
                for finding in findings {
                    prop_assert!(!finding.to_string().contains(KEY));
                }
            }
        }
    }
}
