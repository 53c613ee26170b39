//! From a verified request to an event. Total: there is no body that this
//! refuses, and no body that takes more than linear time.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::ims::{self, schema};
use super::json::{self, Invalid, Kind, Members, Raw, Scanner};
use super::{EVENT_TYPE_BYTES_MAX, Fingerprint, ID_BYTES_MAX, MALFORMED, NewEvent, Outcome};
use crate::signature::VerifiedRequest;

use notes::Notes;

mod notes;

/// Reads a verified request. What cannot be read becomes an event of type
/// [`MALFORMED`]; what is odd leaves a note; the raw body is always kept.
pub fn parse(request: VerifiedRequest) -> NewEvent {
    let (source, verified, head, body) = request.into_parts();
    let fields = Fields::read(&body);
    NewEvent {
        source,
        event_type: fields.event_type.unwrap_or_else(|| MALFORMED.to_owned()),
        event_time: fields.event_time,
        user_id: fields.user_id,
        outcome: fields.outcome,
        media_id: fields.media_id,
        job_id: fields.job_id,
        verified,
        head,
        fingerprint: fingerprint(&body),
        body,
        notes: fields.notes.into_sentences(),
    }
}

/// What tells `body` from others.
pub fn fingerprint(body: &[u8]) -> Fingerprint {
    let digest: [u8; 32] = Sha256::digest(body).into();
    *digest
        .first_chunk()
        .expect("a SHA-256 is longer than a fingerprint")
}

/// The `MessageBody` of a callback's text, where it is an object.
pub(super) fn message_body(text: &str) -> Option<Members<'_>> {
    match Envelope::read(text).ok()?.message {
        Message::Object(members) => Some(members),
        Message::Missing | Message::Other(_) => None,
    }
}

/// What is read out of a body.
#[derive(Default)]
struct Fields {
    event_type: Option<String>,
    event_time: Option<String>,
    user_id: Option<String>,
    outcome: Outcome,
    media_id: Option<String>,
    job_id: Option<String>,
    notes: Notes,
}

impl Fields {
    fn read(body: &[u8]) -> Self {
        let mut fields = Self::default();
        let unmarked = json::without_bom(body);
        if unmarked.len() < body.len() {
            fields
                .notes
                .add("a byte order mark before the body was ignored");
        }
        let Ok(text) = std::str::from_utf8(unmarked) else {
            fields.notes.add("the body is not UTF-8");
            return fields;
        };
        match Envelope::read(text) {
            Ok(envelope) => fields.read_envelope(&envelope),
            Err(invalid) => fields.notes.add(why_malformed(text, invalid)),
        }
        fields
    }

    fn read_envelope(&mut self, envelope: &Envelope<'_>) {
        let Envelope { members, message } = envelope;
        self.event_type = event_type(members, &mut self.notes);
        self.notes.repeated(members, "the body");
        self.user_id = first_id(members, &["UserId"], &mut self.notes);
        let event_time = members.get("EventTime").and_then(text);
        self.event_time = event_time.and_then(|time| id("EventTime", time, &mut self.notes));
        note_oddity(
            &mut self.notes,
            "UserId",
            members.get("UserId"),
            schema::JsonTypes::NUMBER,
        );
        note_oddity(
            &mut self.notes,
            "EventTime",
            members.get("EventTime"),
            schema::JsonTypes::STRING,
        );
        match message {
            Message::Object(message) => self.read_message(message),
            Message::Other(kind) => {
                self.notes.add(format!(
                    "`MessageBody` is {}, not an object",
                    article(*kind)
                ));
            }
            Message::Missing => {
                self.notes.add("`MessageBody` is missing");
                self.notes.extend(look_alike(members));
            }
        }
    }

    fn read_message(&mut self, message: &Members<'_>) {
        self.notes.repeated(message, "`MessageBody`");
        self.media_id = first_id(message, &["MediaId"], &mut self.notes);
        self.job_id = first_id(
            message,
            &["JobId", "ParentJobId", "TaskId"],
            &mut self.notes,
        );
        self.outcome = first_word(message, &["Status", "State"])
            .map_or(Outcome::Other, |(_, word)| Outcome::from_word(&word));

        let Some(event_type) = &self.event_type else {
            return;
        };
        match ims::info(event_type) {
            Some(event) => note_fields(&mut self.notes, event, message),
            None => self.notes.extend(misspelt(event_type)),
        }
    }
}

/// The members of a body, and of the `MessageBody` in it.
struct Envelope<'a> {
    members: Members<'a>,
    message: Message<'a>,
}

enum Message<'a> {
    Missing,
    Other(Kind),
    Object(Members<'a>),
}

impl<'a> Envelope<'a> {
    /// Reads both levels in one pass over the text.
    fn read(text: &'a str) -> Result<Self, Invalid> {
        let mut message = Message::Missing;
        let mut scanner = Scanner::new(text);
        let members = Members::read_with(&mut scanner, |name, scanner| {
            if name != "MessageBody" {
                return scanner.value();
            }
            if scanner.peek() != Some(b'{') {
                let raw = scanner.value()?;
                message = Message::Other(raw.kind());
                return Ok(raw);
            }
            scanner.slice(|scanner| {
                message = Message::Object(Members::read(scanner)?);
                Ok(())
            })
        })?;
        scanner.end()?;
        Ok(Self { members, message })
    }
}

