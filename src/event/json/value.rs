//! Values as slices of the text, and the members of objects.

use std::borrow::Cow;
use std::collections::HashSet;

use super::scan::{Invalid, Scanner};

/// The JSON types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

/// One valid JSON value, as it stands in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// Takes text that was found to be one value.
    pub(in crate::event::json) fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// Its text, without blanks around it.
    pub(crate) fn text(self) -> &'a str {
        self.0
    }

    /// Its type, which the first byte of a valid value gives away.
    pub(crate) fn kind(self) -> Kind {
        match self.0.as_bytes().first() {
            Some(b'"') => Kind::String,
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b't' | b'f') => Kind::Boolean,
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// The text that a string stands for; `None` for other types.
    pub(crate) fn string(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        Some(unescape(inner))
    }

    /// The text of a string, or the digits of a number as they were sent.
    pub(crate) fn string_or_number(self) -> Option<Cow<'a, str>> {
        match self.kind() {
            Kind::Number => Some(Cow::Borrowed(self.0)),
            _ => self.string(),
        }
    }

    /// The members of an object; `None` for other types.
    pub(crate) fn members(self) -> Option<Members<'a>> {
        Members::read(&mut Scanner::new(self.0)).ok()
    }

    /// The elements of an array; `None` for other types.
    pub(crate) fn elements(self) -> Option<Vec<Raw<'a>>> {
        let mut scanner = Scanner::new(self.0);
        let mut elements = Vec::new();
        scanner.open(b'[').ok()?;
        if !scanner.close(b']') {
            loop {
                elements.push(scanner.value().ok()?);
                if scanner.next_or_close(b']').ok()? {
                    break;
                }
            }
        }
        Some(elements)
    }
}

/// The members of one object, in the order of the text, repeated names included.
#[derive(Debug, Default)]
pub(crate) struct Members<'a>(Vec<(Cow<'a, str>, Raw<'a>)>);

/// Most objects have fewer members than this, and are read without growing.
const MEMBERS_EXPECTED: usize = 12;

/// Up to this many members every pair is compared; beyond, a set is cheaper.
const PAIRS_COMPARED_MAX: usize = 24;

impl<'a> Members<'a> {
    /// Reads the object that begins at `scanner`.
    pub(crate) fn read(scanner: &mut Scanner<'a>) -> Result<Self, Invalid> {
        Self::read_with(scanner, |_, scanner| scanner.value())
    }

    /// Reads an object whose values are read by `value`, which is told the name.
    pub(crate) fn read_with(
        scanner: &mut Scanner<'a>,
        mut value: impl FnMut(&str, &mut Scanner<'a>) -> Result<Raw<'a>, Invalid>,
    ) -> Result<Self, Invalid> {
        let mut members = Vec::with_capacity(MEMBERS_EXPECTED);
        scanner.open(b'{')?;
        if !scanner.close(b'}') {
            loop {
                let name = scanner.name()?;
                let value = value(&name, scanner)?;
                members.push((name, value));
                if scanner.next_or_close(b'}')? {
                    break;
                }
            }
        }
        Ok(Self(members))
    }

    /// The value of `name`: the last one where it comes more than once.
    pub(crate) fn get(&self, name: &str) -> Option<Raw<'a>> {
        self.iter()
            .rev()
            .find(|member| member.0 == name)
            .map(|member| member.1)
    }

    /// All members, first to last.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, Raw<'a>)> {
        self.0.iter().map(|(name, value)| (&**name, *value))
    }

    /// Names that come more than once, each once, at most `limit` of them.
    pub(crate) fn repeated(&self, limit: usize) -> Vec<&str> {
        let mut repeated: Vec<&str> = Vec::new();
        let mut note = |name| {
            if repeated.len() < limit && !repeated.contains(&name) {
                repeated.push(name);
            }
        };
        if self.0.len() <= PAIRS_COMPARED_MAX {
            for (index, (name, _)) in self.0.iter().enumerate() {
                if self.0[..index].iter().any(|(earlier, _)| earlier == name) {
                    note(&**name);
                }
            }
        } else {
            // A sender chooses the names; the set's hash is seeded at random.
            let mut seen = HashSet::with_capacity(self.0.len());
            self.iter()
                .filter(|member| !seen.insert(member.0))
                .for_each(|member| note(member.0));
        }
        repeated
    }
}

/// The text that the inside of a valid string stands for. Half of a surrogate
/// pair is allowed by the grammar and stands for no character: it becomes
/// U+FFFD, since refusing it here would lose the event.
pub(in crate::event::json) fn unescape(inner: &str) -> Cow<'_, str> {
    let Some(first) = inner.find('\\') else {
        return Cow::Borrowed(inner);
    };
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    let mut next = Some(first);
    while let Some(at) = next {
        out.push_str(&rest[..at]);
        let (character, length) = escaped(&rest[at..]);
        out.push(character);
        rest = &rest[at + length..];
        next = rest.find('\\');
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The character that the escape at the start of `text` stands for, and the
/// length of the escape.
fn escaped(text: &str) -> (char, usize) {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    if let Some(first) = unit(0) {
        let pair = [first, unit(6).unwrap_or(0)];
        let mut decoded = char::decode_utf16(pair);
        return match decoded.next() {
            Some(Ok(character)) if decoded.next().is_none() => (character, 12),
            Some(Ok(character)) => (character, 6),
            _ => (char::REPLACEMENT_CHARACTER, 6),
        };
    }
    let character = match text.as_bytes().get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(other) => char::from(*other),
        None => char::REPLACEMENT_CHARACTER,
    };
    (character, text.len().min(2))
}
