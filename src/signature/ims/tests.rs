//! The scheme of IMS against its documented vectors and against forgers.

use axum::http::{HeaderValue, Uri};
use proptest::prelude::*;

use super::*;

const URL: &str = "https://www.example.com/your/callback";
const TIME: &str = "1519375990";
const KEY: &str = "test123";

fn config(keys: &[&str], urls: &[&str]) -> ImsConfig {
    ImsConfig {
        keys: keys.iter().map(|key| SecretString::from(*key)).collect(),
        callback_urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        public_origin: None,
        tolerance: Duration::from_secs(300),
        reuse: ReusePolicy::Note,
    }
}

fn scheme(keys: &[&str], urls: &[&str]) -> ImsScheme {
    ImsScheme::new(&config(keys, urls)).unwrap()
}

fn judge_at(
    scheme: &ImsScheme,
    target: &str,
    headers: &[(&str, &str)],
    now: i64,
) -> Result<Verified, SignatureError> {
    let uri: Uri = target.parse().unwrap();
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let head = RequestHead {
        uri: &uri,
        headers: &map,
    };
    match scheme.check_head(&head, Timestamp::from_second(now).unwrap())? {
        HeadVerdict::Authentic(verified) => Ok(verified),
        HeadVerdict::NeedsBody(_) => panic!("the scheme never needs the body"),
    }
}

fn judge(scheme: &ImsScheme, signature: &str, timestamp: &str) -> Result<Verified, SignatureError> {
    let headers = [
        ("X-ICE-SIGNATURE", signature),
        ("X-ICE-TIMESTAMP", timestamp),
    ];
    judge_at(scheme, "/", &headers, 1_519_375_990)
}

#[test]
fn the_documented_vectors_hold() {
    let vectors = include_str!("../../../tests/fixtures/signatures/ims.json");
    let vectors: Vec<serde_json::Value> = serde_json::from_str(vectors).unwrap();
    assert!(vectors.len() >= 4);
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        let signature = sign(text("url"), text("timestamp"), text("key"));
        assert_eq!(signature, text("signature"), "{vector}");
    }
    assert_eq!(sign(URL, TIME, KEY), "c72b60894140fa98920f1279219b7ed4");
}

#[test]
fn the_signature_may_be_written_in_either_case() {
    let scheme = scheme(&[KEY], &[URL]);
    for signature in [sign(URL, TIME, KEY), sign(URL, TIME, KEY).to_uppercase()] {
        let verified = judge(&scheme, &signature, TIME).unwrap();
        assert_eq!(verified.key(), Some(1));
        assert_eq!(verified.url(), Some(1));
        assert_eq!(verified.skew_seconds(), Some(0));
        assert_eq!(verified.scheme(), SchemeName::Ims);
    }
}

#[test]
fn every_key_goes_with_every_url_and_the_positions_are_kept() {
    let (keys, urls) = (["new", "old", "older"], ["http://a/x", "http://b/x"]);
    let scheme = scheme(&keys, &urls);
    for (key, secret) in (1..).zip(keys) {
        for (url, text) in (1..).zip(urls) {
            let verified = judge(&scheme, &sign(text, TIME, secret), TIME).unwrap();
            assert_eq!((verified.key(), verified.url()), (Some(key), Some(url)));
        }
    }
}

#[test]
fn the_public_origin_goes_with_the_requests_own_target() {
    let mut config = config(&["k1", "k2"], &[URL]);
    config.public_origin = Some("https://cb.example.com/".into());
    let scheme = ImsScheme::new(&config).unwrap();
    let signature = sign("https://cb.example.com/ims?job=7%20x", TIME, "k2");
    let headers = [("X-ICE-SIGNATURE", &*signature), ("X-ICE-TIMESTAMP", TIME)];
    let judge = |target| judge_at(&scheme, target, &headers, 1_519_375_990);

    let verified = judge("/ims?job=7%20x").unwrap();
    assert_eq!((verified.key(), verified.url()), (Some(2), None));
    assert!(
        serde_json::to_string(&verified)
            .unwrap()
            .contains("public_origin")
    );
    assert_eq!(judge("/ims?job=8%20x"), Err(SignatureError::Mismatch));
    assert_eq!(judge("/ims"), Err(SignatureError::Mismatch));

    let configured = sign(URL, TIME, "k1");
    let headers = [("X-ICE-SIGNATURE", &*configured), ("X-ICE-TIMESTAMP", TIME)];
    let verified = judge_at(&scheme, "/ims", &headers, 1_519_375_990).unwrap();
    assert_eq!((verified.key(), verified.url()), (Some(1), Some(1)));
}

#[test]
fn missing_comes_before_repeated() {
    let scheme = scheme(&[KEY], &[URL]);
    let signature = sign(URL, TIME, KEY);
    let (s, t) = (("x-ice-signature", &*signature), ("x-ice-timestamp", TIME));
    let judge = |headers: &[_]| judge_at(&scheme, "/", headers, 1_519_375_990);

    for headers in [&[][..], &[s], &[t], &[s, s], &[t, t]] {
        assert_eq!(judge(headers), Err(SignatureError::Missing), "{headers:?}");
    }
    for headers in [&[s, s, t], &[s, t, t], &[t, s, s]] {
        assert_eq!(
            judge(headers),
            Err(SignatureError::RepeatedHeader),
            "{headers:?}"
        );
    }
}