/// Why a body is not the object that was looked for.
fn why_malformed(text: &str, invalid: Invalid) -> String {
    let blank = |c| matches!(c, ' ' | '\t' | '\n' | '\r');
    let text = text.trim_start_matches(blank);
    match invalid {
        _ if text.is_empty() => "the body is empty".to_owned(),
        Invalid::Syntax { .. } if !text.starts_with('{') => match json::value(text) {
            Some(value) => format!("the body is {}, not an object", article(value.kind())),
            None => "the body is no JSON".to_owned(),
        },
        Invalid::Syntax { at } => format!("the body is no JSON from byte {at} on"),
        Invalid::TooDeep => format!("the body is nested deeper than {} levels", json::LEVELS_MAX),
    }
}

/// The type, where it can be taken for one.
fn event_type(members: &Members<'_>, notes: &mut Notes) -> Option<String> {
    let Some(raw) = members.get("EventType") else {
        notes.add("`EventType` is missing");
        return None;
    };
    let problem = match raw.string() {
        None => format!("`EventType` is {}, not a string", article(raw.kind())),
        Some(name) if name.is_empty() => "`EventType` is empty".to_owned(),
        Some(name) if name.len() > EVENT_TYPE_BYTES_MAX => {
            format!(
                "`EventType` is {} bytes long, more than {EVENT_TYPE_BYTES_MAX}",
                name.len()
            )
        }
        Some(name) => return Some(name.into_owned()),
    };
    notes.add(problem);
    None
}

/// The first of `names` that holds text, or a number, whose digits are kept.
fn first_id(members: &Members<'_>, names: &[&str], notes: &mut Notes) -> Option<String> {
    let (name, word) = first_word(members, names)?;
    id(name, word, notes)
}

/// What stands under `name`, where it can be taken for an id.
fn id(name: &str, word: Cow<'_, str>, notes: &mut Notes) -> Option<String> {
    if word.len() > ID_BYTES_MAX {
        notes.add(too_long(name, word.len()));
        return None;
    }
    Some(word.into_owned())
}

/// The note about a field that is too long for what it is.
pub fn too_long(name: &str, bytes: usize) -> String {
    format!("`{name}` is {bytes} bytes long, more than {ID_BYTES_MAX}")
}

/// The first of `names` that holds a word, and the word.
fn first_word<'a, 'n>(members: &Members<'a>, names: &[&'n str]) -> Option<(&'n str, Cow<'a, str>)> {
    let word = |name: &&'n str| Some((*name, members.get(name)?.string_or_number()?));
    let mut words = names.iter().filter_map(word);
    words.find(|(_, word)| !word.is_empty())
}

fn text(raw: Raw<'_>) -> Option<Cow<'_, str>> {
    raw.string().filter(|text| !text.is_empty())
}

/// Notes where the fields differ from what the catalogue says.
fn note_fields(notes: &mut Notes, event: &schema::EventInfo, message: &Members<'_>) {
    for field in event.model.fields {
        let value = message.get(field.name);
        if value.is_some() || field.presence == schema::Presence::Always {
            note_oddity(notes, field.name, value, field.types);
        }
    }
}

/// Notes where a field is missing, or is not what it should be.
fn note_oddity(notes: &mut Notes, name: &str, value: Option<Raw<'_>>, types: schema::JsonTypes) {
    match value.map(Raw::kind) {
        None => notes.add(format!("`{name}` is missing")),
        Some(kind) if !types.allow(kind) => {
            notes.add(format!(
                "`{name}` is {}, the catalogue says {types}",
                article(kind)
            ));
        }
        Some(_) => {}
    }
}

/// A type that is known in another spelling.
fn misspelt(event_type: &str) -> Option<String> {
    let known = ims::all_types().find(|known| known.eq_ignore_ascii_case(event_type))?;
    Some(format!(
        "`EventType` differs from `{known}` in upper and lower case"
    ))
}

/// What a body without `MessageBody` looks like: other products of the same
/// house send to the same server.
fn look_alike(members: &Members<'_>) -> Option<&'static str> {
    let has = |name| members.get(name).is_some();
    let flat = [
        "Status",
        "VideoId",
        "ImageId",
        "MediaId",
        "AttachedMediaId",
        "JobId",
        "TaskId",
        "StreamInfos",
    ];
    if has("EventType") {
        return flat
            .into_iter()
            .any(has)
            .then_some("it looks like a callback of ApsaraVideo VOD, whose fields are flat");
    }
    if has("Type") && has("State") && has("JobId") {
        Some("it looks like a message of ApsaraVideo Media Processing (MPS)")
    } else if has("domain") && has("app") && has("stream") {
        Some("it looks like a callback of ApsaraVideo Live")
    } else if has("aiAgentId") || has("instanceId") && has("event") {
        Some("it looks like a callback of an IMS AI agent")
    } else {
        None
    }
}

/// The type of a value, as a sentence needs it.
fn article(kind: Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::Boolean => "a boolean",
        Kind::Number => "a number",
        Kind::String => "a string",
        Kind::Array => "an array",
        Kind::Object => "an object",
    }
}

#[cfg(test)]
pub(in crate::event) mod tests;
