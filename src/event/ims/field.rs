//! What fields are made of, and how each is read. Reading is lenient: a value
//! of a type that does not fit is no error, it goes to the unknown fields.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use super::schema::{JsonTypes, ModelInfo};
use crate::event::json::{self, Kind, Raw};

/// A type that a field of a model can have.
pub trait Field: Sized {
    /// What the catalogue allows in JSON, unless the field says otherwise.
    const TYPES: JsonTypes;
    /// The object in it, for the documentation.
    const NESTED: Option<&'static ModelInfo> = None;

    /// Reads a value; `None` where it does not fit.
    fn read(raw: Raw<'_>) -> Option<Self>;
}

impl Field for String {
    const TYPES: JsonTypes = JsonTypes::STRING;

    fn read(raw: Raw<'_>) -> Option<Self> {
        raw.string().map(Into::into)
    }
}

impl Field for bool {
    const TYPES: JsonTypes = JsonTypes::BOOLEAN;

    fn read(raw: Raw<'_>) -> Option<Self> {
        raw.text().parse().ok()
    }
}

impl<T: Field> Field for Vec<T> {
    const TYPES: JsonTypes = JsonTypes::ARRAY;
    const NESTED: Option<&'static ModelInfo> = T::NESTED;

    fn read(raw: Raw<'_>) -> Option<Self> {
        raw.elements()?.into_iter().map(T::read).collect()
    }
}

impl<T: Field> Field for BTreeMap<String, T> {
    const TYPES: JsonTypes = JsonTypes::OBJECT;
    const NESTED: Option<&'static ModelInfo> = T::NESTED;

    fn read(raw: Raw<'_>) -> Option<Self> {
        let members = raw.members()?;
        let read = |(name, value): (&str, Raw<'_>)| Some((name.to_owned(), T::read(value)?));
        members.iter().map(read).collect()
    }
}

/// A number that some senders write as a number and others as a string. It is
/// kept as the text that was sent, so that no digit is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number(String);

impl Number {
    /// The text, as sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value, where it is a whole number that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        self.0.trim().parse().ok()
    }

    /// The value, where it is a finite number.
    pub fn as_f64(&self) -> Option<f64> {
        self.0
            .trim()
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
    }
}

impl Field for Number {
    const TYPES: JsonTypes = JsonTypes::NUMBER;

    fn read(raw: Raw<'_>) -> Option<Self> {
        raw.string_or_number().map(|text| Self(text.into()))
    }
}

/// A string that usually holds JSON, such as `UserData`. It need not be JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonText(String);

impl JsonText {
    /// The text in the string.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The JSON in the string, read as `T`.
    ///
    /// # Errors
    /// What serde_json says where the text is no JSON, or no `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(&self.0)
    }

    /// The JSON in the string; `None` where it holds none.
    pub fn json(&self) -> Option<serde_json::Value> {
        self.parse().ok()
    }
}

impl Field for JsonText {
    const TYPES: JsonTypes = JsonTypes::JSON_IN_STRING;

    fn read(raw: Raw<'_>) -> Option<Self> {
        Some(Self(text_in(raw)?))
    }
}

/// A string that holds the JSON of a `T`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedded<T> {
    text: String,
    holds: PhantomData<T>,
}

impl<T: Field> Embedded<T> {
    /// The text in the string.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reads what the string holds; `None` where that is no `T`.
    pub fn get(&self) -> Option<T> {
        json::value(&self.text).and_then(T::read)
    }
}

impl<T: Field> Field for Embedded<T> {
    const TYPES: JsonTypes = JsonTypes::JSON_IN_STRING;
    const NESTED: Option<&'static ModelInfo> = T::NESTED;

    fn read(raw: Raw<'_>) -> Option<Self> {
        Some(Self {
            text: text_in(raw)?,
            holds: PhantomData,
        })
    }
}

/// A value that no field is there for, as it stood in the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(String);

impl Json {
    /// Its JSON text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The value; `None` where it holds a number that serde_json cannot.
    pub fn value(&self) -> Option<serde_json::Value> {
        serde_json::from_str(&self.0).ok()
    }
}

impl Field for Json {
    const TYPES: JsonTypes = JsonTypes::JSON_IN_STRING;

    fn read(raw: Raw<'_>) -> Option<Self> {
        Some(raw.into())
    }
}

impl From<Raw<'_>> for Json {
    fn from(raw: Raw<'_>) -> Self {
        Self(raw.text().to_owned())
    }
}

/// The text in a string; the JSON itself where it was sent without one.
fn text_in(raw: Raw<'_>) -> Option<String> {
    match raw.kind() {
        Kind::Null => None,
        Kind::String => String::read(raw),
        _ => Some(raw.text().to_owned()),
    }
}
