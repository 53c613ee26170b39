//! An explanation in words: a label and a text on each line.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::At;
use crate::escape::OneLine;
use crate::event::{MALFORMED, NewEvent, ims};
use crate::ingest::SourceConfig;
use crate::server::explain::{Explanation, HeadFacts, Peer, Refused};
use crate::settings::Settings;
use crate::signature::{SchemeConfig, SignatureError, Verified};

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const PLAIN: Style = Style::new();

/// Writes an explanation down.
pub(super) struct Report<'a> {
    pub(super) settings: &'a Settings,
    pub(super) source: &'a SourceConfig,
    pub(super) at: At,
}

impl Report<'_> {
    pub(super) fn write(&self, explanation: &Explanation, out: &mut dyn Write) -> io::Result<()> {
        line(out, "source", self.source.name.as_str(), PLAIN)?;
        if let Some(head) = &explanation.head {
            self.write_head(head, explanation, out)?;
        }
        if let Some(verified) = &explanation.verified {
            line(out, "signature", &self.authentic(verified), GOOD)?;
        }
        match &explanation.result {
            Ok(event) => {
                self.write_event(event, out)?;
                self.write_handlers(event, out)?;
                line(out, "answer", "200, once it is stored", GOOD)
            }
            Err(refused) => self.write_refused(refused, explanation, out),
        }
    }

    fn write_head(
        &self,
        head: &HeadFacts,
        explanation: &Explanation,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let request = format!(
            "{} {}, {} header fields, {}",
            head.method,
            head.target,
            head.fields,
            bodies(head)
        );
        line(out, "request", &request, PLAIN)?;
        let by = match (self.at, head.sent_at) {
            (At::Now, _) => "now",
            (At::Sent, Some(_)) => "when it was sent",
            (At::Sent, None) => "now: it does not say when it was sent",
            (At::Time(_), _) => "as asked for",
        };
        let judged = format!("{:.0} ({by})", explanation.judged_at);
        line(out, "judged at", &judged, PLAIN)?;
        match head.peer {
            Peer::Forwarded(Some(peer)) => {
                let peer = format!("{peer}, if a trusted proxy sent it");
                line(out, "peer", &peer, PLAIN)
            }
            Peer::Forwarded(None) => line(out, "peer", "X-Forwarded-For cannot be read", BAD),
            Peer::Unknown if self.source.allow_from.is_some() => {
                let unknown = "unknown, so allow_from is not judged";
                line(out, "peer", unknown, PLAIN)
            }
            Peer::Unknown => Ok(()),
        }
    }

    fn authentic(&self, verified: &Verified) -> String {
        let mut text = String::from("authentic");
        let keys = self.source.auth.keys().len();
        if let Some(key) = verified.key() {
            text.push_str(&format!(", by key {key} of {keys}"));
        }
        match (&self.source.auth, verified.url()) {
            (SchemeConfig::None, _) => text.push_str(": the scheme \"none\" lets everybody in"),
            (SchemeConfig::Ims(ims), Some(url)) => {
                let position = url as usize - 1;
                let text_of = ims.callback_urls.get(position).map_or("", String::as_str);
                text.push_str(&format!(" and URL {url}, {text_of}"));
            }
            (SchemeConfig::Ims(_), None) => text.push_str(" and public_origin"),
            (SchemeConfig::HmacSha256(_), _) => text.push_str(" over the body"),
        }
        if let Some(skew) = verified.skew_seconds() {
            text.push_str(&format!("; {}", clocks(skew)));
        }
        text
    }

    fn write_event(&self, event: &NewEvent, out: &mut dyn Write) -> io::Result<()> {
        line(out, "body", &format!("{} bytes", event.body.len()), PLAIN)?;
        let known = match ims::known_type(&event.event_type) {
            Some(_) => "",
            None if event.event_type == MALFORMED => ": kept as it came",
            None => ", which is not in the catalogue",
        };
        line(out, "type", &format!("{}{known}", event.event_type), PLAIN)?;
        for (label, value) in [
            ("event time", &event.event_time),
            ("user id", &event.user_id),
            ("media id", &event.media_id),
            ("job id", &event.job_id),
        ] {
            line(out, label, value.as_deref().unwrap_or("none"), PLAIN)?;
        }
        line(out, "outcome", event.outcome.as_str(), PLAIN)?;
        for note in &event.notes {
            line(out, "note", note, PLAIN)?;
        }
        Ok(())
    }

    /// One line per handler, with the key that excluded it.
    fn write_handlers(&self, event: &NewEvent, out: &mut dyn Write) -> io::Result<()> {
        if self.settings.handlers.is_empty() {
            line(out, "handlers", "none is configured", PLAIN)?;
        }
        for lane in &self.settings.handlers {
            let name = &lane.name;
            match lane.filter.admit(event) {
                Ok(()) => line(out, "handler", &format!("{name} gets it"), GOOD)?,
                Err(excluded) => {
                    let key = excluded.key();
                    let not = format!("{name} does not: handlers.{name}.{key} excludes it");
                    line(out, "handler", &not, PLAIN)?;
                }
            }
        }
        Ok(())
    }

    fn write_refused(
        &self,
        refused: &Refused,
        explanation: &Explanation,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let head = explanation.head.as_ref();
        let (label, text, status) = match refused {
            Refused::CutShort => ("request", cut_short(head), None),
            Refused::Unreadable { reason } => {
                let text = format!("is none of HTTP/1.1: {reason}");
                ("request", text, None)
            }
            Refused::OtherPath { status } => {
                let text = format!("is not the source's, {}", self.source.path);
                ("path", text, Some(status))
            }
            Refused::Signature { status, error } => {
                let text = format!("refused as {}: {error}", error.reason());
                ("signature", text, Some(status))
            }
            Refused::NotAllowed { status } => {
                let text = "refused: it is not in allow_from".to_owned();
                ("peer", text, Some(status))
            }
            Refused::Rejected { status, reason } => ("request", reason.clone(), Some(status)),
        };
        line(out, label, &text, BAD)?;
        if let Refused::Signature { error, .. } = refused {
            for hint in self.hints(*error, head) {
                line(out, "", &hint, PLAIN)?;
            }
        }
        for sentence in &explanation.diagnosis {
            line(out, "diagnosis", sentence, PLAIN)?;
        }
        match status {
            Some(status) => line(out, "answer", &status.to_string(), BAD),
            None => line(out, "answer", "none: there is no whole request", BAD),
        }
    }

    /// What was tried, and what is worth a look.
    fn hints(&self, error: SignatureError, head: Option<&HeadFacts>) -> Vec<String> {
        let auth = &self.source.auth;
        match error {
            SignatureError::Missing | SignatureError::RepeatedHeader => {
                vec![format!("wanted once each: {}", wanted_headers(auth))]
            }
            SignatureError::Stale { .. } | SignatureError::Future { .. } => {
                let sent = head.and_then(|head| head.sent_at);
                let sent = sent.map(|sent| format!("it was sent at {sent:.0}; "));
                let hint = "--at sent judges it by its own time";
                vec![format!("{}{hint}", sent.unwrap_or_default())]
            }
            SignatureError::Mismatch => {
                let keys = auth.keys().len();
                let plural = if keys == 1 { "key" } else { "keys" };
                vec![format!("tried {keys} {plural}, {}", tried(auth, head))]
            }
        }
    }
}

