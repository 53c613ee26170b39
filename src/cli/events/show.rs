//! `events show`: one event, what became of it, and its body.

use std::io::{self, Write};
use std::process::ExitCode;

use anstyle::Style;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::Session;
use super::list::standing;
use crate::cli::admin::answers::{Attempt, Delivery, Event};
use crate::cli::admin::client::AdminError;
use crate::cli::admin::screen::{
    self, BAD, FAINT, GOOD, HEADING, PLAIN, Screen, WAITS, clean, labelled,
};
use crate::cli::admin::table::{Cell, Column, Table};
use crate::cli::admin::when;
use crate::event::json::{self, Kind};
use crate::event::{EventId, ims};

/// This much of an output, a response or a field is shown.
const EXCERPT_CHARS_MAX: usize = 600;

/// Bytes of a body that is no JSON, as they are shown.
const HEX_BYTES_MAX: usize = 512;

/// Show an event: its fields, every attempt to deliver it, and its body
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  ims-receiver events show 019ab3f2-7c1e-7d30-9f0e-2d6c1a4b5e6f
  ims-receiver events show 019ab3f2-7c1e-7d30-9f0e-2d6c1a4b5e6f --body > body.json")]
pub struct ShowArgs {
    /// The event's id
    #[arg(value_name = "ID")]
    pub id: EventId,
    /// Write the body to standard output, byte for byte, and nothing else
    #[arg(long)]
    pub body: bool,
}

