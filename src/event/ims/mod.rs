//! The 29 events of IMS, as the catalogue knows them.
//!
//! One type is one struct in the file of its category, one name in the list
//! below, and one body in `tests/fixtures/events`. The models are a view: they
//! are read from a stored body on demand, and nothing that is missing or odd in
//! it makes reading fail. Whether an event is accepted never depends on them.
//!
//! Only four bodies are documented or were seen; the others are inferred, and
//! every field says how certain it is.

use std::collections::BTreeMap;

use super::json::{self, Members};
use super::parse::message_body;

pub mod ai;
pub mod convert;
pub mod editing;
mod field;
pub mod file_meta;
pub mod live;
pub mod media;
mod model;
pub mod schema;
pub mod snapshot;
pub mod transcode;
pub mod upload;
pub mod workflow;

pub use field::{Embedded, Json, JsonText, Number};
use schema::{EventInfo, Sample};

/// Makes the enum over the models, and the look-ups by name.
macro_rules! events {
    ($($module:ident: $($name:ident),+;)+) => {
        /// One event, by its type. Boxed, since some of them are large.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum ImsEvent {
            $($(
                #[doc = concat!("`", stringify!($name), "`")]
                $name(Box<$module::$name>),
            )+)+
            /// A type that is not in the catalogue.
            Unknown(Unknown),
        }

        /// The catalogue, in the documentation's order.
        pub static EVENTS: &[&EventInfo] = &[$($($module::$name::EVENT,)+)+];

        /// What the catalogue says about an event type.
        pub fn info(event_type: &str) -> Option<&'static EventInfo> {
            $($(
                if event_type == stringify!($name) {
                    return Some($module::$name::EVENT);
                }
            )+)+
            None
        }

        impl ImsEvent {
            fn from_members(event_type: &str, members: &Members<'_>) -> Self {
                $($(
                    if event_type == stringify!($name) {
                        return Self::$name(Box::new($module::$name::from_members(members)));
                    }
                )+)+
                Self::Unknown(Unknown {
                    event_type: event_type.to_owned(),
                    fields: members.iter().map(|(name, raw)| (name.to_owned(), raw.into())).collect(),
                })
            }

            /// The `EventType`.
            pub fn event_type(&self) -> &str {
                match self {
                    $($(Self::$name(_) => stringify!($name),)+)+
                    Self::Unknown(unknown) => &unknown.event_type,
                }
            }
        }
    };
}

events! {
    upload: FileUploadComplete, UploadByURLComplete, ImageUploadComplete, AttachedMediaUploadComplete,
        RegisterStreamComplete, StreamUploadComplete, UploadStreamByURLComplete;
    media: CreateAuditComplete, RegisterMediaComplete, DeleteMediaComplete, MediaBaseChangeComplete;
    workflow: WorkflowTaskComplete;
    transcode: VideoAnalysisComplete;
    snapshot: SnapshotComplete, DynamicImageComplete;
    transcode: TranscodeComplete, TranscodeParentComplete;
    convert: MediaConvertComplete, MediaConvertOutputGroupComplete, MediaConvertOutputComplete;
    ai: AIMediaAuditComplete, AIProduceComplete, MediaAiAnalysisComplete;
    editing: ProduceMediaComplete, BatchProduceMediaComplete, SmartJobComplete;
    live: LiveRecordFileCreated, LiveRecordTaskStatus, LiveSnapshotFileCreated;
}

/// An event whose type the catalogue does not know.
#[derive(Debug, Clone, PartialEq)]
pub struct Unknown {
    /// Its type, as sent.
    pub event_type: String,
    /// The fields of its `MessageBody`, as sent.
    pub fields: BTreeMap<String, Json>,
}

impl ImsEvent {
    /// Reads the `MessageBody` of `body`, the whole body of a callback, as
    /// `event_type` has it. Never fails: what is missing or does not fit is
    /// `None`, and what does not fit is kept in `other`.
    pub fn from_event(event_type: &str, body: &[u8]) -> Self {
        let members = json::checked(body)
            .and_then(message_body)
            .unwrap_or_default();
        Self::from_members(event_type, &members)
    }

    /// What the catalogue says about this type; `None` where it is unknown.
    pub fn info(&self) -> Option<&'static EventInfo> {
        info(self.event_type())
    }
}

/// The type's name as a label that no sender can make up; `None` for a type
/// that is not in the catalogue.
pub fn known_type(name: &str) -> Option<&'static str> {
    info(name).map(|event| event.name)
}

/// All types of the catalogue, in its order.
pub fn all_types() -> impl Iterator<Item = &'static str> {
    EVENTS.iter().map(|event| event.name)
}

/// The bodies of a type, the plain one first; empty for an unknown type.
pub fn samples(event_type: &str) -> &'static [Sample] {
    info(event_type).map_or(&[], |event| event.samples)
}

/// The plain body of a type.
pub fn sample(event_type: &str) -> Option<&'static str> {
    samples(event_type).first().map(|sample| sample.body)
}

#[cfg(test)]
mod docs;
#[cfg(test)]
mod tests;
