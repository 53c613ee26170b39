//! JSON as the sender wrote it: a strict, non-recursive reader over the text.
//!
//! A body is kept as it came, so what is needed is not a tree but an answer to
//! "is this JSON?", the members of an object as slices of the text, and a form
//! without line breaks. serde_json answers the first one too kindly (it skips
//! over invalid UTF-8 and any depth) and would rewrite numbers; what is here
//! touches every byte once, allocates nothing for what it skips, and counts
//! levels itself.

use std::borrow::Cow;

mod scan;
mod value;

pub(crate) use scan::{Invalid, Scanner};
pub(crate) use value::{Kind, Members, Raw};

/// Objects and arrays inside each other, the outermost included.
pub const LEVELS_MAX: u32 = 128;

/// A byte order mark, which some senders put before UTF-8.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The text of `body` where it is JSON by RFC 8259, in valid UTF-8 and at most
/// [`LEVELS_MAX`] levels deep; a leading byte order mark is left out. `None`
/// where it is anything else. Takes time linear in the length.
pub fn checked(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(without_bom(body)).ok()?;
    value(text).map(|_| text)
}

/// `json` without the whitespace between its tokens, and nothing else changed:
/// no number is rewritten, no key is lost. What comes out is one line.
///
/// Meant for text that [`checked`] let through; other text comes out in some
/// form too, without a panic.
pub fn minify(json: &str) -> Cow<'_, str> {
    let bytes = json.as_bytes();
    let mut out = String::new();
    let (mut kept, mut at) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        if *byte == b'"' {
            at = string_end(bytes, at + 1);
        } else if is_blank(*byte) {
            out.reserve(if out.is_empty() { json.len() } else { 0 });
            out.push_str(&json[kept..at]);
            at += bytes[at..]
                .iter()
                .take_while(|byte| is_blank(**byte))
                .count();
            kept = at;
        } else {
            at += 1;
        }
    }
    if kept == 0 {
        return Cow::Borrowed(json);
    }
    out.push_str(&json[kept..]);
    Cow::Owned(out)
}

/// The one value that `text` is; `None` where it is no JSON.
pub(crate) fn value(text: &str) -> Option<Raw<'_>> {
    let mut scanner = Scanner::new(text);
    let value = scanner.value().ok()?;
    scanner.end().ok().map(|()| value)
}

/// `body` without a leading byte order mark.
pub(crate) fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(BOM).unwrap_or(body)
}

/// The index after the quote that ends the string whose inside begins at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Whitespace as RFC 8259 has it.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests;
