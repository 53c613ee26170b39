//! What was odd about an event, one sentence each. Bounded, since a sender
//! chooses how odd it is.

use crate::event::json::Members;

/// An event keeps at most this many notes.
const NOTES_MAX: usize = 16;

/// Of one object at most this many repeated names are told.
const REPEATED_MAX: usize = 4;

/// At most this many bytes of the sender's own words are repeated in a note.
const QUOTED_BYTES_MAX: usize = 64;

/// The notes of one event.
#[derive(Default)]
pub(super) struct Notes(Vec<String>);

impl Notes {
    /// Adds a note, unless there are enough.
    pub(super) fn add(&mut self, note: impl Into<String>) {
        if self.0.len() + 1 < NOTES_MAX {
            self.0.push(note.into());
        } else if self.0.len() < NOTES_MAX {
            self.0
                .push("there is more that is odd, not listed here".to_owned());
        }
    }

    /// Adds a note that may not be there.
    pub(super) fn extend(&mut self, note: Option<impl Into<String>>) {
        if let Some(note) = note {
            self.add(note);
        }
    }

    /// Notes the names that come more than once in `place`.
    pub(super) fn repeated(&mut self, members: &Members<'_>, place: &str) {
        for name in members.repeated(REPEATED_MAX) {
            let name = quoted(name);
            self.add(format!(
                "{name} comes more than once in {place}, the last one counts"
            ));
        }
    }

    /// The notes, in the order they were made.
    pub(super) fn into_sentences(self) -> Vec<String> {
        self.0
    }
}

/// The sender's words, short and without control characters.
fn quoted(text: &str) -> String {
    let mut shown = String::from("`");
    for character in text.chars() {
        if shown.len() + character.len_utf8() > QUOTED_BYTES_MAX {
            shown.push('…');
            break;
        }
        shown.push(if character.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            character
        });
    }
    shown.push('`');
    shown
}
