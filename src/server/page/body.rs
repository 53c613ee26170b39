//! A body, pretty-printed, with what the catalogue knows about its fields.
//!
//! A body is the sender's text, up to a megabyte of it, and nothing of it is
//! believed: it is cut to what one wants to look at, and every letter goes
//! through the escaping of the template.

use std::borrow::Cow;

use maud::{Markup, html};

use super::layout::prose;
use super::units;
use crate::escape::Lines;
use crate::event::ims;
use crate::event::ims::schema::{FieldInfo, ModelInfo, Presence};
use crate::event::json::{self, Kind, Raw};

/// Lines that are shown at the most.
const LINES_MAX: usize = 1_500;
/// Bytes of the sender's text that are shown at the most.
const BYTES_MAX: usize = 96 * 1024;
/// Of one value, name or string.
const VALUE_BYTES_MAX: usize = 2 * 1024;
/// Of a body that is no JSON.
const TEXT_BYTES_MAX: usize = 16 * 1024;
/// What is deeper stands on one line, as it was sent: reading it level by
/// level would read its inside once for each level.
const LEVELS_MAX: usize = 12;
/// JSON in a string is opened up to this size.
const EMBEDDED_BYTES_MAX: usize = 64 * 1024;

/// What the four fields around every `MessageBody` mean.
const ENVELOPE: [(&str, &str, &str); 4] = [
    (
        "EventType",
        "string",
        "Which event this is; it says what the `MessageBody` holds.",
    ),
    (
        "UserId",
        "number",
        "The Alibaba Cloud account that the event belongs to.",
    ),
    (
        "EventTime",
        "string",
        "When it happened, as the sender says it, in UTC.",
    ),
    ("MessageBody", "object", "What happened."),
];

/// A body as it is shown.
#[derive(Debug)]
pub(super) struct Shown {
    lines: Vec<Line>,
    /// Why the rest is not shown.
    cut: bool,
    whole: usize,
}

#[derive(Debug)]
struct Line {
    level: usize,
    name: Option<Name>,
    value: Value,
    comma: bool,
}

#[derive(Debug)]
struct Name {
    text: String,
    known: Known,
}