/// What was signed, with each of the keys.
fn tried(auth: &SchemeConfig, head: Option<&HeadFacts>) -> String {
    match auth {
        SchemeConfig::Ims(ims) => {
            let target = head.map_or("", |head| head.target.as_str());
            let origin = ims.public_origin.as_deref();
            let own = origin.map(|origin| format!("{}{target}", origin.trim_end_matches('/')));
            let urls: Vec<&str> = ims
                .callback_urls
                .iter()
                .map(String::as_str)
                .chain(own.as_deref())
                .collect();
            format!("each over {}", urls.join(" and over "))
        }
        SchemeConfig::HmacSha256(hmac) => match &hmac.timestamp_header {
            Some(name) => format!("each over {name}, a dot, and the body"),
            None => "each over the body".to_owned(),
        },
        SchemeConfig::None => String::new(),
    }
}

fn wanted_headers(auth: &SchemeConfig) -> String {
    match auth {
        SchemeConfig::Ims(_) => "X-ICE-SIGNATURE and X-ICE-TIMESTAMP".to_owned(),
        SchemeConfig::HmacSha256(hmac) => match &hmac.timestamp_header {
            Some(timestamp) => format!("{} and {timestamp}", hmac.header),
            None => hmac.header.to_string(),
        },
        SchemeConfig::None => String::new(),
    }
}

fn bodies(head: &HeadFacts) -> String {
    let follow = head.follow;
    match head.announced {
        None => "a chunked body".to_owned(),
        Some(announced) if follow as u64 > announced => format!(
            "{announced} bytes of body announced; the {} after them are not looked at",
            follow as u64 - announced
        ),
        Some(announced) => format!("{announced} bytes of body announced"),
    }
}

fn cut_short(head: Option<&HeadFacts>) -> String {
    match head {
        None => "is cut short: its head has no end, which is a blank line".to_owned(),
        Some(HeadFacts {
            announced: Some(announced),
            follow,
            ..
        }) => format!("is cut short: {follow} of {announced} bytes of its body are there"),
        Some(_) => "is cut short: its chunks break off before the last one".to_owned(),
    }
}

fn clocks(skew: i64) -> String {
    match skew {
        0 => "the clocks agree".to_owned(),
        1.. => format!("its timestamp is {skew} s behind"),
        _ => format!("its timestamp is {} s ahead", -skew),
    }
}

/// A labelled line; what the sender wrote neither breaks nor floods it.
fn line(out: &mut dyn Write, label: &str, text: &str, style: Style) -> io::Result<()> {
    const SHOWN_CHARS_MAX: usize = 1024;
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    writeln!(out, "{label:<12}{style}{}{style:#}", OneLine(&shown))
}
