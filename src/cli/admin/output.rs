//! Standard output. A program gets every byte of JSON as it is, a terminal
//! nothing that it would obey.

use std::io::{self, IsTerminal as _, Write};

use crate::escape::push_json;

/// Standard output, for JSON or for people.
pub fn stdout(json: bool) -> Box<dyn Write> {
    if json {
        json_stdout()
    } else {
        Box::new(anstream::stdout())
    }
}

/// Standard output for JSON.
pub fn json_stdout() -> Box<dyn Write> {
    let stdout = io::stdout();
    if stdout.is_terminal() {
        Box::new(OnTerminal::new(stdout))
    } else {
        Box::new(stdout)
    }
}

/// Escapes what a terminal obeys, as JSON escapes it: the documents mean the
/// same as before.
struct OnTerminal<W> {
    out: W,
    /// The beginning of a character whose end is still to come.
    begun: Vec<u8>,
}

impl<W: Write> OnTerminal<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            begun: Vec::new(),
        }
    }
}

impl<W: Write> Write for OnTerminal<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        let mut rest = all.as_slice();
        let mut shown = String::with_capacity(rest.len());
        loop {
            let (valid, problem) = match str::from_utf8(rest) {
                Ok(text) => (text, None),
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    let valid = str::from_utf8(valid).unwrap_or_default();
                    (valid, Some((error.error_len(), after)))
                }
            };
            for c in valid.chars() {
                match c {
                    '\n' | '\t' => shown.push(c),
                    // Only blank in JSON, and on a terminal it is not.
                    '\r' => shown.push(' '),
                    c => push_json(&mut shown, c),
                }
            }
            match problem {
                None => break,
                Some((None, after)) => {
                    self.begun = after.to_vec();
                    break;
                }
                Some((Some(length), after)) => {
                    shown.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[length..];
                }
            }
        }
        self.out.write_all(shown.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_however_the_document_is_cut() {
        let document = "{\"a\":\"\u{9b}2J\u{202e}ä\u{7f}👩\",\r\n\t\"b\":1}\n";
        let expected = "{\"a\":\"\\u009b2J\\u202eä\\u007f👩\", \n\t\"b\":1}\n";
        for size in 1..document.len() {
            let mut out = OnTerminal::new(Vec::new());
            for piece in document.as_bytes().chunks(size) {
                out.write_all(piece).unwrap();
            }
            assert_eq!(String::from_utf8(out.out).unwrap(), expected, "by {size}");
        }
        let mut out = OnTerminal::new(Vec::new());
        out.write_all(b"a\xff\x9bb\xe2\x82").unwrap();
        assert_eq!(out.out, "a\u{fffd}\u{fffd}b".as_bytes());
    }
}
