//! Environment values made of the event.

use std::borrow::Cow;

use crate::delivery::Delivery;

/// A value has at most this many bytes. One of 128 KiB would make the start of
/// the command fail.
const VALUE_BYTES_MAX: usize = 4096;

/// What stands in place of NUL, which ends a value in the environment.
const NUL_REPLACEMENT: &str = "\u{fffd}";

/// The variables of `delivery`, always all of them: what the event does not
/// have is empty, so that a script under `set -u` can ask for it.
pub(super) fn of<'d>(
    delivery: &'d Delivery,
    notes: &mut Vec<String>,
) -> [(&'static str, Cow<'d, str>); 9] {
    let event = &delivery.event.content;
    let mut text = |name: &'static str, text: Option<&'d str>| {
        (name, value(name, text.unwrap_or_default(), notes))
    };
    let [kind, time, user, media, job] = [
        text("IMS_EVENT_TYPE", Some(&event.event_type)),
        text("IMS_EVENT_TIME", event.event_time.as_deref()),
        text("IMS_USER_ID", event.user_id.as_deref()),
        text("IMS_MEDIA_ID", event.media_id.as_deref()),
        text("IMS_JOB_ID", event.job_id.as_deref()),
    ];
    [
        ("IMS_EVENT_ID", delivery.event.id.to_string().into()),
        kind,
        time,
        ("IMS_SOURCE", event.source.as_str().into()),
        ("IMS_OUTCOME", event.outcome.as_str().into()),
        user,
        media,
        job,
        ("IMS_ATTEMPT", delivery.attempt.to_string().into()),
    ]
}

/// `text` as the value of `name`: without NUL and cut, each of which leaves a
/// note. A cut never splits a character.
fn value<'t>(name: &str, text: &'t str, notes: &mut Vec<String>) -> Cow<'t, str> {
    let kept = &text[..text.floor_char_boundary(VALUE_BYTES_MAX)];
    let mut cut = kept.len() < text.len();
    let mut value = Cow::Borrowed(kept);
    if kept.contains('\0') {
        let mut replaced = kept.replace('\0', NUL_REPLACEMENT);
        let end = replaced.floor_char_boundary(VALUE_BYTES_MAX);
        cut |= end < replaced.len();
        replaced.truncate(end);
        value = Cow::Owned(replaced);
        notes.push(format!("NUL in {name} was replaced"));
    }
    if cut {
        notes.push(format!("{name} was cut to {VALUE_BYTES_MAX} bytes"));
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(text: &str) -> (String, Vec<String>) {
        let mut notes = Vec::new();
        let value = value("IMS_JOB_ID", text, &mut notes).into_owned();
        (value, notes)
    }

    #[test]
    fn text_stays_as_it_is_without_a_note() {
        for plain in ["", "-rf", "$(id)\n;`x`\r\u{1b}[2J", "ü", &"a".repeat(4096)] {
            assert_eq!(kept(plain), (plain.to_owned(), vec![]));
        }
    }

    #[test]
    fn nul_is_replaced_and_length_is_cut_each_with_a_note() {
        let nul = "NUL in IMS_JOB_ID was replaced".to_owned();
        let cut = "IMS_JOB_ID was cut to 4096 bytes".to_owned();
        assert_eq!(kept("a\0b"), ("a\u{fffd}b".to_owned(), vec![nul.clone()]));
        assert_eq!(
            kept(&format!("a{}", "ü".repeat(5000))),
            (format!("a{}", "ü".repeat(2047)), vec![cut.clone()])
        );
        assert_eq!(
            kept(&"\0".repeat(1 << 20)),
            ("\u{fffd}".repeat(1365), vec![nul, cut])
        );
    }

    proptest! {
        #[test]
        fn every_value_can_stand_in_an_environment(text in "(\\PC|\0|ü){0,3000}") {
            let (value, _) = kept(&text);
            prop_assert!(value.len() <= VALUE_BYTES_MAX && !value.contains('\0'));
            prop_assert!(text.replace('\0', NUL_REPLACEMENT).starts_with(&value));
        }
    }
}
