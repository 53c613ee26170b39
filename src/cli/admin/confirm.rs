//! The word of whoever asks for much at once.

use std::io::{self, BufRead, IsTerminal as _, Read as _, Write};

use crate::cli::usage::UsageError;

/// Nobody types more than this.
const ANSWER_BYTES_MAX: u64 = 256;

/// Asks for the number itself, which nobody types by accident. `yes` is the
/// answer already. `question` says what would happen.
///
/// # Errors
/// [`UsageError`] where nobody can be asked.
pub fn confirm(yes: bool, question: &str, number: u64) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        return Err(UsageError(format!(
            "{question}. Nobody can be asked, since standard input is no terminal: add --yes"
        ))
        .into());
    }
    let mut errors = anstream::stderr().lock();
    Ok(ask(&mut io::stdin().lock(), &mut errors, question, number)?)
}

fn ask(
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    question: &str,
    number: u64,
) -> io::Result<bool> {
    write!(
        out,
        "{question}.\nType {number} to go on, anything else to leave it: "
    )?;
    out.flush()?;
    let mut answer = String::new();
    input.take(ANSWER_BYTES_MAX).read_line(&mut answer)?;
    let agreed = answer.trim() == number.to_string();
    if !agreed {
        writeln!(out, "Nothing was changed.")?;
    }
    Ok(agreed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_number_agrees() {
        for (typed, agreed) in [
            ("1234\n", true),
            (" 1234 \r\n", true),
            ("y\n", false),
            ("\n", false),
            ("", false),
            ("12345\n", false),
            ("1233\n", false),
        ] {
            let mut out = Vec::new();
            let answer = ask(&mut typed.as_bytes(), &mut out, "Much would happen", 1234);
            assert_eq!(answer.unwrap(), agreed, "{typed:?}");
            let out = String::from_utf8(out).unwrap();
            assert!(out.starts_with("Much would happen.\nType 1234"), "{out}");
            assert_eq!(out.contains("Nothing was changed"), !agreed);
        }
    }
}
