//! How an event becomes one physical line.

use std::fmt::Write as _;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use jiff::Timestamp;

use crate::delivery::Delivery;
use crate::escape::OneLine;
use crate::event::{Event, json};

/// The shape of a `log` handler's lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LineFormat {
    /// One JSON object per line, for programs.
    #[default]
    Json,
    /// One line for people, with everything escaped that could move a
    /// terminal's cursor.
    Pretty,
}

/// What goes into a line.
#[derive(Debug, Clone, Copy)]
pub struct LineOptions {
    /// For programs or for people.
    pub format: LineFormat,
    /// Whether the body is part of the line.
    pub body: bool,
    /// A larger body is left out; in bytes, `None` means unlimited.
    pub body_bytes_max: Option<usize>,
}

/// The line for `delivery`, its line feed included, written at the time `now`.
pub fn line(delivery: &Delivery, now: Timestamp, options: &LineOptions) -> Vec<u8> {
    let body = BodyForm::of(&delivery.event.content.body, options);
    let mut line = String::with_capacity(ENVELOPE_BYTES + body.bytes());
    match options.format {
        LineFormat::Json => json_line(&mut line, delivery, now, &body),
        LineFormat::Pretty => pretty_line(&mut line, delivery, now, &body),
    }
    line.push('\n');
    line.into_bytes()
}

/// What a line takes without its body in most cases; only a first guess.
const ENVELOPE_BYTES: usize = 512;

/// How the body stands in a line.
enum BodyForm<'a> {
    /// Not at all, as configured.
    Omitted,
    /// Only its length, since it is larger than allowed.
    Length(usize),
    /// As the sender's own JSON.
    Json(&'a str),
    /// As base64, since it is no JSON.
    Base64(&'a [u8]),
}

impl<'a> BodyForm<'a> {
    fn of(body: &'a [u8], options: &LineOptions) -> Self {
        if !options.body {
            Self::Omitted
        } else if options.body_bytes_max.is_some_and(|max| body.len() > max) {
            Self::Length(body.len())
        } else if let Some(text) = json::checked(body) {
            Self::Json(text)
        } else {
            Self::Base64(body)
        }
    }

    /// About how many bytes it takes.
    fn bytes(&self) -> usize {
        match self {
            Self::Omitted | Self::Length(_) => 0,
            Self::Json(text) => text.len(),
            Self::Base64(body) => body.len().div_ceil(3) * 4,
        }
    }
}

/// The keys stand in the order that the documentation shows. Optional fields
/// that an event does not have are left out.
fn json_line(line: &mut String, delivery: &Delivery, now: Timestamp, body: &BodyForm<'_>) {
    let Event { id, content, .. } = &*delivery.event;
    write_infallibly(line, format_args!("{{\"timestamp\":\"{now:.3}\""));
    line.push_str(r#","level":"INFO","target":"ims_receiver::event","message":"event""#);
    write_infallibly(line, format_args!(",\"event_id\":\"{id}\""));
    json_field(line, "source", Some(content.source.as_str()));
    json_field(line, "event_type", Some(&content.event_type));
    json_field(line, "event_time", content.event_time.as_deref());
    json_field(line, "outcome", Some(content.outcome.as_str()));
    json_field(line, "user_id", content.user_id.as_deref());
    json_field(line, "media_id", content.media_id.as_deref());
    json_field(line, "job_id", content.job_id.as_deref());
    write_infallibly(line, format_args!(",\"attempt\":{}", delivery.attempt));
    match body {
        BodyForm::Omitted => {}
        BodyForm::Length(bytes) => write_infallibly(line, format_args!(",\"body_bytes\":{bytes}")),
        BodyForm::Json(text) => {
            line.push_str(",\"body\":");
            line.push_str(&json::minify(text));
        }
        BodyForm::Base64(bytes) => {
            line.push_str(",\"body_base64\":\"");
            BASE64_STANDARD.encode_string(bytes, line);
            line.push('"');
        }
    }
    line.push('}');
}

fn json_field(line: &mut String, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        let value = serde_json::to_string(value).expect("a string is always JSON");
        write_infallibly(line, format_args!(",\"{key}\":{value}"));
    }
}

fn pretty_line(line: &mut String, delivery: &Delivery, now: Timestamp, body: &BodyForm<'_>) {
    let Event { id, content, .. } = &*delivery.event;
    write_infallibly(line, format_args!("{now:.3}  "));
    push_escaped(line, &content.event_type);
    write_infallibly(line, format_args!("  {}", content.outcome));
    let fields = [
        ("media", content.media_id.as_deref()),
        ("job", content.job_id.as_deref()),
        ("user", content.user_id.as_deref()),
        ("time", content.event_time.as_deref()),
        ("source", Some(content.source.as_str())),
    ];
    for (key, value) in fields {
        if let Some(value) = value {
            write_infallibly(line, format_args!("  {key}="));
            push_escaped(line, value);
        }
    }
    write_infallibly(line, format_args!("  event={id}"));
    if delivery.attempt > 1 {
        write_infallibly(line, format_args!("  attempt={}", delivery.attempt));
    }
    match body {
        BodyForm::Omitted => {}
        BodyForm::Length(bytes) => write_infallibly(line, format_args!("  ({bytes} bytes)")),
        BodyForm::Json(text) => {
            line.push_str("  ");
            push_escaped(line, &json::minify(text));
        }
        BodyForm::Base64(bytes) => {
            line.push_str("  base64:");
            BASE64_STANDARD.encode_string(bytes, line);
        }
    }
}

fn push_escaped(line: &mut String, text: &str) {
    write_infallibly(line, format_args!("{}", OneLine(text)));
}

fn write_infallibly(line: &mut String, arguments: std::fmt::Arguments<'_>) {
    line.write_fmt(arguments)
        .expect("writing to a string cannot fail");
}
