//! What is asked for in the query of a request, read strictly: what cannot be
//! read is said, never guessed.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use jiff::Timestamp;
use percent_encoding::percent_decode;
use utoipa::IntoParams;

use super::views::Word;
use crate::delivery::Status;
use crate::event::{EventId, ID_BYTES_MAX, Outcome};
use crate::request::{HandlerName, SourceName};
use crate::server::error::Rejection;
use crate::store::archive::EventFilter;

/// The words of one list.
const WORDS_MAX: usize = 64;
/// Longer words name nothing that is stored.
pub(super) const WORD_BYTES_MAX: usize = ID_BYTES_MAX;
const TEXT_BYTES_MAX: usize = 256;
/// How far back "so long ago" may reach.
const AGO_MAX: Duration = Duration::from_secs(100 * 366 * 86_400);

/// The parameters of a request. `T` says which there are.
#[derive(Debug)]
pub(in crate::server) struct Query<T>(pub(in crate::server) T);

/// What can be asked for.
pub(in crate::server) trait Params: Default + Send {
    /// The names, for whoever used another.
    const NAMES: &'static [&'static str];

    /// Takes one parameter. Answers whether the name is known.
    ///
    /// # Errors
    /// [`Rejection::BadRequest`] where the value cannot be read.
    fn take(&mut self, name: &str, value: String) -> Result<bool, Rejection>;
}

impl<S: Send + Sync, T: Params> FromRequestParts<S> for Query<T> {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
        read(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// Reads a query.
pub(in crate::server) fn read<T: Params>(query: &str) -> Result<T, Rejection> {
    let mut params = T::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name)?, decoded(value)?);
        if !params.take(&name, value.into_owned())? {
            let names = T::NAMES.join(", ");
            let problem = match names.is_empty() {
                true => "is no parameter here; there are none".to_owned(),
                false => format!("is no parameter here; there are {names}"),
            };
            return Err(bad(shortened(&name), problem));
        }
    }
    Ok(params)
}

fn decoded(text: &str) -> Result<Cow<'_, str>, Rejection> {
    let spaced = match text.contains('+') {
        true => Cow::Owned(text.replace('+', " ")),
        false => Cow::Borrowed(text),
    };
    let decoded = percent_decode(spaced.as_bytes()).decode_utf8();
    match decoded {
        Ok(decoded) => Ok(Cow::Owned(decoded.into_owned())),
        Err(_) => Err(Rejection::BadRequest("the query is no UTF-8".to_owned())),
    }
}

/// The asker's mistake in a parameter.
pub(in crate::server) fn bad(name: &str, problem: impl Display) -> Rejection {
    Rejection::BadRequest(format!("`{name}`: {problem}"))
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(64)]
}

/// Sets a parameter that may be given once.
///
/// # Errors
/// [`Rejection::BadRequest`] where it is empty, too long, or given again.
pub(in crate::server) fn once(
    slot: &mut Option<String>,
    name: &str,
    value: String,
) -> Result<(), Rejection> {
    set(slot, name, word(name, value)?)
}

/// Sets a parameter that was read and may be given once.
///
/// # Errors
/// [`Rejection::BadRequest`] where it is given again.
pub(in crate::server) fn set<T>(
    slot: &mut Option<T>,
    name: &str,
    value: T,
) -> Result<(), Rejection> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(bad(name, "is given twice")),
    }
}

fn word(name: &str, value: String) -> Result<String, Rejection> {
    match value.len() {
        0 => Err(bad(name, "is empty")),
        1..=WORD_BYTES_MAX => Ok(value),
        _ => Err(bad(name, format!("is longer than {WORD_BYTES_MAX} bytes"))),
    }
}

/// A whole number within bounds.
///
/// # Errors
/// [`Rejection::BadRequest`] where it is none.
pub(in crate::server) fn number(
    name: &str,
    value: &str,
    (min, max): (u32, u32),
) -> Result<u32, Rejection> {
    let number = value.parse().ok();
    number
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| bad(name, format!("write a number from {min} to {max}")))
}

/// A cursor, as an earlier answer gave it.
///
/// # Errors
/// [`Rejection::BadRequest`] where it is none.
pub(in crate::server) fn cursor(name: &str, value: &str) -> Result<EventId, Rejection> {
    let known = value.parse::<EventId>().ok();
    known
        .filter(|id| id.to_string() == value)
        .ok_or_else(|| bad(name, "write the `next` of the answer before"))
}

