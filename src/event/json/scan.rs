//! The reader itself: a walk over the text that checks every byte it passes.

use std::borrow::Cow;

use super::value::{Raw, unescape};
use super::{LEVELS_MAX, is_blank};

/// Why a text is not JSON that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    /// Against the grammar.
    #[error("no JSON from byte {at} on")]
    Syntax {
        /// Where, in bytes from the start of the text.
        at: usize,
    },
    /// More than [`LEVELS_MAX`] levels.
    #[error("deeper than {LEVELS_MAX} levels")]
    TooDeep,
}

/// Walks over JSON text. Everything it hands out was checked on the way.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// How many objects and arrays are open here.
    level: u32,
    /// One bit per open level, the innermost lowest: 1 is an object.
    objects: u128,
}

impl<'a> Scanner<'a> {
    /// Begins at the start of `text`.
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            level: 0,
            objects: 0,
        }
    }

    /// The first byte that is no blank, from here on.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = self.here()?;
            if !is_blank(byte) {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Reads what `read` reads, and returns its text.
    pub(crate) fn slice(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<(), Invalid>,
    ) -> Result<Raw<'a>, Invalid> {
        self.peek();
        let start = self.at;
        read(self)?;
        Ok(Raw::new(&self.text[start..self.at]))
    }

    /// Reads one value of any type.
    pub(crate) fn value(&mut self) -> Result<Raw<'a>, Invalid> {
        self.slice(Self::skip)
    }

    /// Checks that nothing but blanks is left.
    pub(crate) fn end(&mut self) -> Result<(), Invalid> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.invalid(),
        }
    }

    /// Walks over one value. Not recursive: the levels are bits in `objects`.
    fn skip(&mut self) -> Result<(), Invalid> {
        let outside = self.level;
        loop {
            match self.peek() {
                Some(b'{') => {
                    self.open(b'{')?;
                    if !self.close(b'}') {
                        self.name()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.open(b'[')?;
                    if !self.close(b']') {
                        continue;
                    }
                }
                Some(b'"') => self.string()?,
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                _ => self.number()?,
            }
            if self.leave(outside)? {
                return Ok(());
            }
        }
    }

    /// After a value: closes the levels that end here. True when the level is
    /// back at `outside`, false when another value follows.
    fn leave(&mut self, outside: u32) -> Result<bool, Invalid> {
        while self.level > outside {
            let object = self.objects & 1 == 1;
            if !self.next_or_close(if object { b'}' } else { b']' })? {
                if object {
                    self.name()?;
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Opens an object or an array.
    pub(crate) fn open(&mut self, bracket: u8) -> Result<(), Invalid> {
        if self.peek() != Some(bracket) {
            return self.invalid();
        }
        if self.level == LEVELS_MAX {
            return Err(Invalid::TooDeep);
        }
        self.at += 1;
        self.level += 1;
        self.objects = self.objects << 1 | u128::from(bracket == b'{');
        Ok(())
    }

    /// Closes the innermost level, if `bracket` comes next.
    pub(crate) fn close(&mut self, bracket: u8) -> bool {
        let closes = self.peek() == Some(bracket);
        if closes {
            self.at += 1;
            self.level -= 1;
            self.objects >>= 1;
        }
        closes
    }

    /// Between two values: true when `bracket` closes the level, false after a comma.
    pub(crate) fn next_or_close(&mut self, bracket: u8) -> Result<bool, Invalid> {
        if self.close(bracket) {
            return Ok(true);
        }
        if self.peek() != Some(b',') {
            return self.invalid();
        }
        self.at += 1;
        Ok(false)
    }

    /// Reads the name of a member, and the colon behind it.
    pub(crate) fn name(&mut self) -> Result<Cow<'a, str>, Invalid> {
        if self.peek() != Some(b'"') {
            return self.invalid();
        }
        let start = self.at + 1;
        self.string()?;
        let name = &self.text[start..self.at - 1];
        if self.peek() != Some(b':') {
            return self.invalid();
        }
        self.at += 1;
        Ok(unescape(name))
    }

    /// Walks over a string, from quote to quote.
    fn string(&mut self) -> Result<(), Invalid> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        loop {
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0x20..) => self.at += 1,
                _ => return self.invalid(),
            }
        }
    }

    /// Walks over one escape.
    fn escape(&mut self) -> Result<(), Invalid> {
        let rest = &self.text.as_bytes()[self.at + 1..];
        let length = match rest {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|x| x.is_ascii_hexdigit()) => 6,
            _ => return self.invalid(),
        };
        self.at += length;
        Ok(())
    }

    /// Walks over a number.
    fn number(&mut self) -> Result<(), Invalid> {
        if self.here() == Some(b'-') {
            self.at += 1;
        }
        if self.here() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.here() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.here() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.here() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Walks over one digit or more.
    fn digits(&mut self) -> Result<(), Invalid> {
        let start = self.at;
        while self.here().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            return self.invalid();
        }
        Ok(())
    }

    /// Walks over `true`, `false` or `null`.
    fn word(&mut self, word: &str) -> Result<(), Invalid> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return self.invalid();
        }
        self.at += word.len();
        Ok(())
    }

    fn here(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn invalid<T>(&self) -> Result<T, Invalid> {
        Err(Invalid::Syntax { at: self.at })
    }
}