#[test]
fn what_is_no_number_or_no_digest_is_a_mismatch() {
    let scheme = scheme(&[KEY], &[URL]);
    for time in [
        "",
        "abc",
        "-1519375990",
        "+1519375990",
        "1519375990.0",
        "15193759 90",
        "1５",
    ] {
        let refused = judge(&scheme, &sign(URL, time, KEY), time);
        assert_eq!(refused, Err(SignatureError::Mismatch), "{time}");
    }
    let right = sign(URL, TIME, KEY);
    for signature in [
        "",
        "0",
        &right[1..],
        &format!("{right}0"),
        &"g".repeat(32),
        &"é".repeat(16),
    ] {
        let refused = judge(&scheme, signature, TIME);
        assert_eq!(refused, Err(SignatureError::Mismatch), "{signature}");
    }
}

#[test]
fn the_clock_is_only_blamed_where_the_signature_is_right() {
    let scheme = scheme(&[KEY], &[URL]);
    let sent = 1_519_375_990;
    let at = |signature: &str, timestamp: &str, now| {
        let headers = [
            ("X-ICE-SIGNATURE", signature),
            ("X-ICE-TIMESTAMP", timestamp),
        ];
        judge_at(&scheme, "/", &headers, now)
    };
    let right = sign(URL, TIME, KEY);
    for (now, skew) in [(sent + 300, 300), (sent - 300, -300), (sent, 0)] {
        assert_eq!(at(&right, TIME, now).unwrap().skew_seconds(), Some(skew));
    }
    assert_eq!(
        at(&right, TIME, sent + 301),
        Err(SignatureError::Stale { skew_seconds: 301 })
    );
    assert_eq!(
        at(&right, TIME, sent - 301),
        Err(SignatureError::Future { skew_seconds: -301 })
    );
    let wrong = sign(URL, TIME, "other");
    assert_eq!(at(&wrong, TIME, sent + 301), Err(SignatureError::Mismatch));
    let endless = "9".repeat(40);
    let refused = at(&sign(URL, &endless, KEY), &endless, sent).unwrap_err();
    assert_eq!(refused.reason(), "future");
}

#[test]
fn nothing_that_could_match_everybody_can_be_built() {
    assert_eq!(
        ImsScheme::new(&config(&[], &[URL])).unwrap_err(),
        SchemeError::NoKey
    );
    let refused = ImsScheme::new(&config(&["good", ""], &[URL])).unwrap_err();
    assert_eq!(refused, SchemeError::EmptyKey { position: 2 });
    assert_eq!(
        ImsScheme::new(&config(&[KEY], &[])).unwrap_err(),
        SchemeError::NoUrl
    );
}

#[test]
fn debug_output_shows_no_secret() {
    let scheme = scheme(&["Tops3cret"], &["https://cb.example.com/?token=Tops3cret"]);
    assert!(!format!("{scheme:?}").contains("Tops3cret"));
}

#[test]
fn the_time_of_sending_is_read_without_judging_it() {
    let scheme = scheme(&[KEY], &[URL]);
    let mut headers = HeaderMap::new();
    assert_eq!(scheme.sent_at(&headers), None);
    headers.append(TIMESTAMP_HEADER, HeaderValue::from_static(TIME));
    assert_eq!(scheme.sent_at(&headers).unwrap().as_second(), 1_519_375_990);
    headers.append(TIMESTAMP_HEADER, HeaderValue::from_static(TIME));
    assert_eq!(scheme.sent_at(&headers), None);
}

fn flipped(text: &str, bit: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let bit = bit % (bytes.len() * 7);
    bytes[bit / 7] ^= 1 << (bit % 7);
    String::from_utf8(bytes).unwrap()
}

proptest! {
    #[test]
    fn one_flipped_bit_never_verifies(
        url in "https?://[a-z.]{1,30}/[a-z0-9/?=&]{0,40}",
        time in 1_000_000_000_i64..10_000_000_000,
        key in "[A-Za-z0-9]{1,32}",
        bit in any::<usize>(),
    ) {
        let timestamp = time.to_string();
        let right = sign(&url, &timestamp, &key);
        let judge = |url: &str, timestamp: &str, key: &str, signature: &str| {
            let headers = [("x-ice-signature", signature), ("x-ice-timestamp", timestamp)];
            judge_at(&scheme(&[key], &[url]), "/", &headers, time)
        };
        prop_assert!(judge(&url, &timestamp, &key, &right).is_ok());
        prop_assert!(judge(&flipped(&url, bit), &timestamp, &key, &right).is_err());
        prop_assert!(judge(&url, &timestamp, &flipped(&key, bit), &right).is_err());

        let moved = flipped(&timestamp, bit);
        if HeaderValue::from_str(&moved).is_ok() {
            prop_assert!(judge(&url, &moved, &key, &right).is_err());
        }
        let mut digest: [u8; 16] = from_hex(right.as_bytes()).unwrap();
        digest[bit / 8 % 16] ^= 1 << (bit % 8);
        let forged: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        prop_assert!(judge(&url, &timestamp, &key, &forged).is_err());
    }

    #[test]
    fn no_head_makes_it_panic(signature in "\\PC{0,40}", timestamp in "\\PC{0,40}") {
        let refused = judge(&scheme(&[KEY], &[URL]), &signature, &timestamp);
        prop_assert_eq!(refused, Err(SignatureError::Mismatch));
    }
}
