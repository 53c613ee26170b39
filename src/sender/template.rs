//! Sample events that differ at every send.

use std::collections::HashMap;
use std::fmt::Write as _;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

/// A sample body with its ids and times taken out.
///
/// They are found by their shape, wherever they stand: in a field, in a URL,
/// in JSON inside a string. What was one id stays one id, and the times keep
/// their distances, the latest of them being the time of sending.
#[derive(Debug, Clone)]
pub struct Template {
    pieces: Vec<Piece>,
    ids: usize,
}

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    /// 32 hexadecimal digits; the number tells ids apart.
    Hex(usize),
    /// A UUID with hyphens.
    Uuid(usize),
    /// A time, so long before the latest of the sample.
    Time(SignedDuration),
}

impl Template {
    /// Takes the ids and times out of `sample`.
    pub fn new(sample: &str) -> Self {
        let latest = tokens(sample).filter_map(time).max();
        let mut ids = HashMap::new();
        let mut pieces = Vec::new();
        let mut text = String::new();
        for token in tokens(sample) {
            let known = ids.len();
            let mut id = || *ids.entry(token).or_insert(known);
            let piece = if is_hex(token) {
                Piece::Hex(id())
            } else if is_uuid(token) {
                Piece::Uuid(id())
            } else if let (Some(time), Some(latest)) = (time(token), latest) {
                Piece::Time(latest.duration_since(time))
            } else {
                text.push_str(token);
                continue;
            };
            pieces.push(Piece::Text(std::mem::take(&mut text)));
            pieces.push(piece);
        }
        pieces.push(Piece::Text(text));
        Self {
            pieces,
            ids: ids.len(),
        }
    }

    /// A body as it would be sent at the time `now`, with new ids.
    pub fn render(&self, now: Timestamp) -> Bytes {
        let ids: Vec<u128> = (0..self.ids).map(|_| rand::random()).collect();
        let mut body = String::new();
        for piece in &self.pieces {
            let written = match piece {
                Piece::Text(text) => body.write_str(text),
                Piece::Hex(id) => write!(body, "{:032x}", ids[*id]),
                Piece::Uuid(id) => {
                    let random = uuid::Builder::from_random_bytes(ids[*id].to_be_bytes());
                    write!(body, "{}", random.as_uuid())
                }
                Piece::Time(before) => {
                    let time = now.checked_sub(*before).unwrap_or(now);
                    write!(body, "{}", time.strftime("%Y-%m-%dT%H:%M:%SZ"))
                }
            };
            written.expect("writing to a string cannot fail");
        }
        body.into()
    }
}

/// `text` cut into words and what stands between them, nothing left out.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let in_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':');
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = rest
            .find(|c| in_word(c) != in_word(first))
            .unwrap_or(rest.len());
        let (token, after) = rest.split_at(end);
        rest = after;
        Some(token)
    })
}

fn is_hex(token: &str) -> bool {
    token.len() == 32 && token.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_uuid(token: &str) -> bool {
    token.len() == 36 && uuid::Uuid::try_parse(token).is_ok()
}

/// A time as IMS writes it, `2022-07-15T08:48:14Z`.
fn time(token: &str) -> Option<Timestamp> {
    let shaped = token.len() == 20 && token.ends_with('Z');
    shaped.then(|| token.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ims;

    fn now() -> Timestamp {
        "2026-11-24T06:31:06.5Z".parse().unwrap()
    }

    #[test]
    fn ids_and_times_are_new_and_keep_their_relations() {
        let old = "8bc08c859569446ca5303ea903ca6d5b";
        let uuid = "5c1aa046-263c-3560-978a-fb2877820b9e";
        let template = Template::new(&format!(
            "{{\"JobId\": \"{old}\", \"U\":\"https://x/{old}/a.mp4\", \"L\":\"{uuid}\",\
             \"CreateTime\":\"2022-07-20T02:49:00Z\",\"EventTime\":\"2022-07-20T02:50:00Z\",\
             \"UserId\":1833202230004567,\"T\":\"2022-07-20-02-49-00\",\"N\":\"ü\"}}"
        ));
        let body = template.render(now());
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let job = body["JobId"].as_str().unwrap();
        assert!(is_hex(job) && job != old, "{job}");
        assert_eq!(body["U"], format!("https://x/{job}/a.mp4"));
        let live = body["L"].as_str().unwrap();
        assert!(is_uuid(live) && live != uuid, "{live}");
        assert_eq!(body["CreateTime"], "2026-11-24T06:30:06Z");
        assert_eq!(body["EventTime"], "2026-11-24T06:31:06Z");
        assert_eq!(body["UserId"], 1_833_202_230_004_567_u64);
        assert_eq!(body["T"], "2022-07-20-02-49-00");
        assert_eq!(body["N"], "ü");
    }

    #[test]
    fn two_sends_of_any_sample_are_two_events() {
        for event_type in ims::all_types() {
            let template = Template::new(ims::sample(event_type).unwrap());
            let (first, second) = (template.render(now()), template.render(now()));
            assert_ne!(first, second, "{event_type}");
            let body: serde_json::Value = serde_json::from_slice(&first).unwrap();
            assert_eq!(body["EventType"], event_type);
            let sent: Timestamp = body["EventTime"].as_str().unwrap().parse().unwrap();
            assert!(
                now().duration_since(sent).as_secs() < 24 * 60 * 60,
                "{event_type}"
            );
        }
    }
}
