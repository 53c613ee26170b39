//! Any bytes as the body of a verified request: what `event::parse` makes of
//! them agrees with what serde_json and the contract say, and neither the typed
//! view nor the log's line is impressed by them.

#![no_main]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http::{HeaderMap, Uri};
use ims_receiver::delivery::{Delivery, WorkerId};
use ims_receiver::event::ims::{ImsEvent, known_type};
use ims_receiver::event::{
    self, EVENT_TYPE_BYTES_MAX, Event, ID_BYTES_MAX, MALFORMED, NewEvent, Outcome, json,
};
use ims_receiver::handler::log::{LineFormat, LineOptions, line};
use ims_receiver::request::{HandlerName, KeptHead, RequestHead, SourceName};
use ims_receiver::signature::none::NoSignature;
use ims_receiver::signature::{HeadVerdict, Scheme as _, Verified, VerifiedRequest};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

fuzz_target!(|body: &[u8]| {
    let event = parsed(body);
    assert_eq!(event.body, body, "the body is kept byte for byte");
    check_notes(&event.notes);
    check_against_reference(body, &event);
    check_typed_view(&event);
    check_lines(event);
});

/// The most notes an event keeps.
const NOTES_MAX: usize = 16;
/// Our own words, and the sender's as far as a note repeats them.
const NOTE_BYTES_MAX: usize = 256;

static VERIFIED: LazyLock<Verified> = LazyLock::new(|| {
    let head = RequestHead {
        uri: &Uri::from_static("/"),
        headers: &HeaderMap::new(),
    };
    match NoSignature.check_head(&head, Timestamp::UNIX_EPOCH) {
        Ok(HeadVerdict::Authentic(verified)) => verified,
        other => panic!("everybody is let in: {other:?}"),
    }
});

fn parsed(body: &[u8]) -> NewEvent {
    let source = SourceName::new("default").expect("it follows the rule");
    let body = Bytes::copy_from_slice(body);
    let request = VerifiedRequest::new(source, VERIFIED.clone(), KeptHead::default(), body);
    event::parse(request)
}

fn check_notes(notes: &[String]) {
    assert!(notes.len() <= NOTES_MAX, "{notes:?}");
    for note in notes {
        assert!(!note.is_empty() && note.len() <= NOTE_BYTES_MAX, "{note:?}");
        assert!(!note.contains(char::is_control), "one line: {note:?}");
        assert!(!note.ends_with('.'), "one sentence, no full stop: {note:?}");
        assert!(note.contains(' '), "a sentence: {note:?}");
    }
}

/// An object as serde_json reads it: the last one of a name counts.
type Object<'a> = BTreeMap<String, &'a RawValue>;

