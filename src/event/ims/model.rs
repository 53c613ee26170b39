//! The two macros behind the typed models: one definition gives the struct,
//! its documentation, its reader and its row of the catalogue.

/// An object of the catalogue. Each field is
/// `name: Type = "JsonName" as JSON_TYPES, Presence, Confidence;`
/// where `as …` stands only if the catalogue allows other JSON types than the
/// Rust type suggests.
macro_rules! object {
    (
        $(#[doc = $doc:literal])+
        $name:ident {
            $(
                $(#[doc = $field_doc:literal])+
                $field:ident: $type:ty = $json:literal $(as $types:ident)?, $presence:ident, $confidence:ident;
            )*
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, Default)]
        #[non_exhaustive]
        pub struct $name {
            $(
                $(#[doc = $field_doc])+
                #[doc = ""]
                #[doc = concat!(
                    "`", $json, "` in JSON. Confidence: ",
                    "[`", stringify!($confidence), "`](crate::event::ims::schema::Confidence::",
                    stringify!($confidence), ").",
                )]
                pub $field: Option<$type>,
            )*
            /// Fields that the catalogue does not know, and those whose JSON
            /// type does not fit, as they were sent.
            pub other: std::collections::BTreeMap<String, $crate::event::ims::field::Json>,
        }

        impl $name {
            /// What the catalogue says about it.
            pub const MODEL: &'static $crate::event::ims::schema::ModelInfo =
                &$crate::event::ims::schema::ModelInfo {
                    name: stringify!($name),
                    docs: concat!($($doc, "\n"),+),
                    fields: &[$(
                        $crate::event::ims::schema::FieldInfo {
                            name: $json,
                            types: $crate::event::ims::model::types!($type $(as $types)?),
                            presence: $crate::event::ims::schema::Presence::$presence,
                            confidence: $crate::event::ims::schema::Confidence::$confidence,
                            docs: concat!($($field_doc, "\n"),+),
                            nested: <$type as $crate::event::ims::field::Field>::NESTED,
                        },
                    )*],
                };

            /// Reads the fields; the last one of a name counts.
            pub(crate) fn from_members(members: &$crate::event::json::Members<'_>) -> Self {
                let mut this = Self::default();
                for (name, raw) in members.iter() {
                    let fits = match name {
                        $(
                            $json => {
                                this.$field = $crate::event::ims::field::Field::read(raw);
                                this.$field.is_some()
                            }
                        )*
                        _ => false,
                    };
                    if fits || raw.kind() == $crate::event::json::Kind::Null {
                        this.other.remove(name);
                    } else {
                        this.other.insert(name.to_owned(), raw.into());
                    }
                }
                this
            }
        }

        impl $crate::event::ims::field::Field for $name {
            const TYPES: $crate::event::ims::schema::JsonTypes =
                $crate::event::ims::schema::JsonTypes::OBJECT;
            const NESTED: Option<&'static $crate::event::ims::schema::ModelInfo> = Some(Self::MODEL);

            fn read(raw: $crate::event::json::Raw<'_>) -> Option<Self> {
                // Some senders put the object into a string.
                let inner = raw.string();
                let raw = match &inner {
                    None => raw,
                    Some(text) => $crate::event::json::value(text)?,
                };
                Some(Self::from_members(&raw.members()?))
            }
        }
    };
}

/// An event of the catalogue: an [`object!`] with a category, the confidence in
/// it as a whole, its source, and the names of its samples.
macro_rules! event {
    (
        $(#[doc = $doc:literal])+
        $name:ident ($category:ident, $confidence:ident, $source:literal, [$($sample:literal),+]) { $($fields:tt)* }
    ) => {
        $crate::event::ims::model::object! {
            $(#[doc = $doc])+
            $name { $($fields)* }
        }

        impl $name {
            /// Its row of the catalogue.
            #[doc = ""]
            #[doc = concat!("Source: ", $source, ".")]
            pub const EVENT: &'static $crate::event::ims::schema::EventInfo =
                &$crate::event::ims::schema::EventInfo {
                    name: stringify!($name),
                    category: $crate::event::ims::schema::Category::$category,
                    confidence: $crate::event::ims::schema::Confidence::$confidence,
                    source: $source,
                    model: Self::MODEL,
                    samples: &[$(
                        $crate::event::ims::schema::Sample {
                            name: $sample,
                            body: include_str!(concat!(
                                env!("CARGO_MANIFEST_DIR"),
                                "/tests/fixtures/events/",
                                $sample,
                                ".json"
                            )),
                        },
                    )+],
                };
        }
    };
}

/// The JSON types of a field: those of its Rust type unless others are given.
macro_rules! types {
    ($type:ty) => {
        <$type as $crate::event::ims::field::Field>::TYPES
    };
    ($type:ty as $types:ident) => {
        $crate::event::ims::schema::JsonTypes::$types
    };
}

pub(crate) use {event, object, types};