/// What is known about a field.
#[derive(Debug, Clone, Copy)]
enum Known {
    Nothing,
    Envelope(usize),
    Field(&'static FieldInfo),
}

#[derive(Debug)]
enum Value {
    Bracket(&'static str),
    Scalar {
        class: &'static str,
        text: String,
        left_out: usize,
    },
    /// A string whose JSON follows.
    Embedded(&'static str),
}

/// Which model the members of an object are looked up in.
#[derive(Debug, Clone, Copy)]
enum Scope {
    Envelope,
    Model(&'static ModelInfo),
    Unknown,
}

struct Writer<'t> {
    event_type: &'t str,
    lines: Vec<Line>,
    bytes: usize,
    full: bool,
}

impl Shown {
    /// Reads `body`, whose type is `event_type`. `None` where it is no JSON.
    pub(super) fn read(event_type: &str, body: &[u8]) -> Option<Self> {
        let raw = json::checked(body).and_then(json::value)?;
        let mut writer = Writer {
            event_type,
            lines: Vec::new(),
            bytes: 0,
            full: false,
        };
        writer.value(0, None, raw, Scope::Envelope, false);
        Some(Self {
            lines: writer.lines,
            cut: writer.full,
            whole: body.len(),
        })
    }

    pub(super) fn markup(&self) -> Markup {
        html! {
            div.json {
                @for line in &self.lines {
                    div class={ "l" (line.level.min(LEVELS_MAX)) } {
                        @if let Some(name) = &line.name { (name.markup()) ": " }
                        (line.value.markup())
                        @if line.comma { "," }
                    }
                }
            }
            @if self.cut {
                p.empty { "Only the beginning is shown: the body has " (units::bytes(self.whole as u64))
                    ". The raw body has all of it." }
            }
        }
    }
}

impl Writer<'_> {
    fn push(&mut self, level: usize, name: Option<Name>, value: Value, comma: bool) {
        let shown = name.as_ref().map_or(0, |name| name.text.len());
        self.bytes += shown
            + match &value {
                Value::Scalar { text, .. } => text.len(),
                Value::Bracket(_) | Value::Embedded(_) => 1,
            };
        self.lines.push(Line {
            level,
            name,
            value,
            comma,
        });
        self.full |= self.lines.len() >= LINES_MAX || self.bytes >= BYTES_MAX;
    }

    fn value(&mut self, level: usize, name: Option<Name>, raw: Raw<'_>, scope: Scope, comma: bool) {
        if self.full {
            return;
        }
        match raw.kind() {
            Kind::Object if level < LEVELS_MAX => self.object(level, name, raw, scope, comma),
            Kind::Array if level < LEVELS_MAX => self.array(level, name, raw, scope, comma),
            Kind::String => self.string(level, name, raw, scope, comma),
            kind => self.push(level, name, scalar(kind, raw.text()), comma),
        }
    }

    fn object(
        &mut self,
        level: usize,
        name: Option<Name>,
        raw: Raw<'_>,
        scope: Scope,
        comma: bool,
    ) {
        let members = raw.members().unwrap_or_default();
        let count = members.iter().count();
        if count == 0 {
            return self.push(level, name, Value::Bracket("{}"), comma);
        }
        // Some objects have names of the sender's choice, each with the object
        // that the catalogue describes.
        let names_known = members.iter().any(|(name, _)| scope.find(name).is_known());
        self.push(level, name, Value::Bracket("{"), false);
        for (index, (name, raw)) in members.iter().enumerate() {
            if self.full {
                return;
            }
            let known = scope.find(name);
            let inside = match known {
                Known::Envelope(_) if name == "MessageBody" => ims::info(self.event_type)
                    .map_or(Scope::Unknown, |info| Scope::Model(info.model)),
                Known::Field(field) => field.nested.map_or(Scope::Unknown, Scope::Model),
                Known::Nothing if !names_known => scope.without_envelope(),
                _ => Scope::Unknown,
            };
            let name = Name {
                text: cut(name).0,
                known,
            };
            self.value(level + 1, Some(name), raw, inside, index + 1 < count);
        }
        self.push(level, None, Value::Bracket("}"), comma);
    }

    fn array(&mut self, level: usize, name: Option<Name>, raw: Raw<'_>, scope: Scope, comma: bool) {
        let elements = raw.elements().unwrap_or_default();
        if elements.is_empty() {
            return self.push(level, name, Value::Bracket("[]"), comma);
        }
        self.push(level, name, Value::Bracket("["), false);
        let count = elements.len();
        for (index, raw) in elements.into_iter().enumerate() {
            if self.full {
                return;
            }
            self.value(level + 1, None, raw, scope, index + 1 < count);
        }
        self.push(level, None, Value::Bracket("]"), comma);
    }

    fn string(
        &mut self,
        level: usize,
        name: Option<Name>,
        raw: Raw<'_>,
        scope: Scope,
        comma: bool,
    ) {
        let inner = raw.string().unwrap_or(Cow::Borrowed(""));
        let embedded = inner.trim_start().starts_with(['{', '['])
            && inner.len() <= EMBEDDED_BYTES_MAX
            && level + 1 < LEVELS_MAX;
        // JSON in JSON in JSON … ends by its level and by what is shown.
        match json::checked(inner.as_bytes())
            .filter(|_| embedded)
            .and_then(json::value)
        {
            Some(value) => {
                self.push(level, name, Value::Embedded("JSON in a string"), false);
                self.value(level + 1, None, value, scope, comma);
            }
            None => self.push(level, name, scalar(Kind::String, raw.text()), comma),
        }
    }
}

impl Scope {
    fn find(self, name: &str) -> Known {
        match self {
            Self::Envelope => ENVELOPE
                .iter()
                .position(|(known, ..)| *known == name)
                .map_or(Known::Nothing, Known::Envelope),
            Self::Model(model) => model
                .fields
                .iter()
                .find(|field| field.name == name)
                .map_or(Known::Nothing, Known::Field),
            Self::Unknown => Known::Nothing,
        }
    }