/// What the contract makes of a body, by serde_json's judgement.
fn check_against_reference(body: &[u8], event: &NewEvent) {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let noted_bom = event
        .notes
        .iter()
        .any(|note| note.contains("byte order mark"));
    assert_eq!(noted_bom, text.len() < body.len());
    let text = std::str::from_utf8(text).ok().filter(|text| is_json(text));
    assert_eq!(json::checked(body), text, "what is JSON, and its text");

    let object = text.filter(|text| text.trim_start_matches(is_blank).starts_with('{'));
    let Some(text) = object else {
        assert_eq!(event.event_type, MALFORMED);
        assert!(!event.notes.is_empty(), "says why it is malformed");
        let nothing = (&None, &None, &None, &None, Outcome::Other);
        let NewEvent {
            event_time,
            user_id,
            media_id,
            job_id,
            ..
        } = event;
        let read = (event_time, user_id, media_id, job_id, event.outcome);
        assert_eq!(read, nothing, "nothing is read out of it");
        return;
    };
    // A name with half a surrogate pair: serde_json reads no such object.
    let Ok(members) = serde_json::from_str::<Object<'_>>(text) else {
        assert!(text.contains("\\u"), "serde_json refuses what we take");
        return;
    };
    check_type(members.get("EventType").copied(), event);
    check_field("UserId", &event.user_id, word(&members, &["UserId"]));
    let time = members
        .get("EventTime")
        .filter(|raw| raw.get().starts_with('"'));
    let time = time.map_or(Word::Absent, |raw| word_of(raw));
    check_field("EventTime", &event.event_time, time);

    let message = members
        .get("MessageBody")
        .filter(|raw| raw.get().starts_with('{'));
    let Some(message) = message else {
        let read = (&event.media_id, &event.job_id, event.outcome);
        assert_eq!(read, (&None, &None, Outcome::Other));
        assert!(
            !event.notes.is_empty(),
            "says what is wrong with MessageBody"
        );
        return;
    };
    let Ok(message) = serde_json::from_str::<Object<'_>>(message.get()) else {
        return;
    };
    check_field("MediaId", &event.media_id, word(&message, &["MediaId"]));
    let job = word(&message, &["JobId", "ParentJobId", "TaskId"]);
    check_field("JobId", &event.job_id, job);
    match word(&message, &["Status", "State"]) {
        Word::Unreadable => {}
        Word::Absent => assert_eq!(event.outcome, Outcome::Other),
        Word::Text(text) => assert_eq!(event.outcome, outcome(&text), "{text:?}"),
    }
}

/// The grammar by serde_json, which skips without looking at depth or range;
/// the depth by counting brackets.
fn is_json(text: &str) -> bool {
    let grammatical = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    grammatical && depth(text) <= 128
}

/// How deep valid JSON is nested.
fn depth(text: &str) -> usize {
    let (mut now, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                now += 1;
                deepest = deepest.max(now);
            }
            b'}' | b']' if !in_string => now -= 1,
            _ => {}
        }
    }
    deepest
}

fn check_type(raw: Option<&RawValue>, event: &NewEvent) {
    let usable = match raw.map_or(Word::Absent, word_of) {
        Word::Unreadable => return,
        Word::Absent => None,
        Word::Text(_) if !raw.is_some_and(|raw| raw.get().starts_with('"')) => None,
        Word::Text(text) => Some(text).filter(|text| text.len() <= EVENT_TYPE_BYTES_MAX),
    };
    let expected = usable.as_deref().unwrap_or(MALFORMED);
    assert_eq!(event.event_type, expected);
    if usable.is_none() {
        assert!(!event.notes.is_empty(), "says why it is malformed");
    }
}

fn check_field(name: &str, read: &Option<String>, expected: Word) {
    match expected {
        // Half a surrogate pair stands for no character, and is replaced, where
        // the text is not too long.
        Word::Unreadable => assert!(
            read.as_deref().is_none_or(|text| text.contains('\u{fffd}')),
            "{name}: {read:?}"
        ),
        Word::Absent => assert_eq!(*read, None, "{name}"),
        Word::Text(text) if text.len() > ID_BYTES_MAX => assert_eq!(*read, None, "{name}"),
        Word::Text(text) => assert_eq!(read.as_deref(), Some(&*text), "{name}"),
    }
}

/// A value where a word is looked for.
enum Word {
    /// Absent, empty, or of a type that counts as absent.
    Absent,
    /// A string that serde_json does not read: half a surrogate pair is in it.
    Unreadable,
    Text(String),
}

/// The first of `names` that holds a word.
fn word(members: &Object<'_>, names: &[&str]) -> Word {
    let words = names.iter().filter_map(|name| members.get(*name));
    words
        .map(|raw| word_of(raw))
        .find(|word| !matches!(word, Word::Absent))
        .unwrap_or(Word::Absent)
}

fn word_of(raw: &RawValue) -> Word {
    let raw = raw.get();
    match raw.as_bytes().first() {
        Some(b'"') => match serde_json::from_str::<String>(raw) {
            Ok(text) if text.is_empty() => Word::Absent,
            Ok(text) => Word::Text(text),
            Err(_) => Word::Unreadable,
        },
        Some(b'-' | b'0'..=b'9') => Word::Text(raw.to_owned()),
        _ => Word::Absent,
    }
}

