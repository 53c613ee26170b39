//! The catalogue as data: what each event is, and what its fields may be. The
//! macros of the typed models fill these tables, so that parsing, metric
//! labels, `docs/events.md` and the models cannot part.

use std::fmt;

use crate::event::json::Kind;

/// One event type of the catalogue.
#[derive(Debug, Clone, Copy)]
pub struct EventInfo {
    /// The `EventType`, exactly.
    pub name: &'static str,
    /// The heading it stands under in the documentation.
    pub category: Category,
    /// How much of it is known for certain.
    pub confidence: Confidence,
    /// Where the knowledge comes from.
    pub source: &'static str,
    /// When it fires and what its `MessageBody` holds.
    pub model: &'static ModelInfo,
    /// Bodies of this type, the plain one first.
    pub samples: &'static [Sample],
}

/// A body as IMS would send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The event type, followed by `.fail` where the job failed.
    pub name: &'static str,
    /// The whole body, JSON.
    pub body: &'static str,
}

/// One object of the catalogue: a `MessageBody`, or an object inside one.
#[derive(Debug)]
pub struct ModelInfo {
    /// Its name in Rust.
    pub name: &'static str,
    /// What it is, in Markdown.
    pub docs: &'static str,
    /// Its fields.
    pub fields: &'static [FieldInfo],
}

/// One field of an object.
#[derive(Debug)]
pub struct FieldInfo {
    /// Its name in JSON, exactly.
    pub name: &'static str,
    /// What it may be in JSON.
    pub types: JsonTypes,
    /// Whether it may be left out.
    pub presence: Presence,
    /// How certain it is.
    pub confidence: Confidence,
    /// Meaning, unit and allowed values, in Markdown.
    pub docs: &'static str,
    /// The object, or the element of the array, that the field holds.
    pub nested: Option<&'static ModelInfo>,
}

/// The headings of the documentation's event list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Media asset upload.
    Upload,
    /// Media asset management.
    Media,
    /// Workflow.
    Workflow,
    /// Media processing in the manner of ApsaraVideo VOD.
    Transcode,
    /// Video AI.
    Ai,
    /// Intelligent editing.
    Editing,
    /// Real-time media processing.
    Live,
}

impl Category {
    /// All of them, in the documentation's order.
    pub const ALL: [Self; 7] = [
        Self::Upload,
        Self::Media,
        Self::Workflow,
        Self::Transcode,
        Self::Ai,
        Self::Editing,
        Self::Live,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Upload => "Media asset upload",
            Self::Media => "Media asset management",
            Self::Workflow => "Workflow",
            Self::Transcode => "VOD-style media processing",
            Self::Ai => "Video AI",
            Self::Editing => "Intelligent editing",
            Self::Live => "Real-time media processing",
        }
    }
}

/// How certain a piece of the catalogue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confidence {
    /// Documented: the page, or a verbatim copy of its sample, was readable.
    Documented,
    /// Seen: a captured payload is public.
    Seen,
    /// Partly documented: name, trigger and some of the body were readable.
    Partly,
    /// Name and trigger are documented, the body is inferred.
    NameOnly,
    /// Inferred from the event of the same name of ApsaraVideo VOD.
    InferredVod,
    /// Inferred from the query API's model of the same job or file.
    InferredJob,
}

impl Confidence {
    /// All of them, the most certain first.
    pub const ALL: [Self; 6] = [
        Self::Documented,
        Self::Seen,
        Self::Partly,
        Self::NameOnly,
        Self::InferredVod,
        Self::InferredJob,
    ];

    /// The short mark that tables use.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Documented => "D",
            Self::Seen => "S",
            Self::Partly => "P",
            Self::NameOnly => "N",
            Self::InferredVod => "I-VOD",
            Self::InferredJob => "I-JOB",
        }
    }

    /// What the mark means.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Documented => {
                "documented: the page, or a verbatim copy of its sample, was readable"
            }
            Self::Seen => "seen: a captured payload is public",
            Self::Partly => "partly documented: name, trigger and some of the body were readable",
            Self::NameOnly => "name and trigger are documented, the body is inferred",
            Self::InferredVod => "inferred from the event of the same name of ApsaraVideo VOD",
            Self::InferredJob => "inferred from the query API's model of the same job or file",
        }
    }
}

/// Whether a field may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Documented as required, or in every sample that is documented or seen.
    /// Its absence is noted on the event.
    Always,
    /// May be missing, as far as anybody knows.
    Sometimes,
}

/// The JSON types that the catalogue allows for a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonTypes {
    set: u8,
    label: &'static str,
}

impl JsonTypes {
    /// A string.
    pub const STRING: Self = Self::of(&[Kind::String], "string");
    /// A number.
    pub const NUMBER: Self = Self::of(&[Kind::Number], "number");
    /// A number, written as a string.
    pub const NUMBER_IN_STRING: Self = Self::of(&[Kind::String], "number in a string");
    /// Either; the sources disagree.
    pub const STRING_OR_NUMBER: Self = Self::of(&[Kind::String, Kind::Number], "string or number");
    /// `true` or `false`.
    pub const BOOLEAN: Self = Self::of(&[Kind::Boolean], "boolean");
    /// An object.
    pub const OBJECT: Self = Self::of(&[Kind::Object], "object");
    /// An array.
    pub const ARRAY: Self = Self::of(&[Kind::Array], "array");
    /// An object, or one as JSON in a string; the sources disagree.
    pub const OBJECT_OR_JSON: Self =
        Self::of(&[Kind::Object, Kind::String], "object or JSON in a string");
    /// JSON in a string. The JSON itself in place of the string is no surprise.
    pub const JSON_IN_STRING: Self = Self {
        set: u8::MAX,
        label: "JSON in a string",
    };

    const fn of(kinds: &[Kind], label: &'static str) -> Self {
        let mut set = 0;
        let mut index = 0;
        while index < kinds.len() {
            set |= 1 << kinds[index] as u8;
            index += 1;
        }
        Self { set, label }
    }

    /// Whether a value of this type is one of them.
    pub(crate) fn allow(self, kind: Kind) -> bool {
        self.set & (1 << kind as u8) != 0
    }
}

impl fmt::Display for JsonTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label)
    }
}
