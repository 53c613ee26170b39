//! Text of others, made fit to be shown: what a terminal or a browser would
//! obey instead of show is written as an escape.
//!
//! There is one list for everything that the program shows, and only
//! [`is_obeyed`] asks it.

use std::fmt::{self, Write as _};

/// Control characters, the separators that some programs take for line ends,
/// and the marks that turn the direction of writing or are not seen at all.
const OBEYED: [(char, char); 7] = [
    ('\0', '\u{1f}'),
    ('\u{7f}', '\u{9f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{200e}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2066}', '\u{2069}'),
    ('\u{feff}', '\u{feff}'),
];

/// Whether `c` is obeyed instead of shown.
pub fn is_obeyed(c: char) -> bool {
    OBEYED.iter().any(|(from, to)| (*from..=*to).contains(&c))
}

/// The characters that are obeyed, as the inside of a character class of a
/// regular expression in JavaScript.
pub fn obeyed_class() -> String {
    let mut class = String::new();
    for (from, to) in OBEYED {
        // All of them are written in four digits.
        let (from, to) = (u32::from(from), u32::from(to));
        class.push_str(&format!("\\u{from:04x}-\\u{to:04x}"));
    }
    class
}

/// A text on one line: what would break it, turn it, or drive what shows it is
/// escaped, such as `\n` and `\u{202e}`.
#[derive(Debug, Clone, Copy)]
pub struct OneLine<'a>(pub &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(self.0, f, |_| false)
    }
}

/// A text of several lines: as [`OneLine`], but line feeds and tabulators stay.
#[derive(Debug, Clone, Copy)]
pub struct Lines<'a>(pub &'a str);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(self.0, f, |c| matches!(c, '\n' | '\t'))
    }
}

fn shown(text: &str, f: &mut fmt::Formatter<'_>, stays: impl Fn(char) -> bool) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.find(|c| is_obeyed(c) && !stays(c)) {
        let (plain, after) = rest.split_at(at);
        f.write_str(plain)?;
        let mut after = after.chars();
        if let Some(c) = after.next() {
            write!(f, "{}", c.escape_default())?;
        }
        rest = after.as_str();
    }
    f.write_str(rest)
}

/// Appends `c` to a JSON document, as an escape of JSON where it is obeyed:
/// what the document means stays the same.
pub fn push_json(out: &mut String, c: char) {
    if is_obeyed(c) {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // A string takes every character.
            let _ = write!(out, "\\u{unit:04x}");
        }
    } else {
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_obeyed_is_escaped_and_nothing_else() {
        for c in '\0'..=char::MAX {
            let listed = c.is_control()
                || matches!(
                    c,
                    '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
                        | '\u{2066}'..='\u{2069}' | '\u{feff}'
                );
            assert_eq!(is_obeyed(c), listed, "{c:?}");
        }
        let text = "ä\u{1b}[2J\n\t\u{9b}\u{61c}\u{2028}\u{202e}x\u{feff}\\n 👩\u{200d}🚀";
        assert_eq!(
            OneLine(text).to_string(),
            "ä\\u{1b}[2J\\n\\t\\u{9b}\\u{61c}\\u{2028}\\u{202e}x\\u{feff}\\n 👩\u{200d}🚀"
        );
        assert_eq!(Lines("a\n\tb\r").to_string(), "a\n\tb\\r");
        assert!(obeyed_class().starts_with("\\u0000-\\u001f\\u007f-\\u009f"));
    }

    #[test]
    fn json_means_the_same_afterwards() {
        let text = "a\u{9b}2J\u{202e}\u{7f}ü";
        let mut json = String::new();
        format!("\"{text}\"")
            .chars()
            .for_each(|c| push_json(&mut json, c));
        assert_eq!(json, "\"a\\u009b2J\\u202e\\u007fü\"");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
