use axum::http::{HeaderMap, Uri};
use bytes::Bytes;
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::request::{KeptHead, RequestHead, SourceName};
use crate::signature::none::NoSignature;
use crate::signature::{HeadVerdict, Scheme};

/// Lets a body through the line as a source without signatures would.
pub(in crate::event) fn parsed(body: &[u8]) -> NewEvent {
    let head = RequestHead {
        uri: &Uri::from_static("/"),
        headers: &HeaderMap::new(),
    };
    let Ok(HeadVerdict::Authentic(verified)) = NoSignature.check_head(&head, Timestamp::UNIX_EPOCH)
    else {
        panic!("the scheme lets everybody in");
    };
    let source = SourceName::new("default").unwrap();
    parse(VerifiedRequest::new(
        source,
        verified,
        KeptHead::default(),
        Bytes::copy_from_slice(body),
    ))
}

fn event(message: &str) -> NewEvent {
    parsed(
        format!(r#"{{"EventType":"NewThing","UserId":1,"EventTime":"t","MessageBody":{message}}}"#)
            .as_bytes(),
    )
}

fn notes(body: &str) -> Vec<String> {
    parsed(body.as_bytes()).notes
}

#[test]
fn the_envelope_is_read() {
    let body = br#" {"EventType":"ProduceMediaComplete","UserId":1833202230004567,"EventTime":"2022-07-13T10:49:45Z",
        "MessageBody":{"Status":"Success","JobId":"j","MediaId":"m"}} "#;
    let event = parsed(body);
    assert_eq!(event.event_type, "ProduceMediaComplete");
    assert_eq!(event.user_id.as_deref(), Some("1833202230004567"));
    assert_eq!(event.event_time.as_deref(), Some("2022-07-13T10:49:45Z"));
    assert_eq!(event.outcome, Outcome::Succeeded);
    assert_eq!(event.media_id.as_deref(), Some("m"));
    assert_eq!(event.job_id.as_deref(), Some("j"));
    assert_eq!(event.notes, [""; 0]);
    assert_eq!(event.source.as_str(), "default");
    assert_eq!(&*event.body, body);
}

#[test]
fn what_is_too_long_is_no_id() {
    let fits = "x".repeat(ID_BYTES_MAX);
    let long = format!("{fits}x");
    let body = |id: &str| {
        format!(
            r#"{{"EventType":"NewThing","UserId":"{id}","EventTime":"{id}","MessageBody":{{"MediaId":"{id}","JobId":"{id}","TaskId":"t"}}}}"#
        )
    };
    let ids = |event: &NewEvent| {
        let ids = [&event.user_id, &event.event_time, &event.media_id];
        ids.map(Clone::clone)
            .into_iter()
            .chain([event.job_id.clone()])
    };
    let event = parsed(body(&fits).as_bytes());
    assert!(ids(&event).all(|id| id.as_deref() == Some(&*fits)));
    let event = parsed(body(&long).as_bytes());
    assert!(
        ids(&event).all(|id| id.is_none()),
        "the body has them still"
    );
    for name in ["UserId", "EventTime", "MediaId", "JobId"] {
        let note = format!("`{name}` is 513 bytes long, more than 512");
        assert!(event.notes.contains(&note), "{:?}", event.notes);
    }
}

#[test]
fn the_fingerprint_is_the_beginning_of_the_sha256() {
    let expected = [
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9,
        0x24,
    ];
    assert_eq!(parsed(b"").fingerprint, expected);
    assert_ne!(parsed(b"{}").fingerprint, parsed(b"{} ").fingerprint);
}

