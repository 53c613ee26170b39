//! Vectors, what a head alone can decide, and `openssl` as a second opinion.

use std::io::Write as _;
use std::process::{Command, Stdio};

use axum::http::{HeaderValue, Uri};
use proptest::prelude::*;

use super::*;

const BODY: &[u8] = br#"{"EventType":"ProduceMediaComplete"}"#;
const NOW: i64 = 1_795_500_000;
const KEY: &str = "Abcdefgh0123456789ABCDEFGH012345";

fn config(keys: &[&str]) -> HmacConfig {
    HmacConfig {
        keys: keys.iter().map(|key| SecretString::from(*key)).collect(),
        header: HeaderName::from_static("x-signature"),
        prefix: String::new(),
        encoding: Encoding::Hex,
        timestamp_header: None,
        tolerance: Duration::from_secs(300),
    }
}

fn stamped(keys: &[&str]) -> HmacConfig {
    HmacConfig {
        prefix: "sha256=".to_owned(),
        timestamp_header: Some(HeaderName::from_static("x-timestamp")),
        ..config(keys)
    }
}

fn head(config: &HmacConfig, headers: &[(&str, &str)]) -> Result<BodyCheck, SignatureError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let head = RequestHead {
        uri: &Uri::from_static("/relay"),
        headers: &map,
    };
    let scheme = HmacScheme::new(config).unwrap();
    match scheme.check_head(&head, Timestamp::from_second(NOW).unwrap())? {
        HeadVerdict::NeedsBody(check) => Ok(check),
        HeadVerdict::Authentic(_) => panic!("a head proves nothing about a body"),
    }
}

