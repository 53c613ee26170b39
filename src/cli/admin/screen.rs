//! What people see: colours, widths, and texts that cannot drive a terminal.

use std::io::{self, IsTerminal as _, Write};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde_json::Value;

use crate::escape::{OneLine, push_json};

/// As it should be.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Needs somebody.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Not finished, or worth a look.
pub const WAITS: Style = AnsiColor::Yellow.on_default();
/// At work.
pub const BUSY: Style = AnsiColor::Cyan.on_default();
/// Beside the point.
pub const FAINT: Style = Style::new().dimmed();
/// A heading.
pub const HEADING: Style = Style::new().bold();
/// Nothing special.
pub const PLAIN: Style = Style::new();

/// Whom the output is for.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// Columns of the terminal; `None` where a program reads, for which nothing
    /// is cut.
    pub width: Option<usize>,
    /// The current time.
    pub now: Timestamp,
}

impl Screen {
    /// Standard output as it is.
    pub fn of_stdout(now: Timestamp) -> Self {
        let terminal = io::stdout().is_terminal();
        let size = terminal.then(terminal_size::terminal_size).flatten();
        Self {
            width: size.map(|(width, _)| usize::from(width.0)),
            now,
        }
    }
}

/// The style of a delivery's status.
pub fn of_status(status: &str) -> Style {
    match status {
        "succeeded" => GOOD,
        "dead" => BAD,
        "pending" => WAITS,
        "running" => BUSY,
        _ => PLAIN,
    }
}

/// The style of an event's outcome.
pub fn of_outcome(outcome: &str) -> Style {
    match outcome {
        "succeeded" => GOOD,
        "failed" => BAD,
        _ => PLAIN,
    }
}

/// A text on one line, with everything escaped that could drive a terminal.
pub fn clean(text: &str) -> String {
    OneLine(text).to_string()
}

/// Writes a labelled line, where there is a text.
///
/// # Errors
/// Those of the output.
pub fn labelled(out: &mut dyn Write, label: &str, text: &str, style: Style) -> io::Result<()> {
    let text = OneLine(text);
    writeln!(out, "{FAINT}{label:<12}{FAINT:#}{style}{text}{style:#}")
}

/// `n thing` or `n things`.
pub fn count(n: u64, one: &str, many: &str) -> String {
    let word = if n == 1 { one } else { many };
    format!("{} {word}", number(n))
}

/// A number with commas between the thousands.
pub fn number(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
}

/// Bytes as people say them: `1.50 MiB`.
pub fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}

/// A value of JSON in a line of text.
pub fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A bar over `total` on a terminal, else one that shows nothing.
pub fn bar(total: u64, unit: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = format!("{{bar:40}} {{human_pos}}/{{human_len}} {unit}, {{eta}} left");
    let style = ProgressStyle::with_template(&style).expect("the template is fixed");
    ProgressBar::new(total).with_style(style)
}

/// A line for work of unknown length on a terminal, else one that shows nothing.
pub fn spinner(template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).expect("the template is fixed");
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(std::time::Duration::from_millis(120));
    bar
}

/// Valid JSON, indented, one member or element a line. Tokens stay as they are
/// (no number is rewritten, no key is lost) but for characters that could drive
/// a terminal, which are written as JSON's own escapes.
pub fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut chars = json.chars().peekable();
    let mut level = 0_usize;
    let mut in_string = false;
    let line = |out: &mut String, level: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", level));
    };
    while let Some(c) = chars.next() {
        if in_string {
            push_json(&mut out, c);
            match c {
                '\\' => out.extend(chars.next()),
                '"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match c {
            ' ' | '\t' | '\n' | '\r' => {}
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                if let Some(close) = chars.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(close);
                } else {
                    level += 1;
                    line(&mut out, level);
                }
            }
            '}' | ']' => {
                level = level.saturating_sub(1);
                line(&mut out, level);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, level);
            }
            ':' => out.push_str(": "),
            '"' => {
                in_string = true;
                out.push(c);
            }
            c => push_json(&mut out, c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_nothing_else_changes() {
        let body = r#"{"a":[1,2.50,1e400],"b":{},"c":[ ],"a":"x, {y}: \"z\\","n":123456789012345678901234567890}"#;
        let expected = r#"{
  "a": [
    1,
    2.50,
    1e400
  ],
  "b": {},
  "c": [],
  "a": "x, {y}: \"z\\",
  "n": 123456789012345678901234567890
}"#;
        assert_eq!(pretty(body), expected);
        assert_eq!(pretty(expected), expected);
    }

    #[test]
    fn nothing_that_drives_a_terminal_comes_through() {
        let body = "{\"a\":\"\u{9b}31m\u{7f}\u{202e}gpj\u{2028}\"}";
        let shown = pretty(body);
        assert_eq!(
            shown,
            "{\n  \"a\": \"\\u009b31m\\u007f\\u202egpj\\u2028\"\n}"
        );
        let read: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, serde_json::from_str::<Value>(body).unwrap());
        assert_eq!(clean("a\u{1b}[2J\nb"), "a\\u{1b}[2J\\nb");
    }

    #[test]
    fn numbers_are_said_as_people_say_them() {
        assert_eq!(count(1, "event", "events"), "1 event");
        assert_eq!(count(12_345, "event", "events"), "12,345 events");
        assert_eq!(bytes(1536 * 1024), "1.50 MiB");
    }
}