fn outcome(word: &str) -> Outcome {
    match &*word.to_ascii_lowercase() {
        "success" | "succeed" | "finished" | "complete" => Outcome::Succeeded,
        "fail" | "failed" | "error" => Outcome::Failed,
        _ => Outcome::Other,
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// The typed view: by its own type, and by one that has JSON inside strings.
fn check_typed_view(event: &NewEvent) {
    let view = ImsEvent::from_event(&event.event_type, &event.body);
    assert_eq!(view.event_type(), event.event_type);
    let known = known_type(&event.event_type).is_some();
    assert_eq!(view.info().is_some(), known);
    assert_eq!(matches!(view, ImsEvent::Unknown(_)), !known);
    match view {
        ImsEvent::WorkflowTaskComplete(view) => {
            let _ = view.task_input.map(|embedded| embedded.get());
            let _ = view.activity_results.map(|embedded| embedded.get());
        }
        ImsEvent::MediaBaseChangeComplete(view) => {
            if let Some(content) = view.media_content {
                let _ = format!("{content:?}");
            }
        }
        other => {
            let _ = format!("{other:?}");
        }
    }
}

/// The line of a `log` handler, in both shapes.
fn check_lines(content: NewEvent) {
    let delivery = delivery(content);
    let body = &delivery.event.content.body;
    let mut options = LineOptions {
        format: LineFormat::Json,
        body: true,
        body_bytes_max: None,
    };
    let bytes = line(&delivery, Timestamp::UNIX_EPOCH, &options);
    let text = one_line(&bytes);
    assert!(!text.contains(char::is_control) || json::checked(body).is_some());
    let members: Object<'_> = serde_json::from_str(text).expect("the line is JSON");
    match json::checked(body) {
        Some(sent) => check_same_tokens(sent, members["body"].get()),
        None => {
            let base64 = members["body_base64"].get().trim_matches('"');
            let decoded = BASE64_STANDARD.decode(base64).expect("it is base64");
            assert_eq!(*decoded, **body);
            assert!(!members.contains_key("body"));
        }
    }

    options.format = LineFormat::Pretty;
    let bytes = line(&delivery, Timestamp::UNIX_EPOCH, &options);
    let text = one_line(&bytes);
    assert!(
        !text.contains(char::is_control),
        "moves the cursor: {text:?}"
    );
}

/// A line is UTF-8, and ends where it says, in the eyes of any reader.
fn one_line(bytes: &[u8]) -> &str {
    let text = std::str::from_utf8(bytes).expect("a line is UTF-8");
    let text = text.strip_suffix('\n').expect("a line ends");
    assert!(!text.contains(['\n', '\r']), "a second line: {text:?}");
    text
}

/// Nothing but the blanks between tokens is missing.
fn check_same_tokens(sent: &str, written: &str) {
    let mut in_string = false;
    let mut escaped = false;
    let kept = sent.chars().filter(|c| {
        if escaped {
            escaped = false;
        } else if in_string && *c == '\\' {
            escaped = true;
        } else if *c == '"' {
            in_string = !in_string;
        }
        in_string || !is_blank(*c)
    });
    assert!(kept.eq(written.chars()), "{sent:?} became {written:?}");
}

fn delivery(content: NewEvent) -> Delivery {
    let event = Event {
        id: "019ab2f6-2a41-7000-8000-000000000001"
            .parse()
            .expect("it is an id"),
        row: 1,
        received_at: Timestamp::UNIX_EPOCH,
        content,
    };
    Delivery {
        event: Arc::new(event),
        handler: HandlerName::new("audit").expect("it follows the rule"),
        worker: WorkerId(1),
        attempt: 1,
        failed: 0,
        age_from: Timestamp::UNIX_EPOCH,
    }
}