impl ShowArgs {
    pub(super) async fn run(
        self,
        session: &Session,
        out: &mut dyn Write,
    ) -> anyhow::Result<ExitCode> {
        let id = self.id;
        let named = |error| match error {
            AdminError::NotFound(_) => AdminError::NotFound(format!(
                "there is no event {id} at {}; finished events go after store.retention",
                session.client
            )),
            error => error,
        };
        if self.body {
            let path = format!("/api/events/{id}/body");
            let mut pieces = session.client.open(&path, &[]).await.map_err(named)?;
            // Past the filter for colours: these are bytes, not text.
            let mut out = io::stdout().lock();
            while let Some(piece) = pieces.next().await? {
                out.write_all(&piece)?;
            }
            out.flush()?;
            return Ok(ExitCode::SUCCESS);
        }
        let text = session.client.text(&format!("/api/events/{id}"), &[]).await;
        let text = text.map_err(named)?;
        if session.json {
            writeln!(out, "{}", text.trim_end())?;
        } else {
            let event: Event = session.client.read(&text)?;
            write(&event, &session.screen, out)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn write(event: &Event, screen: &Screen, out: &mut dyn Write) -> io::Result<()> {
    head(event, screen, out)?;
    fields(event, screen, out)?;
    deliveries(event, screen, out)?;
    timeline(event, screen, out)?;
    heading(out, "Body")?;
    body(event, out)
}

fn heading(out: &mut dyn Write, text: &str) -> io::Result<()> {
    writeln!(out, "\n{HEADING}{text}{HEADING:#}")
}

fn head(event: &Event, screen: &Screen, out: &mut dyn Write) -> io::Result<()> {
    let received = format!(
        "{}  {}",
        when::relative(event.received_at, screen.now),
        when::precise(event.received_at)
    );
    labelled(out, "event", &event.id, HEADING)?;
    let known = match ims::info(&event.r#type) {
        Some(info) => format!("{} ({})", event.r#type, info.category.title()),
        None => format!("{} (not in the catalogue)", event.r#type),
    };
    labelled(out, "type", &known, PLAIN)?;
    labelled(
        out,
        "outcome",
        &event.outcome,
        screen::of_outcome(&event.outcome),
    )?;
    labelled(out, "received", &received, PLAIN)?;
    labelled(out, "source", &event.source, PLAIN)?;
    for (label, text) in [
        ("peer", &event.peer),
        ("media id", &event.media_id),
        ("job id", &event.job_id),
        ("user id", &event.user_id),
        ("event time", &event.event_time),
        ("query", &event.query),
    ] {
        if let Some(text) = text {
            labelled(out, label, text, PLAIN)?;
        }
    }
    labelled(out, "verified", &verified(&event.verified), PLAIN)?;
    if event.duplicates > 0 {
        let again = screen::count(event.duplicates, "more time", "more times");
        labelled(
            out,
            "duplicates",
            &format!("the same body came {again}"),
            PLAIN,
        )?;
    }
    for (name, value) in &event.headers {
        labelled(out, "header", &format!("{name}: {value}"), FAINT)?;
    }
    for note in &event.notes {
        labelled(out, "note", note, WAITS)?;
    }
    Ok(())
}

/// `ims, key 1, url 1`
fn verified(verified: &Value) -> String {
    let Value::Object(members) = verified else {
        return screen::inline(verified);
    };
    let scheme = members.get("scheme").map(screen::inline);
    let others = members
        .iter()
        .filter(|(name, value)| *name != "scheme" && !value.is_null())
        .map(|(name, value)| format!("{} {}", name.replace('_', " "), screen::inline(value)));
    let parts: Vec<String> = scheme.into_iter().chain(others).collect();
    parts.join(", ")
}

/// What the catalogue says about the fields of the `MessageBody`.
fn fields(event: &Event, screen: &Screen, out: &mut dyn Write) -> io::Result<()> {
    let Some(info) = ims::info(&event.r#type) else {
        return Ok(());
    };
    let body = event.body.as_ref().map(|body| body.get());
    let members = body.and_then(json::value).and_then(|body| body.members());
    let members = members.as_ref().and_then(|members| {
        let mut message = members.iter().filter(|(name, _)| *name == "MessageBody");
        message.next_back()?.1.members()
    });
    let Some(members) = members else {
        return Ok(());
    };
    let mut table = Table::new([
        Column::whole("FIELD"),
        Column::whole("VALUE").cut_to(32, 16),
        Column::whole("MEANING").cut_to(20, 12).rank(0),
    ]);
    let mut any = false;
    for field in info.model.fields {
        let mut value = members.iter().filter(|(name, _)| *name == field.name);
        let Some((_, value)) = value.next_back() else {
            continue;
        };
        let shown = match value.kind() {
            Kind::Object => "{…}, see the body".to_owned(),
            Kind::Array => {
                let elements = value.elements().map_or(0, |all| all.len()) as u64;
                format!(
                    "{}, see the body",
                    screen::count(elements, "element", "elements")
                )
            }
            _ => excerpt(&value.string_or_number().map_or(value.text().into(), |t| t)),
        };
        any = true;
        table.push(vec![
            field.name.into(),
            shown.into(),
            Cell::new(&first_sentence(field.docs), FAINT),
        ]);
    }
    if any {
        heading(out, "Fields")?;
        table.write(out, screen.width)?;
    }
    Ok(())
}

/// The first sentence of a field's documentation, without its Markdown.
fn first_sentence(docs: &str) -> String {
    let text = docs.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = text.find(". ").map_or(text.len(), |end| end + 1);
    text[..end].replace('`', "")
}

fn deliveries(event: &Event, screen: &Screen, out: &mut dyn Write) -> io::Result<()> {
    heading(out, "Deliveries")?;
    if event.deliveries.is_empty() {
        return writeln!(out, "No handler wanted this event.");
    }
    let mut table = Table::new([
        Column::whole("HANDLER"),
        Column::whole("STATUS"),
        Column::number("ATTEMPTS"),
        Column::whole("NEXT TRY"),
        Column::whole("REASON").cut_to(30, 12),
    ]);
    for Delivery { row, .. } in &event.deliveries {
        let next = match (row.status.as_str(), row.next_at) {
            ("pending", Some(next)) => format!(
                "{}  {}",
                when::relative(next, screen.now),
                when::absolute(next)
            ),
            _ => "-".to_owned(),
        };
        table.push(vec![
            row.handler.as_str().into(),
            Cell::new(&row.status, screen::of_status(&row.status)),
            row.attempts.to_string().into(),
            next.into(),
            row.reason.as_deref().unwrap_or("-").into(),
        ]);
    }
    table.write(out, screen.width)
}

/// One line of the timeline.
struct Moment {
    at: Timestamp,
    text: String,
    style: Style,
    excerpts: Vec<String>,
}

fn timeline(event: &Event, screen: &Screen, out: &mut dyn Write) -> io::Result<()> {
    heading(out, "Timeline")?;
    for moment in moments(event, screen) {
        let since = moment.at.duration_since(event.received_at);
        let offset = match since.is_positive() {
            true => format!("+{}", when::took(since.unsigned_abs())),
            false => String::new(),
        };
        let Moment { text, style, .. } = &moment;
        let at = when::precise(moment.at);
        let text = clean(text);
        writeln!(
            out,
            "{FAINT}{at}{FAINT:#}  {offset:>12}  {style}{text}{style:#}"
        )?;
        for excerpt in &moment.excerpts {
            writeln!(out, "{:42}{FAINT}{}{FAINT:#}", "", clean(excerpt))?;
        }
    }
    Ok(())
}

fn moments(event: &Event, screen: &Screen) -> Vec<Moment> {
    let mut moments = vec![Moment {
        at: event.received_at,
        text: format!(
            "received by {}, verified: {}",
            event.source,
            verified(&event.verified)
        ),
        style: PLAIN,
        excerpts: Vec::new(),
    }];
    for delivery in &event.deliveries {
        let row = &delivery.row;
        moments.extend(
            delivery
                .history
                .iter()
                .map(|attempt| tried(&row.handler, attempt)),
        );
        if row.status == "pending"
            && let Some(next) = row.next_at
        {
            let text = match next > screen.now {
                true => format!("{} is {}", row.handler, standing(row, screen)),
                false => format!("{} is due", row.handler),
            };
            moments.push(Moment {
                at: next,
                text,
                style: WAITS,
                excerpts: Vec::new(),
            });
        }
    }
    moments.sort_by_key(|moment| moment.at);
    moments
}

fn tried(handler: &str, attempt: &Attempt) -> Moment {
    let number = attempt.attempt;
    let mut text = format!("{handler} attempt {number} {}", attempt.result);
    if let Some(ended) = attempt.ended_at {
        let span = ended.duration_since(attempt.started_at).unsigned_abs();
        text.push_str(&format!(" after {}", when::took(span)));
    }
    if let Some(reason) = &attempt.reason {
        text.push_str(&format!(": {reason}"));
    }
    let style = match attempt.result.as_str() {
        "succeeded" => GOOD,
        "failed" => BAD,
        _ => WAITS,
    };
    Moment {
        at: attempt.started_at,
        text,
        style,
        excerpts: excerpts(&attempt.report),
    }
}

/// What a handler kept of an attempt, texts after the short facts.
fn excerpts(report: &Value) -> Vec<String> {
    let Value::Object(members) = report else {
        return Vec::new();
    };
    let kept = members
        .iter()
        .filter(|(_, value)| !value.is_null() && value.as_str() != Some(""));
    let (texts, facts): (Vec<_>, Vec<_>) = kept.partition(|(_, value)| value.is_string());
    facts
        .into_iter()
        .chain(texts)
        .map(|(name, value)| format!("{name}: {}", excerpt(&screen::inline(value))))
        .collect()
}

fn excerpt(text: &str) -> String {
    let text = text.trim();
    let mut shown: String = text.chars().take(EXCERPT_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

fn body(event: &Event, out: &mut dyn Write) -> io::Result<()> {
    if let Some(body) = &event.body {
        return writeln!(out, "{}", screen::pretty(body.get()));
    }
    let encoded = event.body_base64.as_deref().unwrap_or_default();
    let Ok(bytes) = BASE64_STANDARD.decode(encoded) else {
        return writeln!(out, "cannot be read");
    };
    let size = bytes.len() as u64;
    writeln!(out, "{}, no JSON:", screen::count(size, "byte", "bytes"))?;
    if let Ok(text) = std::str::from_utf8(&bytes) {
        for line in text.lines() {
            writeln!(out, "  {}", clean(line))?;
        }
        return Ok(());
    }
    for (position, row) in bytes.chunks(16).take(HEX_BYTES_MAX / 16).enumerate() {
        let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let visible = |byte: &u8| {
            if byte.is_ascii_graphic() {
                *byte as char
            } else {
                '.'
            }
        };
        let text: String = row.iter().map(visible).collect();
        writeln!(
            out,
            "  {:08x}  {:<47}  {text}",
            position * 16,
            hex.join(" ")
        )?;
    }
    if bytes.len() > HEX_BYTES_MAX {
        writeln!(out, "  … --body writes all of it")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"id":"019ab3f2-7c1e-7d30-9f0e-2d6c1a4b5e6f","source":"default","type":"ProduceMediaComplete",
"event_time":"2026-11-24T17:03:10Z","user_id":"18","outcome":"failed","media_id":"m-1","job_id":"j-1",
"received_at":"2026-11-24T17:03:11.042Z","duplicates":2,"verified":{"scheme":"ims","key":1,"url":1},"query":null,"peer":"192.0.2.7",
"headers":{"content-type":"application/json"},"notes":["odd \u001b[31m"],
"body":{"EventType":"ProduceMediaComplete","MessageBody":{"JobId":"j-1","MediaId":"m-1","Status":"Failed","Big":1e400}},
"deliveries":[{"handler":"cms","status":"pending","attempts":2,"next_at":"2026-11-24T17:08:11Z","reason":"status 500","history":[
 {"attempt":1,"started_at":"2026-11-24T17:03:11.046Z","ended_at":"2026-11-24T17:03:12.546Z","result":"failed","reason":"status 500","report":{"status":500,"body":"no\u001b[2Jroom"}},
 {"attempt":2,"started_at":"2026-11-24T17:04:11Z","ended_at":null,"result":"lost","reason":"lost with the process","report":{}}]},
 {"handler":"audit","status":"succeeded","attempts":1,"next_at":null,"reason":null,"history":[
 {"attempt":1,"started_at":"2026-11-24T17:03:11.044Z","ended_at":"2026-11-24T17:03:11.045Z","result":"succeeded","reason":null,"report":{}}]}]}"#;

    fn shown(text: &str, width: Option<usize>) -> String {
        let event: Event = serde_json::from_str(text).unwrap();
        let screen = Screen {
            width,
            now: "2026-11-24T17:05:11Z".parse().unwrap(),
        };
        let mut out = anstream::StripStream::new(Vec::new());
        write(&event, &screen, &mut out).unwrap();
        String::from_utf8(out.into_inner()).unwrap()
    }

    #[test]
    fn the_whole_story_is_told_in_order() {
        let shown = shown(EVENT, None);
        let mut rest = shown.as_str();
        for next in [
            "type        ProduceMediaComplete (Intelligent editing)",
            "received    1 min ago  2026-11-24 17:03:11.042Z",
            "peer        192.0.2.7",
            "verified    ims, key 1, url 1",
            "the same body came 2 more times",
            "Fields",
            "MediaId  m-1",
            "Deliveries",
            "cms      pending           2  in 3 min  2026-11-24 17:08:11Z  status 500",
            "Timeline",
            "received by default, verified: ims, key 1, url 1",
            "+2 ms  audit attempt 1 succeeded after 1 ms",
            "+4 ms  cms attempt 1 failed after 1.50 s: status 500",
            "status: 500",
            "body: no",
            "cms attempt 2 lost: lost with the process",
            "cms is pending, next try in 3 min",
            "Body",
            "\"Big\": 1e400",
        ] {
            let found = rest.find(next);
            let at = found.unwrap_or_else(|| panic!("no {next:?} in\n{rest}\nof\n{shown}"));
            rest = &rest[at + next.len()..];
        }
        assert!(!shown.contains('\u{1b}'), "{shown}");
        assert!(shown.contains("body: no\\u{1b}[2Jroom"), "{shown}");
    }

    #[test]
    fn a_body_that_is_no_json_is_shown_inert() {
        let start = EVENT.find("\"body\":{\"Event").unwrap();
        let end = EVENT.find("\"deliveries\"").unwrap();
        for (body, line) in [
            ("AAECG1szMW0=", "00000000  00 01 02 1b 5b 33 31 6d"),
            ("PHhtbD4bWzMxbQ==", "  <xml>\\u{1b}[31m"),
        ] {
            // The first has a byte that no text begins with.
            let encoded = body.replace("AAEC", "/wEC");
            let line = line.replace("00 01 02", "ff 01 02");
            let text = format!(
                "{}\"body_base64\":\"{encoded}\",{}",
                &EVENT[..start],
                &EVENT[end..]
            );
            let shown = shown(&text, Some(80));
            assert!(shown.contains(&line), "{shown}");
            assert!(!shown.contains('\u{1b}'), "{shown}");
        }
    }
}
