//! Names of handlers and sources that were mistyped, where a service would
//! just find nothing.

use serde::Deserialize;

use super::Session;
use crate::cli::admin::answers::{Handlers, SourceRow};
use crate::cli::admin::client::AdminError;
use crate::cli::admin::filter::FilterArgs;
use crate::cli::admin::screen;

/// So many names are shown.
const SHOWN_MAX: usize = 20;

#[derive(Debug, Deserialize)]
struct Sources {
    sources: Vec<SourceRow>,
}

/// What there is to say about the handler of a filter; `None` where the
/// service knows it, be it configured or only in its store.
pub(super) async fn unknown_handler(
    session: &Session,
    filter: &FilterArgs,
) -> Result<Option<String>, AdminError> {
    let Some(asked) = &filter.handler else {
        return Ok(None);
    };
    let known: Handlers = session.client.get("/api/handlers", &[]).await?;
    let known: Vec<String> = known.handlers.into_iter().map(|row| row.name).collect();
    Ok(told("handler", asked, &known, "configured or in the store"))
}

/// What there is to say about the sources of a filter.
async fn unknown_sources(
    session: &Session,
    filter: &FilterArgs,
) -> Result<Vec<String>, AdminError> {
    if filter.source.is_empty() {
        return Ok(Vec::new());
    }
    let minute = [("minutes", "1".to_owned())];
    let known: Sources = session.client.get("/api/stats", &minute).await?;
    let known: Vec<String> = known.sources.into_iter().map(|row| row.name).collect();
    let told = |asked: &String| told("source", asked, &known, "configured");
    Ok(filter.source.iter().filter_map(told).collect())
}

/// Says on standard error which names of a filter that found nothing are
/// nobody's.
pub(super) async fn hint(session: &Session, filter: &FilterArgs) -> Result<(), AdminError> {
    let handler = unknown_handler(session, filter).await?;
    for line in handler
        .into_iter()
        .chain(unknown_sources(session, filter).await?)
    {
        eprintln!("{line}");
    }
    Ok(())
}

fn told(what: &str, asked: &str, known: &[String], how: &str) -> Option<String> {
    if known.iter().any(|name| name == asked) {
        return None;
    }
    let shown: Vec<String> = known
        .iter()
        .take(SHOWN_MAX)
        .map(|name| screen::clean(name))
        .collect();
    let there = match (shown.as_slice(), known.len().saturating_sub(SHOWN_MAX)) {
        ([], _) => "there is none".to_owned(),
        (shown, 0) => format!("there are {}", shown.join(", ")),
        (shown, more) => format!("there are {} and {more} more", shown.join(", ")),
    };
    let asked = screen::clean(asked);
    Some(format!("No {what} `{asked}` is {how}; {there}."))
}