fn judge(
    config: &HmacConfig,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Verified, SignatureError> {
    head(config, headers)?.check(body)
}

/// The digest in hexadecimal digits, as `openssl` computes it.
fn openssl(key: &str, text: &[u8]) -> String {
    let hex: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut child = Command::new("openssl")
        .args(["dgst", "-sha256", "-mac", "HMAC", "-macopt"])
        .arg(format!("hexkey:{hex}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tests/run installs openssl");
    child.stdin.take().unwrap().write_all(text).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim().rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn the_vectors_of_rfc_4231_hold() {
    let vectors = include_str!("../../../tests/fixtures/signatures/hmac_sha256.json");
    let vectors: Vec<serde_json::Value> = serde_json::from_str(vectors).unwrap();
    assert_eq!(vectors.len(), 6);
    for vector in vectors {
        let bytes = |name: &str| {
            let text = vector[name].as_str().unwrap();
            let pairs = text.as_bytes().as_chunks::<2>().0;
            let byte = |pair: &[u8; 2]| {
                u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()
            };
            pairs.iter().map(byte).collect::<Vec<u8>>()
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(&bytes("key")).unwrap();
        mac.update(&bytes("data"));
        let digest: Digest = mac.finalize().into_bytes().into();
        let expected = vector["digest"].as_str().unwrap();
        assert_eq!(Encoding::Hex.write(&digest), expected, "{vector}");
        // Keys of a configuration are text; three of the vectors' are as well.
        if let (Ok(key), Ok(_)) = (
            String::from_utf8(bytes("key")),
            std::str::from_utf8(&bytes("data")),
        ) {
            assert_eq!(sign(&key, None, &bytes("data"), Encoding::Hex), expected);
        }
    }
}

#[test]
fn openssl_computes_the_same() {
    let long = "k".repeat(200);
    for key in ["k", KEY, &long, "schlüssel"] {
        for body in [b"".as_slice(), BODY, &[0, 255, b'\n', 7], &[b'x'; 100_000]] {
            let theirs = openssl(key, body);
            assert_eq!(sign(key, None, body, Encoding::Hex), theirs);
            let plain = judge(&config(&[key]), &[("X-Signature", &theirs)], body);
            assert_eq!(plain.unwrap().key(), Some(1));

            let time = NOW.to_string();
            let theirs = openssl(key, &[time.as_bytes(), b".", body].concat());
            assert_eq!(sign(key, Some(&time), body, Encoding::Hex), theirs);
            let signature = format!("sha256={theirs}");
            let headers = [("X-Signature", &*signature), ("X-Timestamp", &*time)];
            let verified = judge(&stamped(&[key]), &headers, body).unwrap();
            assert_eq!(verified.skew_seconds(), Some(0));
        }
    }
}

#[test]
fn each_encoding_reads_its_own_and_no_other() {
    let hex = sign(KEY, None, BODY, Encoding::Hex);
    let base64 = sign(KEY, None, BODY, Encoding::Base64);
    let in_hex = config(&[KEY]);
    let in_base64 = HmacConfig {
        encoding: Encoding::Base64,
        ..config(&[KEY])
    };
    for (config, text, fits) in [
        (&in_hex, hex.clone(), true),
        (&in_hex, hex.to_uppercase(), true),
        (&in_hex, base64.clone(), false),
        (&in_hex, hex[1..].to_owned(), false),
        (&in_hex, format!("{hex}0"), false),
        (&in_hex, format!("sha256={hex}"), false),
        (&in_base64, base64.clone(), true),
        (&in_base64, hex.clone(), false),
        (&in_base64, base64.trim_end_matches('=').to_owned(), false),
        (&in_base64, format!("{base64}="), false),
        (&in_base64, base64.to_lowercase(), false),
    ] {
        let judged = judge(config, &[("x-signature", &text)], BODY);
        match judged {
            Ok(verified) => {
                assert!(fits, "{text}");
                assert_eq!(verified.scheme(), SchemeName::HmacSha256);
                assert_eq!((verified.key(), verified.url()), (Some(1), None));
                assert_eq!(verified.skew_seconds(), None);
            }
            Err(error) => assert!(
                !fits && error == SignatureError::Mismatch,
                "{text}: {error}"
            ),
        }
    }
}

#[test]
fn the_prefix_has_to_be_there_as_it_is_written() {
    let config = HmacConfig {
        prefix: "HMAC-SHA256 v1=".to_owned(),
        ..config(&[KEY])
    };
    let signature = sign(KEY, None, BODY, Encoding::Hex);
    for (prefix, fits) in [
        ("HMAC-SHA256 v1=", true),
        ("", false),
        ("hmac-sha256 v1=", false),
        ("HMAC-SHA256  v1=", false),
        ("HMAC-SHA256 v1=HMAC-SHA256 v1=", false),
    ] {
        let value = format!("{prefix}{signature}");
        let judged = judge(&config, &[("x-signature", &value)], BODY);
        assert_eq!(judged.is_ok(), fits, "{value}");
    }
}

#[test]
fn any_key_fits_and_its_position_is_kept() {
    let keys = ["new", "old", "older"];
    for (position, key) in (1..).zip(keys) {
        let signature = sign(key, None, BODY, Encoding::Hex);
        let verified = judge(&config(&keys), &[("x-signature", &signature)], BODY).unwrap();
        assert_eq!(verified.key(), Some(position));
    }
    let signature = sign("stranger", None, BODY, Encoding::Hex);
    let judged = judge(&config(&keys), &[("x-signature", &signature)], BODY);
    assert_eq!(judged, Err(SignatureError::Mismatch));
}

#[test]
fn a_head_is_refused_for_what_is_missing_repeated_or_untimely() {
    let config = stamped(&[KEY]);
    let time = NOW.to_string();
    let signature = format!("sha256={}", sign(KEY, Some(&time), BODY, Encoding::Hex));
    let (s, t) = (("x-signature", &*signature), ("x-timestamp", &*time));
    for (headers, expected) in [
        (&[][..], SignatureError::Missing),
        (&[s], SignatureError::Missing),
        (&[t], SignatureError::Missing),
        (&[s, s], SignatureError::Missing),
        (&[t, t], SignatureError::Missing),
        (&[s, s, t], SignatureError::RepeatedHeader),
        (&[s, t, t], SignatureError::RepeatedHeader),
    ] {
        assert_eq!(head(&config, headers).unwrap_err(), expected, "{headers:?}");
    }
    for (ahead, refused) in [
        (-301, Some(SignatureError::Stale { skew_seconds: 301 })),
        (-300, None),
        (300, None),
        (301, Some(SignatureError::Future { skew_seconds: -301 })),
    ] {
        let time = (NOW + ahead).to_string();
        let right = format!("sha256={}", sign(KEY, Some(&time), BODY, Encoding::Hex));
        let headers = [("x-signature", &*right), ("x-timestamp", &*time)];
        assert_eq!(judge(&config, &headers, BODY).err(), refused, "{ahead}");
        // What is untimely is said whether the signature is right or not.
        let headers = [("x-signature", "sha256=00"), ("x-timestamp", &*time)];
        assert_eq!(head(&config, &headers).err(), refused, "{ahead}");
    }
}

#[test]
fn what_cannot_be_read_is_a_mismatch_that_waits_for_the_body() {
    for time in ["", "abc", "-1", "1795500000.0", "1e9"] {
        let right = format!("sha256={}", sign(KEY, Some(time), BODY, Encoding::Hex));
        let headers = [("x-signature", &*right), ("x-timestamp", time)];
        let check = head(&stamped(&[KEY]), &headers).expect("the body comes first");
        assert_eq!(check.check(BODY), Err(SignatureError::Mismatch), "{time}");
    }
    for signature in ["", "sha256=", "zz", "ü"] {
        let check = head(&config(&[KEY]), &[("x-signature", signature)]);
        let check = check.expect("the body comes first");
        assert_eq!(check.check(BODY), Err(SignatureError::Mismatch));
    }
}

#[test]
fn the_time_of_sending_is_read_from_its_header_alone() {
    let headers = HeaderMap::from_iter([(
        HeaderName::from_static("x-timestamp"),
        HeaderValue::from_static("1795500000"),
    )]);
    let sent = |config: &HmacConfig| HmacScheme::new(config).unwrap().sent_at(&headers);
    assert_eq!(sent(&stamped(&[KEY])).unwrap().as_second(), NOW);
    assert_eq!(sent(&config(&[KEY])), None);
}

#[test]
fn a_scheme_that_lets_in_nobody_or_everybody_cannot_be_made() {
    let refused = |keys: &[&str]| HmacScheme::new(&config(keys)).unwrap_err();
    assert_eq!(refused(&[]), SchemeError::NoKey);
    assert_eq!(refused(&["a", ""]), SchemeError::EmptyKey { position: 2 });
}

#[test]
fn keys_are_replaced_for_requests_that_begin_later_and_never_by_none() {
    let scheme = HmacScheme::new(&config(&["old"])).unwrap();
    let begin = |key| {
        let signature = sign(key, None, BODY, Encoding::Hex);
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("x-signature"),
            HeaderValue::from_str(&signature).unwrap(),
        )]);
        let head = RequestHead {
            uri: &Uri::from_static("/relay"),
            headers: &headers,
        };
        match scheme.check_head(&head, Timestamp::UNIX_EPOCH) {
            Ok(HeadVerdict::NeedsBody(check)) => check,
            other => panic!("{other:?}"),
        }
    };
    let before = begin("old");
    scheme
        .keys
        .replace(&["new".into(), "newer".into()], Timestamp::UNIX_EPOCH)
        .unwrap();
    assert!(before.check(BODY).is_ok(), "it began with the old key");
    assert_eq!(begin("old").check(BODY), Err(SignatureError::Mismatch));
    assert_eq!(begin("newer").check(BODY).unwrap().key(), Some(2));
    for bad in [&[][..], &["a".into(), "".into()]] {
        assert!(scheme.keys.replace(bad, Timestamp::UNIX_EPOCH).is_err());
    }
    assert!(begin("new").check(BODY).is_ok(), "those in force stay");
}

#[test]
fn no_key_shows() {
    let scheme = HmacScheme::new(&stamped(&[KEY])).unwrap();
    let shown = format!("{scheme:?} {:?}", stamped(&[KEY]));
    assert!(!shown.contains(KEY), "{shown}");
    assert!(shown.contains("x-signature"), "{shown}");
}

proptest! {
    #[test]
    fn one_flipped_bit_never_verifies(
        body in proptest::collection::vec(any::<u8>(), 1..200),
        key in "[A-Za-z0-9]{1,80}",
        bit in any::<usize>(),
    ) {
        let time = NOW.to_string();
        let digest = digest(&key, Some(time.as_bytes()), &body);
        let judge = |time: &str, key: &str, digest: &Digest, body: &[u8]| {
            let signature = format!("sha256={}", Encoding::Hex.write(digest));
            let headers = [("x-signature", &*signature), ("x-timestamp", time)];
            judge(&stamped(&[key]), &headers, body)
        };
        prop_assert!(judge(&time, &key, &digest, &body).is_ok());
        let flip = |bytes: &mut [u8]| {
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        };
        let mut other = body.clone();
        flip(&mut other);
        prop_assert!(judge(&time, &key, &digest, &other).is_err());
        let mut forged = digest;
        flip(&mut forged);
        prop_assert!(judge(&time, &key, &forged, &body).is_err());
        let later = (NOW + 1).to_string();
        prop_assert!(judge(&later, &key, &digest, &body).is_err());
        let longer = format!("{key}x");
        prop_assert!(judge(&time, &longer, &digest, &body).is_err());
    }

    #[test]
    fn no_head_makes_it_panic(signature in "\\PC{0,80}", time in "\\PC{0,20}", body in any::<Vec<u8>>()) {
        let headers = [("x-signature", &*signature), ("x-timestamp", &*time)];
        prop_assert!(judge(&stamped(&[KEY]), &headers, &body).is_err());
    }
}