#[test]
fn what_is_no_object_with_a_type_is_malformed_and_says_why() {
    let levels = |n: usize| {
        format!(
            r#"{{"EventType":"A","x":{}{}}}"#,
            "[".repeat(n - 1),
            "]".repeat(n - 1)
        )
    };
    let cases = [
        ("", "empty"),
        (" \n", "empty"),
        ("hello", "no JSON"),
        ("[1]", "an array"),
        ("null", "null, not an object"),
        ("\"EventType\"", "a string"),
        ("{", "no JSON from byte 1"),
        (r#"{"EventType":"A"} x"#, "no JSON from byte 18"),
        ("{}", "`EventType` is missing"),
        (r#"{"EventType":""}"#, "empty"),
        (r#"{"EventType":7}"#, "a number, not a string"),
        (r#"{"EventType":null}"#, "null, not a string"),
        (r#"{"eventType":"A"}"#, "missing"),
        (
            &format!(r#"{{"EventType":"{}"}}"#, "a".repeat(129)),
            "129 bytes long",
        ),
        (
            &format!(r#"{{"EventType":"{}"}}"#, "a".repeat(200_000)),
            "200000 bytes long",
        ),
        (r#"{"EventType":"A","EventType":""}"#, "empty"),
        (&levels(129), "deeper than 128"),
        (&"[".repeat(100_000), "no JSON"),
    ];
    for (body, why) in cases {
        let event = parsed(body.as_bytes());
        assert_eq!(event.event_type, MALFORMED, "{body}");
        assert!(event.notes[0].contains(why), "{body}: {:?}", event.notes);
        assert_eq!(&*event.body, body.as_bytes());
    }
    let event = parsed(b"{\"EventType\":\"A\xff\"}");
    assert_eq!(
        (&*event.event_type, &*event.notes[0]),
        (MALFORMED, "the body is not UTF-8")
    );
    assert_eq!(parsed(levels(128).as_bytes()).event_type, "A");
}

#[test]
fn a_type_is_any_text_of_1_to_128_bytes() {
    for name in [
        "A",
        "\u{1F600}",
        " ",
        "malformed",
        &"é".repeat(64),
        &"a".repeat(128),
    ] {
        assert_eq!(
            parsed(format!(r#"{{"EventType":"{name}"}}"#).as_bytes()).event_type,
            name
        );
    }
    let escapes = r"\u0041\ud83d\ude00\u0000\ud800";
    let event = parsed(format!(r#"{{"EventType":"{escapes}"}}"#).as_bytes());
    assert_eq!(event.event_type, "A😀\0\u{fffd}");
    let escaped = r"\u0041".repeat(128);
    assert_eq!(
        parsed(format!(r#"{{"EventType":"{escaped}"}}"#).as_bytes()).event_type,
        "A".repeat(128)
    );
    let escaped = r"\u00e9".repeat(65);
    assert_eq!(
        parsed(format!(r#"{{"EventType":"{escaped}"}}"#).as_bytes()).event_type,
        MALFORMED
    );
}

#[test]
fn a_byte_order_mark_is_ignored_and_noted() {
    let event = parsed(
        b"\xEF\xBB\xBF{\"EventType\":\"A\",\"UserId\":1,\"EventTime\":\"t\",\"MessageBody\":{}}",
    );
    assert_eq!(event.event_type, "A");
    assert_eq!(
        event.notes,
        ["a byte order mark before the body was ignored"]
    );
}

#[test]
fn of_a_repeated_name_the_last_one_counts() {
    let event = parsed(
        br#"{"EventType":"A","UserId":1,"EventTime":"t","EventType":"B","MessageBody":5,
            "MessageBody":{"Status":"Success","\u0053tatus":"Fail","MediaId":"1","MediaId":"2"}}"#,
    );
    assert_eq!(event.event_type, "B");
    assert_eq!(event.outcome, Outcome::Failed);
    assert_eq!(event.media_id.as_deref(), Some("2"));
    let repeated = ["`EventType`", "`MessageBody`", "`Status`", "`MediaId`"];
    assert_eq!(event.notes.len(), repeated.len(), "{:?}", event.notes);
    for (note, name) in event.notes.iter().zip(repeated) {
        assert!(
            note.starts_with(name) && note.contains("more than once"),
            "{note}"
        );
    }
    let event = parsed(br#"{"EventType":"B","MessageBody":{"JobId":"j"},"MessageBody":null}"#);
    assert_eq!(event.job_id, None);
    assert!(
        event
            .notes
            .contains(&"`MessageBody` is null, not an object".to_owned())
    );
}

#[test]
fn ids_fall_through_to_the_next_name() {
    let job = |message: &str| event(message).job_id;
    assert_eq!(
        job(r#"{"TaskId":"t","ParentJobId":"p","JobId":"j"}"#).unwrap(),
        "j"
    );
    assert_eq!(
        job(r#"{"TaskId":"t","ParentJobId":"p","JobId":""}"#).unwrap(),
        "p"
    );
    assert_eq!(
        job(r#"{"TaskId":"t","ParentJobId":{},"JobId":null}"#).unwrap(),
        "t"
    );
    assert_eq!(
        job(r#"{"TaskId":"t","JobId":["x"],"ParentJobId":true}"#).unwrap(),
        "t"
    );
    assert_eq!(
        job(r#"{"JobId":12345678901234567890123.50e1}"#).unwrap(),
        "12345678901234567890123.50e1"
    );
    assert_eq!(job(r#"{"JobId":{"JobId":"x"}}"#), None);
    assert_eq!(event(r#"{"MediaId":"","mediaId":"x"}"#).media_id, None);
    assert_eq!(event(r#"{"MediaId":0}"#).media_id.unwrap(), "0");
    let flat = parsed(br#"{"EventType":"A","JobId":"j","MediaId":"m","Status":"Success"}"#);
    assert_eq!(
        (flat.job_id, flat.media_id, flat.outcome),
        (None, None, Outcome::Other)
    );
}

#[test]
fn status_is_read_before_state() {
    let outcome = |message: &str| event(message).outcome;
    assert_eq!(
        outcome(r#"{"State":"Error","Status":"sUcceed"}"#),
        Outcome::Succeeded
    );
    assert_eq!(outcome(r#"{"State":"Error","Status":""}"#), Outcome::Failed);
    assert_eq!(
        outcome(r#"{"State":"Complete","Status":null}"#),
        Outcome::Succeeded
    );
    assert_eq!(
        outcome(r#"{"State":"Complete","Status":["Fail"]}"#),
        Outcome::Succeeded
    );
    assert_eq!(
        outcome(r#"{"State":"Complete","Status":0}"#),
        Outcome::Other
    );
    assert_eq!(outcome(r#"{"Status":"Cancelled"}"#), Outcome::Other);
    assert_eq!(outcome("{}"), Outcome::Other);
}

#[test]
fn the_user_id_is_text_however_it_came() {
    let user =
        |json: &str| parsed(format!(r#"{{"EventType":"A","UserId":{json}}}"#).as_bytes()).user_id;
    assert_eq!(
        user("183320223000456799999999").unwrap(),
        "183320223000456799999999"
    );
    assert_eq!(user(r#""007""#).unwrap(), "007");
    assert_eq!(user("-1.0").unwrap(), "-1.0");
    assert_eq!(user("null"), None);
    assert_eq!(user(r#""""#), None);
    assert_eq!(user("[1]"), None);
}

#[test]
fn oddities_are_noted() {
    let whole = |message: &str| {
        notes(&format!(
            r#"{{"EventType":"FileUploadComplete","UserId":1,"EventTime":"t","MessageBody":{message}}}"#
        ))
    };
    let rest = r#""MediaId":"m","MediaType":"video","FileUrl":"f","AppId":"a""#;
    assert_eq!(
        whole(&format!(r#"{{"Status":"Success","Size":"1",{rest}}}"#)),
        [""; 0]
    );
    assert_eq!(
        whole(&format!(
            r#"{{"Status":"Success","Size":"1","New":[1],"UserData":{{"a":1}},{rest}}}"#
        )),
        [""; 0]
    );
    assert_eq!(
        whole(&format!(r#"{{"Size":1,{rest}}}"#)),
        [
            "`Status` is missing",
            "`Size` is a number, the catalogue says number in a string"
        ]
    );
    assert_eq!(
        whole(&format!(r#"{{"Status":null,"Size":"1",{rest}}}"#)),
        ["`Status` is null, the catalogue says string"]
    );
    assert_eq!(whole("[]"), ["`MessageBody` is an array, not an object"]);
    assert_eq!(whole("{}").len(), 6);
    assert_eq!(
        notes(r#"{"EventType":"New","UserId":"1","EventTime":5,"MessageBody":{}}"#),
        [
            "`UserId` is a string, the catalogue says number",
            "`EventTime` is a number, the catalogue says string"
        ]
    );
    assert_eq!(
        notes(r#"{"EventType":"New","MessageBody":{}}"#),
        ["`UserId` is missing", "`EventTime` is missing"]
    );
    assert_eq!(
        notes(r#"{"EventType":"AiProduceComplete","UserId":1,"EventTime":"t","MessageBody":{}}"#),
        ["`EventType` differs from `AIProduceComplete` in upper and lower case"]
    );
}

#[test]
fn callbacks_of_neighbours_are_recognised() {
    let cases = [
        (
            r#"{"EventType":"FileUploadComplete","EventTime":"t","VideoId":"v","Size":1}"#,
            "ApsaraVideo VOD",
        ),
        (
            r#"{"Type":"Transcode","State":"Success","JobId":"j","UserData":"","RequestId":"r"}"#,
            "MPS",
        ),
        (
            r#"{"domain":"d","app":"a","stream":"s","uri":"u"}"#,
            "ApsaraVideo Live",
        ),
        (
            r#"{"aiAgentId":"a","instanceId":"i","event":"agent_start"}"#,
            "AI agent",
        ),
    ];
    for (body, product) in cases {
        let notes = notes(body);
        assert!(notes.iter().any(|note| note.contains(product)), "{notes:?}");
        assert!(
            notes.iter().any(|note| note == "`MessageBody` is missing"),
            "{notes:?}"
        );
    }
    assert!(
        !notes(r#"{"EventType":"A"}"#)
            .iter()
            .any(|note| note.contains("looks like"))
    );
}

#[test]
fn notes_are_bounded_and_hold_little_of_the_sender() {
    let name = "\\u0007🎬".repeat(50_000);
    let message: String = (0..40)
        .map(|n| format!(r#""{n}{name}":0,"{n}{name}":0,"#))
        .collect();
    let body = format!(
        r#"{{{message}"MessageBody":{{{message}"z":0}},"EventType":"FileUploadComplete"}}"#
    );
    let notes = notes(&body);
    assert!(notes.len() <= 16, "{}", notes.len());
    assert_eq!(
        notes.last().unwrap(),
        "there is more that is odd, not listed here"
    );
    for note in notes {
        assert!(
            note.len() <= 256 && !note.contains(char::is_control),
            "{note}"
        );
    }
}

#[test]
fn hostile_bodies_take_linear_time() {
    let distinct: String = (0..90_000).map(|n| format!(r#""k{n}":0,"#)).collect();
    let same = r#""k":0,"#.repeat(160_000);
    let bodies = [
        format!(r#"{{{distinct}"EventType":"A"}}"#),
        format!(r#"{{"EventType":"ProduceMediaComplete","MessageBody":{{{distinct}"z":0}}}}"#),
        format!(r#"{{{same}"EventType":"A","MessageBody":{{{same}"z":0}}}}"#),
        format!(
            r#"{{"EventType":"A","MessageBody":{{}}{}}}"#,
            r#","MessageBody":{"a":{}}"#.repeat(40_000)
        ),
        format!(r#"{{"EventType":"A","x":"{}"}}"#, r"\u0000".repeat(160_000)),
        format!(r#"{{"EventType":"A","x":[{}0]}}"#, "[[]],".repeat(200_000)),
        format!(r#"{{"EventType":"A","x":1{}}}"#, "0".repeat(1_000_000)),
    ];
    for body in bodies {
        let started = std::time::Instant::now();
        let event = parsed(body.as_bytes());
        assert_ne!(event.event_type, MALFORMED);
        // Quadratic work over a megabyte takes minutes; this leaves room for a busy machine.
        assert!(started.elapsed().as_secs() < 5, "{:.60}", body);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let event = parsed(&bytes);
        prop_assert_eq!(&*event.body, &*bytes);
    }

    #[test]
    fn nothing_like_json_makes_it_panic(
        text in r#"[{\[]?("(EventType|MessageBody|Status|JobId|UserId|\\u00|\\ud8)?"[:,]?|[{}\[\],:0-9\-. ]|null|true|1e9){0,40}"#,
    ) {
        let event = parsed(text.as_bytes());
        prop_assert!(!event.event_type.is_empty());
    }

    #[test]
    fn a_body_is_taken_as_it_is_by_both_levels(
        kind in ".{1,40}",
        user in any::<i64>(),
        status in ".{1,12}",
        job in ".{1,40}",
    ) {
        let body = serde_json::json!({
            "EventType": kind, "UserId": user, "EventTime": "t", "MessageBody": {"Status": status, "JobId": job},
        });
        let event = parsed(body.to_string().as_bytes());
        let expected = if kind.len() <= EVENT_TYPE_BYTES_MAX { kind } else { MALFORMED.to_owned() };
        prop_assert_eq!(event.event_type, expected);
        prop_assert_eq!(event.user_id, Some(user.to_string()));
        prop_assert_eq!(event.outcome, Outcome::from_word(&status));
        prop_assert_eq!(event.job_id, Some(job));
    }
}
