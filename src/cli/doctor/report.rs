//! Findings as people and programs read them.

use std::io::{self, Write};

use anstyle::Style;
use serde_json::json;

use super::examine::{Finding, State};
use crate::cli::admin::screen::{BAD, FAINT, GOOD, HEADING, PLAIN, Screen, WAITS, clean};

/// Lines of text are at most this wide, however wide the terminal is.
const WIDTH_MAX: usize = 110;

/// Before the text of a finding: part and state.
const INDENT: usize = 22;

fn word(state: State) -> (&'static str, Style) {
    match state {
        State::Critical => ("BAD", BAD.bold()),
        State::Broken => ("bad", BAD),
        State::Look => ("look", WAITS),
        State::Note => ("note", PLAIN),
        State::Unknown => ("?", FAINT),
        State::Good => ("ok", GOOD),
    }
}

/// Writes the findings, and at the end what to do, the most urgent first.
pub(super) fn text(findings: &[Finding], screen: &Screen, out: &mut dyn Write) -> io::Result<()> {
    let width = screen.width.map(|width| width.min(WIDTH_MAX));
    let mut part = "";
    for finding in findings {
        let (word, style) = word(finding.state);
        let shown = if finding.part == part {
            ""
        } else {
            finding.part
        };
        part = finding.part;
        write!(
            out,
            "{HEADING}{shown:<14}{HEADING:#} {style}{word:<6}{style:#} "
        )?;
        wrapped(&finding.text, INDENT, width, out)?;
    }
    let advice = what_to_do(findings);
    if advice.is_empty() {
        return writeln!(out, "\n{GOOD}Nothing needs attention.{GOOD:#}");
    }
    writeln!(out, "\n{HEADING}What to do{HEADING:#}")?;
    for (position, (_, advice)) in advice.iter().enumerate() {
        write!(out, "{:>2}. ", position + 1)?;
        wrapped(advice, 4, width, out)?;
    }
    Ok(())
}

/// Writes the findings as one document.
pub(super) fn json(findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    let healthy = !findings.iter().any(Finding::needs_attention);
    let advice: Vec<_> = what_to_do(findings)
        .into_iter()
        .map(|(state, text)| json!({ "state": state, "text": text }))
        .collect();
    let document = json!({ "healthy": healthy, "findings": findings, "what_to_do": advice });
    writeln!(out, "{document}")
}

fn what_to_do(findings: &[Finding]) -> Vec<(State, &str)> {
    let urgent = findings.iter().filter(|finding| finding.needs_attention());
    let mut advice: Vec<(State, &str)> = urgent
        .filter_map(|finding| Some((finding.state, finding.advice.as_deref()?)))
        .collect();
    // Stable: among equals the order of the parts.
    advice.sort_by_key(|(state, _)| *state);
    advice
}

/// Writes a text whose further lines stand under its first.
fn wrapped(text: &str, indent: usize, width: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let text = clean(text);
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(20));
    let mut used = 0;
    for word in text.split(' ') {
        let own = unicode_width::UnicodeWidthStr::width(word);
        if used > 0 && used + 1 + own > room {
            write!(out, "\n{:indent$}", "")?;
            used = 0;
        } else if used > 0 {
            write!(out, " ")?;
            used += 1;
        }
        write!(out, "{word}")?;
        used += own;
    }
    writeln!(out)
}