/// Which events. Everything that is given has to hold; of a list, one word.
#[derive(Debug, Clone, Default, PartialEq, Eq, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::server) struct FilterWords {
    /// Globs over the type, such as `Snapshot*`.
    #[param(rename = "type", style = Form, explode, required = false, value_type = Vec<Word>, max_items = 64)]
    pub(in crate::server) types: Vec<String>,
    /// The sources they came in by.
    #[param(rename = "source", style = Form, explode, required = false, value_type = Vec<Word>, max_items = 64)]
    pub(in crate::server) sources: Vec<String>,
    /// How a delivery stands: of `handler` where that is given, else of any.
    #[param(rename = "status", style = Form, explode, required = false, value_type = Vec<Status>, max_items = 64)]
    pub(in crate::server) statuses: Vec<String>,
    /// A handler that has a delivery of the event.
    #[param(min_length = 1, max_length = 512)]
    pub(in crate::server) handler: Option<String>,
    /// The sender's word about the job.
    #[param(rename = "outcome", style = Form, explode, required = false, value_type = Vec<Outcome>, max_items = 64)]
    pub(in crate::server) outcomes: Vec<String>,
    /// The media id, whole.
    #[param(min_length = 1, max_length = 512)]
    pub(in crate::server) media_id: Option<String>,
    /// The job id, whole.
    #[param(min_length = 1, max_length = 512)]
    pub(in crate::server) job_id: Option<String>,
    /// Received at this time or later: RFC 3339, or `15m`, `2h`, `2d` for so
    /// long ago.
    #[param(min_length = 2, max_length = 64, example = "2d")]
    pub(in crate::server) since: Option<String>,
    /// Received before this time, written like `since`.
    #[param(min_length = 2, max_length = 64, example = "15m")]
    pub(in crate::server) until: Option<String>,
    /// Text anywhere in the body, ASCII letters in either case.
    #[param(min_length = 1, max_length = 256)]
    pub(in crate::server) q: Option<String>,
}

