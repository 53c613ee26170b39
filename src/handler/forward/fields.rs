//! Header values made of the sender's text.

use axum::http::header::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::delivery::Delivery;
use crate::event::NewEvent;
use crate::trace::{Caller, Tracer};

/// Header values made of event fields have at most this many bytes.
const VALUE_BYTES_MAX: usize = 256;

/// All but visible ASCII is encoded, and `%` itself, so that decoding gives
/// back what was sent.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

const CONTENT_TYPE_DEFAULT: HeaderValue = HeaderValue::from_static("application/json");

/// `text` as a header value: percent-encoded and cut, each of which leaves a
/// note. A cut never splits an encoded character.
pub(super) fn value(name: &str, text: &str, notes: &mut Vec<String>) -> HeaderValue {
    let mut value = String::with_capacity(text.len());
    let mut cut = false;
    for (at, c) in text.char_indices() {
        let before = value.len();
        value.extend(utf8_percent_encode(&text[at..at + c.len_utf8()], ENCODED));
        if value.len() > VALUE_BYTES_MAX {
            value.truncate(before);
            cut = true;
            break;
        }
    }
    if !text.starts_with(&value) {
        notes.push(format!("{name} was percent-encoded"));
    }
    if cut {
        notes.push(format!("{name} was cut to {VALUE_BYTES_MAX} bytes"));
    }
    HeaderValue::try_from(value).expect("only visible ASCII is left")
}

/// The content type that the event came with.
pub(super) fn content_type(event: &NewEvent, notes: &mut Vec<String>) -> HeaderValue {
    let Some(sent) = kept(event, "content-type") else {
        return CONTENT_TYPE_DEFAULT;
    };
    HeaderValue::from_str(sent).unwrap_or_else(|_| {
        notes.push("content-type as received cannot be repeated".to_owned());
        CONTENT_TYPE_DEFAULT
    })
}

/// What the destination's own trace hangs on: the attempt's span where there
/// are traces, else what the request brought along, unchanged.
pub(super) fn traceparent(tracer: Option<&Tracer>, delivery: &Delivery) -> Option<HeaderValue> {
    match tracer {
        Some(tracer) => HeaderValue::try_from(tracer.traceparent(delivery)).ok(),
        None => HeaderValue::from_str(Caller::valid_text_of(&delivery.event.content.head)?).ok(),
    }
}

/// A header field of the request that brought the event.
pub(super) fn kept<'a>(event: &'a NewEvent, name: &str) -> Option<&'a str> {
    let mut headers = event.head.headers.iter();
    headers
        .find(|(kept, _)| kept == name)
        .map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    fn encoded(text: &str) -> (String, Vec<String>) {
        let mut notes = Vec::new();
        let value = value("x-ims-event-type", text, &mut notes);
        (value.to_str().unwrap().to_owned(), notes)
    }

    #[test]
    fn visible_ascii_stays_as_it_is_without_a_note() {
        let plain = r#"Produce_Media.Complete-1!"#;
        assert_eq!(encoded(plain), (plain.to_owned(), vec![]));
    }

    #[test]
    fn the_rest_is_encoded_with_a_note() {
        let (value, notes) = encoded("a b\r\nX: 1%\u{0}\u{7f}ü");
        assert_eq!(value, "a%20b%0D%0AX:%201%25%00%7F%C3%BC");
        assert_eq!(notes, ["x-ims-event-type was percent-encoded"]);
    }

    #[test]
    fn a_cut_leaves_a_note_and_whole_characters() {
        let (value, notes) = encoded(&"ü".repeat(60));
        assert_eq!(value, "%C3%BC".repeat(42));
        assert_eq!(
            notes,
            [
                "x-ims-event-type was percent-encoded",
                "x-ims-event-type was cut to 256 bytes"
            ]
        );
        let (value, notes) = encoded(&"a".repeat(257));
        assert_eq!(value, "a".repeat(256));
        assert_eq!(notes, ["x-ims-event-type was cut to 256 bytes"]);
        assert_eq!(encoded(&"a".repeat(256)).1, Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn decoding_gives_back_a_prefix_of_what_was_sent(text in any::<String>()) {
            let (value, notes) = encoded(&text);
            prop_assert!(value.len() <= VALUE_BYTES_MAX);
            let decoded = percent_decode_str(&value).decode_utf8().unwrap();
            prop_assert!(text.starts_with(&*decoded));
            let whole = decoded == text;
            prop_assert_eq!(whole, !notes.iter().any(|note| note.contains("cut")));
        }
    }
}