    fn without_envelope(self) -> Self {
        match self {
            Self::Envelope => Self::Unknown,
            other => other,
        }
    }
}

impl Known {
    fn is_known(self) -> bool {
        !matches!(self, Self::Nothing)
    }
}

impl Name {
    fn markup(&self) -> Markup {
        let text = format!("\"{}\"", self.text);
        match self.known {
            Known::Nothing => html! { (text) },
            Known::Envelope(index) => {
                let (_, types, docs) = ENVELOPE[index];
                tip(&text, &prose(docs), types)
            }
            Known::Field(field) => {
                let of = format!("{}; {}", field.types, field.confidence.meaning());
                tip(&text, &prose(field.docs), &of)
            }
        }
    }
}

/// A name with its meaning, for the pointer and for the keyboard.
fn tip(name: &str, docs: &Markup, of: &str) -> Markup {
    html! {
        span.field tabindex="0" {
            (name)
            span.tip role="tooltip" { (docs) span.of { (of) } }
        }
    }
}

impl Value {
    fn markup(&self) -> Markup {
        match self {
            Self::Bracket(bracket) => html! { (bracket) },
            Self::Embedded(note) => html! { span.note { (note) } },
            Self::Scalar {
                class,
                text,
                left_out,
            } => html! {
                span class=(class) { (text) }
                @if *left_out > 0 {
                    " " span.note { "… " (units::bytes(*left_out as u64)) " more" }
                }
            },
        }
    }
}

fn scalar(kind: Kind, text: &str) -> Value {
    let class = match kind {
        Kind::String => "string",
        Kind::Number => "number",
        Kind::Boolean | Kind::Null => "word",
        Kind::Array | Kind::Object => "note",
    };
    let (text, left_out) = cut(text);
    Value::Scalar {
        class,
        text,
        left_out,
    }
}

/// The beginning of `text`, and how many bytes of it are left out.
fn cut(text: &str) -> (String, usize) {
    let kept = &text[..text.floor_char_boundary(VALUE_BYTES_MAX)];
    (visible(kept), text.len() - kept.len())
}

/// Text with nothing in it that turns round what stands beside it.
pub(super) fn visible(text: &str) -> String {
    Lines(text).to_string()
}

/// A body that is no JSON, as text.
pub(super) fn plain(body: &[u8]) -> Markup {
    let shown = &body[..body.len().min(TEXT_BYTES_MAX)];
    html! {
        pre.json { (visible(&String::from_utf8_lossy(shown))) }
        @if shown.len() < body.len() {
            p.empty { "Only the beginning is shown: the body has " (units::bytes(body.len() as u64))
                ". The raw body has all of it." }
        }
    }
}

/// What the catalogue says about a type: every field that it may have.
pub(super) fn fields(event_type: &str) -> Option<Markup> {
    let info = ims::info(event_type)?;
    Some(html! {
        p { (prose(info.model.docs)) }
        p.small.soft { "How sure that is: " (info.confidence.meaning()) ". Source: " (info.source) "." }
        table.fold {
            thead { tr { th { "Field" } th { "Type" } th { "Meaning" } th { "How sure" } } }
            tbody {
                @for field in info.model.fields {
                    tr {
                        td { code { (field.name) }
                            @if field.presence == Presence::Always { " " span.small.soft { "always there" } } }
                        td.small { (field.types.to_string()) }
                        td.full { (prose(field.docs)) }
                        td.small.soft { (field.confidence.meaning()) }
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(event_type: &str, body: &str) -> String {
        Shown::read(event_type, body.as_bytes())
            .expect("it is JSON")
            .markup()
            .into_string()
    }

    #[test]
    fn nothing_of_a_body_becomes_markup() {
        let hostile = r#"{"<script>alert(1)</script>":"</div><img src=x onerror=alert(2)>","EventType":"a\"onmouseover=\"x"}"#;
        let page = shown("x", hostile);
        assert!(
            !page.contains("<script") && !page.contains("<img"),
            "{page}"
        );
        assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
        let page = plain(b"<b>\x00bold</b>\xff").into_string();
        assert!(page.contains("&lt;b&gt;\\u{0}bold"), "{page}");
        let turned = shown("x", "{\"a\":\"\u{202e}gpj.exe\"}");
        assert!(!turned.contains('\u{202e}'), "{turned}");
    }

    #[test]
    fn fields_are_explained_wherever_they_stand() {
        let sample = ims::sample("ProduceMediaComplete").unwrap();
        let page = shown("ProduceMediaComplete", sample);
        let info = ims::info("ProduceMediaComplete").unwrap();
        let field = info
            .model
            .fields
            .iter()
            .find(|f| f.name == "MediaId")
            .unwrap();
        assert!(page.contains(&prose(field.docs).into_string()), "{page}");
        // A name is explained by where it stands, not by what it is called.
        let elsewhere = shown("ProduceMediaComplete", r#"{"MediaId":"m"}"#);
        assert!(!elsewhere.contains("role=\"tooltip\""), "{elsewhere}");
    }

    #[test]
    fn numbers_and_escapes_stay_as_they_were_sent() {
        let page = shown("x", r#"{"n":1.50e+03,"s":"ä\u00e4\n","m":[true,null,{}]}"#);
        assert!(page.contains("1.50e+03"), "{page}");
        assert!(page.contains(r"ä\u00e4\n"), "{page}");
        assert!(page.contains("{}"), "{page}");
    }

    #[test]
    fn a_large_body_makes_a_small_page() {
        let string = format!(r#"{{"a":"{}","b":1}}"#, "x".repeat(1 << 20));
        let page = shown("x", &string);
        assert!(page.len() < 8 * 1024, "{}", page.len());
        assert!(
            page.contains("1022 KiB more") && page.contains("&quot;b&quot;"),
            "cut: {page}"
        );
        let many = format!("[{}1]", "1,".repeat(400_000));
        let page = shown("x", &many);
        assert!(page.len() < 256 * 1024, "{}", page.len());
        assert!(page.contains("Only the beginning is shown"));
        let deep = format!("{}1{}", "[".repeat(128), "]".repeat(128));
        assert!(shown("x", &deep).len() < 8 * 1024);
        let text = plain(&vec![b'x'; 1 << 20]).into_string();
        assert!(text.len() < 32 * 1024 && text.contains("1.0 MiB"));
    }

    #[test]
    fn json_in_a_string_is_opened() {
        let body = r#"{"MessageBody":{"UserData":"{\"order\":[1,2]}"}}"#;
        let page = shown("ProduceMediaComplete", body);
        assert!(
            page.contains("JSON in a string") && page.contains("\"order\"")
                || page.contains("&quot;order&quot;"),
            "{page}"
        );
    }
}