impl Params for FilterWords {
    const NAMES: &'static [&'static str] = &[
        "type", "source", "status", "handler", "outcome", "media_id", "job_id", "since", "until",
        "q",
    ];

    fn take(&mut self, name: &str, value: String) -> Result<bool, Rejection> {
        match name {
            "type" => add(&mut self.types, name, &value)?,
            "source" => add(&mut self.sources, name, &value)?,
            "status" => add(&mut self.statuses, name, &value)?,
            "outcome" => add(&mut self.outcomes, name, &value)?,
            "handler" => once(&mut self.handler, name, value)?,
            "media_id" => once(&mut self.media_id, name, value)?,
            "job_id" => once(&mut self.job_id, name, value)?,
            "since" => once(&mut self.since, name, value)?,
            "until" => once(&mut self.until, name, value)?,
            "q" => once(&mut self.q, name, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Adds the words of a list, which are separated by commas.
///
/// # Errors
/// [`Rejection::BadRequest`] where one is empty or too long, or there are too
/// many.
pub(in crate::server) fn add(
    words: &mut Vec<String>,
    name: &str,
    list: &str,
) -> Result<(), Rejection> {
    // A comma within braces belongs to a glob.
    let mut depth = 0_usize;
    let separates = |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    words.extend(list.split(separates).map(str::to_owned));
    check_words(name, words)
}

fn check_words(name: &str, words: &[String]) -> Result<(), Rejection> {
    if words.len() > WORDS_MAX {
        return Err(bad(name, format!("has more than {WORDS_MAX} words")));
    }
    for one in words {
        word(name, one.clone())?;
    }
    Ok(())
}

impl FilterWords {
    /// Whether nothing is asked for.
    pub(in crate::server) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What the words mean at `now`.
    ///
    /// # Errors
    /// [`Rejection::BadRequest`], which names the word and what is allowed.
    pub(in crate::server) fn filter(&self, now: Timestamp) -> Result<EventFilter, Rejection> {
        let lists = [
            ("type", &self.types),
            ("source", &self.sources),
            ("status", &self.statuses),
            ("outcome", &self.outcomes),
        ];
        for (name, words) in lists {
            check_words(name, words)?;
        }
        let text = self.q.clone();
        if text
            .as_ref()
            .is_some_and(|text| text.len() > TEXT_BYTES_MAX)
        {
            return Err(bad("q", format!("is longer than {TEXT_BYTES_MAX} bytes")));
        }
        let time = |name, text: &Option<String>| -> Result<Option<Timestamp>, Rejection> {
            text.as_ref().map(|text| time(name, text, now)).transpose()
        };
        Ok(EventFilter {
            types: globs(&self.types)?,
            sources: each(&self.sources, |word| {
                SourceName::new(word).map_err(|error| bad("source", error))
            })?,
            outcomes: each(&self.outcomes, |word| {
                one_of("outcome", word, &Outcome::ALL, |outcome| outcome.as_str())
            })?,
            statuses: each(&self.statuses, |word| {
                one_of("status", word, &Status::ALL, |status| status.as_str())
            })?,
            handler: match &self.handler {
                None => None,
                Some(name) => Some(HandlerName::new(name).map_err(|error| bad("handler", error))?),
            },
            media_id: self.media_id.clone(),
            job_id: self.job_id.clone(),
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
            text,
        })
    }
}

fn each<T>(
    words: &[String],
    read: impl Fn(&str) -> Result<T, Rejection>,
) -> Result<Option<Vec<T>>, Rejection> {
    if words.is_empty() {
        return Ok(None);
    }
    words
        .iter()
        .map(|word| read(word))
        .collect::<Result<_, _>>()
        .map(Some)
}

/// The one of `all` that is spelt like `word`.
///
/// # Errors
/// [`Rejection::BadRequest`] where none is.
pub(in crate::server) fn one_of<T: Copy>(
    name: &str,
    word: &str,
    all: &[T],
    spelt: impl Fn(T) -> &'static str,
) -> Result<T, Rejection> {
    all.iter()
        .copied()
        .find(|one| spelt(*one) == word)
        .ok_or_else(|| {
            let allowed: Vec<_> = all.iter().map(|one| spelt(*one)).collect();
            let word = shortened(word);
            bad(name, format!("`{word}` is none of {}", allowed.join(", ")))
        })
}

fn globs(words: &[String]) -> Result<Option<GlobSet>, Rejection> {
    if words.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for word in words {
        let glob = GlobBuilder::new(word).build();
        set.add(glob.map_err(|error| bad("type", error.kind()))?);
    }
    set.build()
        .map(Some)
        .map_err(|error| bad("type", error.kind()))
}

/// A time: RFC 3339, or so long ago.
///
/// # Errors
/// [`Rejection::BadRequest`] where it is neither.
pub(in crate::server) fn time(
    name: &str,
    text: &str,
    now: Timestamp,
) -> Result<Timestamp, Rejection> {
    ago(text)
        .and_then(|ago| now.checked_sub(ago).ok())
        .or_else(|| text.parse().ok())
        .ok_or_else(|| {
            bad(
                name,
                "write a time such as 2026-11-24T17:03:11Z, or 15m, 2h, 2d for so long ago",
            )
        })
}

fn ago(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(at);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    let ago = Duration::from_secs(count.parse::<u64>().ok()?.checked_mul(seconds)?);
    (ago <= AGO_MAX).then_some(ago)
}

/// No parameter at all.
#[derive(Debug, Default)]
pub(in crate::server) struct Nothing;

impl Params for Nothing {
    const NAMES: &'static [&'static str] = &[];

    fn take(&mut self, _: &str, _: String) -> Result<bool, Rejection> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    fn filter(query: &str) -> Result<EventFilter, String> {
        let words = read::<FilterWords>(query).map_err(|error| error.to_string())?;
        words.filter(now()).map_err(|error| error.to_string())
    }

    #[test]
    fn lists_are_repeated_or_separated() {
        let found = filter("status=dead,pending&status=running&source=a&type=A*,{B,C}").unwrap();
        let statuses = [Status::Dead, Status::Pending, Status::Running];
        assert_eq!(found.statuses.as_deref(), Some(&statuses[..]));
        let types = found.types.unwrap();
        for (event_type, matches) in [("Ab", true), ("B", true), ("C", true), ("D", false)] {
            assert_eq!(types.is_match(event_type), matches, "{event_type}");
        }
        assert!(found.outcomes.is_none() && found.handler.is_none());
    }

    #[test]
    fn times_are_absolute_or_so_long_ago() {
        let found = filter("since=2d&until=2026-11-24T10:00:00%2B02:00").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().ok();
        assert_eq!(found.since, at("2026-11-22T12:00:00Z"));
        assert_eq!(found.until, at("2026-11-24T08:00:00Z"));
        for (text, seconds) in [("0s", 0), ("90s", 90), ("15m", 900), ("2h", 7200)] {
            assert_eq!(ago(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for bad in [
            "",
            "s",
            "15",
            "15 m",
            "-1m",
            "99999999999999999999s",
            "9999999w",
        ] {
            assert_eq!(ago(bad), None, "{bad}");
        }
    }

    #[test]
    fn values_are_decoded() {
        let found = filter("q=a+b%26c%2B&media_id=%E4%BD%A0").unwrap();
        assert_eq!(found.text.as_deref(), Some("a b&c+"));
        assert_eq!(found.media_id.as_deref(), Some("\u{4f60}"));
        let bare = filter("&&").unwrap();
        assert!(bare.text.is_none());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let long = "x".repeat(WORD_BYTES_MAX + 1);
        let text = "x".repeat(TEXT_BYTES_MAX + 1);
        let many = vec!["a"; WORDS_MAX + 1].join(",");
        for (query, part) in [
            (
                "colour=red",
                "`colour`: is no parameter here; there are type,",
            ),
            (
                "status=done",
                "`status`: `done` is none of pending, running,",
            ),
            ("status=", "`status`: is empty"),
            ("status=dead,", "`status`: is empty"),
            ("outcome=ok", "none of succeeded, failed, other"),
            ("source=Not%20A%20Name", "`source`:"),
            ("handler=a__b", "`handler`:"),
            ("handler=a&handler=b", "`handler`: is given twice"),
            ("type=%5B", "`type`:"),
            ("since=yesterday", "`since`: write a time such as"),
            ("until=5", "`until`: write a time"),
            ("q=", "`q`: is empty"),
            ("q=%ff", "no UTF-8"),
            (&format!("media_id={long}"), "`media_id`: is longer than"),
            (&format!("q={text}"), "`q`: is longer than 256"),
            (&format!("source={many}"), "`source`: has more than"),
        ] {
            let error = filter(query).unwrap_err();
            assert!(error.contains(part), "{query}: {error}");
        }
    }
}
