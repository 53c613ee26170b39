//! What stands in a message: the event as JSON, or base64 of it.
//!
//! MNS itself encodes nothing; whether a sender does is a convention. Base64
//! never begins with `{` or `[`, so the two cannot be mistaken for each other.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use md5::{Digest as _, Md5};

/// The text that `stated`, hex in either case, is the MD5 of: as it was
/// transferred, or with its line ends as a reader of XML makes them.
///
/// # Errors
/// The text, where it is neither.
pub fn whole(text: String, stated: &str) -> Result<String, String> {
    if is_whole(&text, stated) {
        return Ok(text);
    }
    if text.contains('\r') {
        let plain = text.replace("\r\n", "\n").replace('\r', "\n");
        if is_whole(&plain, stated) {
            return Ok(plain);
        }
    }
    Err(text)
}

/// The event's own bytes: of a text that is base64 of JSON what it encodes, of
/// any other the text as it is, which may well be no event at all.
pub fn decoded(text: String) -> Bytes {
    let trimmed = text.trim();
    if trimmed.starts_with(['{', '[']) {
        return text.into();
    }
    match BASE64_STANDARD.decode(trimmed) {
        Ok(bytes) if is_json(&bytes) => bytes.into(),
        _ => text.into(),
    }
}

/// Whether it is JSON, behind a byte-order mark or not.
fn is_json(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    serde_json::from_slice::<&serde_json::value::RawValue>(bytes).is_ok()
}

fn is_whole(text: &str, stated: &str) -> bool {
    let mut hex = [0; 32];
    let digest = Md5::digest(text.as_bytes());
    for (pair, byte) in hex.chunks_exact_mut(2).zip(digest) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    hex.eq_ignore_ascii_case(stated.trim().as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_stays_and_base64_of_json_is_decoded() {
        let json = r#"{"EventType":"x","UserId":1833220977561234}"#;
        let encoded = BASE64_STANDARD.encode(json);
        let marked = format!("\u{feff}{json}");
        let cases: [(&str, &str); 12] = [
            (&marked, &marked),
            (&BASE64_STANDARD.encode(&marked), &marked),
            (json, json),
            (&encoded, json),
            (&format!(" {encoded}\r\n"), json),
            (" {\"a\":1}\n", " {\"a\":1}\n"),
            // Neither: kept as they came.
            ("{\"a\":", "{\"a\":"),
            ("plain text", "plain text"),
            ("", ""),
            ("AAAA", "AAAA"),
            (&encoded[1..], &encoded[1..]),
            ("eyJhIjox", "eyJhIjox"),
        ];
        for (text, expected) in cases {
            assert_eq!(decoded(text.to_owned()), expected.as_bytes(), "{text}");
        }
    }

    #[test]
    fn the_md5_is_that_of_the_text_as_transferred() {
        for (text, stated) in [
            ("I am 测试字符串.", "9D75198CAA17528AB23790C1861987AF"),
            (
                "SSBhbSDmtYvor5XlrZfnrKbkuLIu",
                "a9b134c465c384f49eb89a6e3870d996",
            ),
            (
                "YToyOntzOjI6ImlkIjtpOjEwNTgyODc4O3M6MTA6ImVycm9yQ291bnQiO2k6MDt9",
                "3AED23FB70BD99FA907F5212F50DF7B9",
            ),
        ] {
            assert!(is_whole(text, stated), "{text}");
            assert!(!is_whole(&format!("{text} "), stated), "{text}");
        }
        assert!(!is_whole("x", ""));
        assert!(!is_whole("x", "9D75"));
    }

    #[test]
    fn line_ends_may_be_as_a_reader_of_xml_makes_them() {
        let md5 = |text: &str| -> String {
            let digest = Md5::digest(text.as_bytes());
            digest.iter().map(|byte| format!("{byte:02X}")).collect()
        };
        let sent = "{\r\n\"a\":\r1}";
        let read = "{\n\"a\":\n1}";
        assert_eq!(whole(sent.to_owned(), &md5(sent)).unwrap(), sent);
        assert_eq!(whole(sent.to_owned(), &md5(read)).unwrap(), read);
        assert_eq!(whole(read.to_owned(), &md5(sent)).unwrap_err(), read);
    }

    proptest! {
        #[test]
        fn any_json_object_comes_out_of_both_forms(value in "[a-zA-Z0-9 测]{0,40}") {
            let json = serde_json::json!({ "EventType": value }).to_string();
            prop_assert_eq!(decoded(json.clone()), json.clone());
            prop_assert_eq!(decoded(BASE64_STANDARD.encode(&json)), json);
        }
    }
}
