use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

use super::*;

fn nested(levels: usize) -> String {
    let open = (0..levels).map(|level| if level % 2 == 0 { "[" } else { r#"{"a":"# });
    let close = (0..levels)
        .rev()
        .map(|level| if level % 2 == 0 { "]" } else { "}" });
    format!("{}1{}", open.collect::<String>(), close.collect::<String>())
}

#[test]
fn json_is_what_the_grammar_says() {
    let good = [
        "{}",
        "[]",
        "0",
        "-0",
        "1.5e+10",
        "1E400",
        "-0.0e-0",
        "true",
        "false",
        "null",
        r#""""#,
        " [ 1 , 2 ] \r\n\t",
        r#"{"a":{"b":[{},[],"x",null]}}"#,
        r#""\u0000\ud800\"\\\/\b\f\n\r\t""#,
        "\"é\u{7f}\u{2028}\"",
        r#"{"a":1,"a":2}"#,
        r#"{"":""}"#,
        "123456789012345678901234567890.000",
    ];
    for text in good {
        assert_eq!(checked(text.as_bytes()), Some(text), "{text}");
    }
    let bad = [
        "",
        " ",
        "{",
        "}",
        "[",
        "]",
        "[1,]",
        "[,1]",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{a:1}"#,
        "{1:1}",
        "01",
        "1.",
        ".5",
        "+1",
        "-",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "Infinity",
        "tru",
        "truee",
        "nul",
        "'a'",
        r#"""#,
        r#""\x""#,
        r#""\u12g4""#,
        r#""\u123"#,
        "\"\n\"",
        "\"\t\"",
        "\"\0\"",
        "1 2",
        "{}{}",
        "[1 2]",
        r#"{"a" 1}"#,
        "[1}",
        r#"{"a":1]"#,
        "\u{a0}1",
        "\u{feff}\u{feff}1",
        "// c\n1",
        r#""\"#,
        "[\"a\\\"]",
    ];
    for text in bad {
        assert_eq!(checked(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn text_is_utf8_with_or_without_a_byte_order_mark() {
    assert_eq!(checked(b"\xEF\xBB\xBF{}"), Some("{}"));
    assert_eq!(checked(b"\xEF\xBB\xBF"), None);
    assert_eq!(checked(b"\"\xff\""), None);
    assert_eq!(checked(b"\"\xed\xa0\x80\""), None);
    assert_eq!(checked(b"{\"\xc3\":1}"), None);
    assert_eq!(checked("\u{feff}[\u{feff}]".as_bytes()), None);
}

#[test]
fn exactly_128_levels_pass() {
    for levels in [1, 2, 127, 128] {
        assert!(checked(nested(levels).as_bytes()).is_some(), "{levels}");
    }
    for levels in [129, 130, 1000, 500_000] {
        assert!(checked(nested(levels).as_bytes()).is_none(), "{levels}");
    }
    let unclosed = "[".repeat(1_000_000);
    assert!(checked(unclosed.as_bytes()).is_none());
    let siblings = format!("[{}[]]", "[],{},".repeat(10_000));
    assert!(checked(siblings.as_bytes()).is_some());
}

#[test]
fn minifying_removes_blanks_between_tokens_and_nothing_else() {
    let pairs = [
        (
            " { \"a b\" : [ 1.0 , 1e400 ,\r\n\t-0 ] } ",
            r#"{"a b":[1.0,1e400,-0]}"#,
        ),
        (
            "{\"a\": \" \\\" \\\\\", \"a\": 2}",
            r#"{"a":" \" \\","a":2}"#,
        ),
        ("\n\"é \u{2028}\"\n", "\"é \u{2028}\""),
        ("[1 ]", "[1]"),
    ];
    for (text, expected) in pairs {
        assert!(checked(text.as_bytes()).is_some(), "{text}");
        assert_eq!(minify(text), expected);
    }
    assert!(matches!(minify(r#"{"a":"b c"}"#), Cow::Borrowed(_)));
    assert!(matches!(minify(""), Cow::Borrowed("")));
}

#[test]
fn strings_stand_for_their_text() {
    let text = |json: &str| Raw::new(json).string().map(Cow::into_owned);
    assert_eq!(
        text(r#""a\u0041\u00e9\u4e2d\ud83d\ude00b""#).unwrap(),
        "aAé中😀b"
    );
    assert_eq!(
        text(r#""\b\f\n\r\t\/\\\"""#).unwrap(),
        "\u{8}\u{c}\n\r\t/\\\""
    );
    assert_eq!(text(r#""\ud800""#).unwrap(), "\u{fffd}");
    assert_eq!(text(r#""\ud800\u0041""#).unwrap(), "\u{fffd}A");
    assert_eq!(text(r#""\ude00\ud83d\ude00x""#).unwrap(), "\u{fffd}😀x");
    assert_eq!(text(r#""\u0041\u0000""#).unwrap(), "A\0");
    assert_eq!(text(r#""\u0041\ud800""#).unwrap(), "A\u{fffd}");
    assert_eq!(text("12"), None);
}

#[test]
fn members_keep_order_and_the_last_of_a_name_counts() {
    let members = Raw::new(r#"{"a":1,"b":[{"a":9}],"\u0061":"x","c":null}"#)
        .members()
        .unwrap();
    let names: Vec<_> = members.iter().map(|member| member.0).collect();
    assert_eq!(names, ["a", "b", "a", "c"]);
    assert_eq!(members.get("a").unwrap().text(), r#""x""#);
    assert_eq!(members.get("b").unwrap().kind(), Kind::Array);
    assert!(members.get("d").is_none());
    assert_eq!(members.repeated(8), ["a"]);
    assert!(Raw::new("[]").members().is_none());
}

#[test]
fn repeated_names_are_found_in_large_objects_and_are_limited() {
    let all: String = (0..1000)
        .map(|n| format!(r#""k{n}":0,"k{n}":1,"#))
        .collect();
    let text = format!("{{{all}\"z\":0}}");
    let members = Raw::new(&text).members().unwrap();
    assert_eq!(members.repeated(3), ["k0", "k1", "k2"]);
    assert_eq!(members.repeated(5000).len(), 1000);
}

#[test]
fn elements_are_slices() {
    let texts = |json| {
        Raw::new(json)
            .elements()
            .map(|all| all.iter().map(|raw| raw.text()).collect::<Vec<_>>())
    };
    assert_eq!(
        texts("[ 1 , [2,3] ,\"]\" ]").unwrap(),
        ["1", "[2,3]", "\"]\""]
    );
    assert_eq!(texts("[ ]").unwrap(), [""; 0]);
    assert_eq!(texts("{}"), None);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has no others", |x| x.is_finite())
            .prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(".{0,6}", inner, 0..6).prop_map(Value::from_iter),
        ]
    })
}

proptest! {
    #[test]
    fn what_serde_json_writes_is_json_and_survives_minifying(value in any_json()) {
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let compact = serde_json::to_string(&value).unwrap();
        prop_assert_eq!(checked(pretty.as_bytes()), Some(&*pretty));
        prop_assert_eq!(&*minify(&pretty), &*compact);
        prop_assert!(matches!(minify(&compact), Cow::Borrowed(_)));
    }

    #[test]
    fn members_are_those_of_serde_json(value in any_json()) {
        let text = value.to_string();
        if let Some(members) = Raw::new(&text).members() {
            let object = value.as_object().unwrap();
            prop_assert_eq!(members.iter().count(), object.len());
            for (name, value) in object {
                let raw = members.get(name).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Value>(raw.text()).unwrap(), value);
                let string = raw.string();
                prop_assert_eq!(string.as_deref(), value.as_str());
            }
        } else {
            prop_assert!(!value.is_object());
        }
    }

    #[test]
    fn both_agree_on_what_is_json(text in r#"[\[\]{},:"\\ 0-9eE.+\-a-ftrulns]{0,24}"#) {
        let other = serde_json::from_str::<&RawValue>(&text).is_ok();
        prop_assert_eq!(checked(text.as_bytes()).is_some(), other);
    }

    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), text in ".{0,64}") {
        checked(&bytes);
        minify(&text);
    }
}
