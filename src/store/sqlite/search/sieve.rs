//! Whether a row is what was asked for. What an index says is only ever taken
//! as a hint where to look: this looks at the event itself.

use rusqlite::{Connection, Result, Row};
use uuid::Uuid;

use super::super::columns::{is_unreadable, status, tell_left_out};
use super::super::ids::Ids;
use super::super::rows::millis;
use super::summary::{body, summary};
use crate::store::archive::{EventFilter, EventSummary, Page, contains_text};

/// Which ids can be meant at all: from `floor` on, and below `ceiling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub floor: Uuid,
    pub ceiling: Uuid,
}

impl Range {
    /// What times and page leave. The time of an event is in its id.
    pub fn of(filter: &EventFilter, page: &Page) -> Self {
        // The first whole millisecond that is not before the time.
        let from = |at: jiff::Timestamp| {
            let ms = millis(at);
            let rest = at.as_nanosecond() > i128::from(ms) * 1_000_000;
            Ids::floor(ms + i64::from(rest))
        };
        let until = filter.until.map_or(Uuid::max(), from);
        let after = page.after.map_or(Uuid::max(), |after| after.0);
        Self {
            floor: filter.since.map_or(Uuid::nil(), from),
            ceiling: until.min(after),
        }
    }

    pub fn is_empty(self) -> bool {
        self.floor >= self.ceiling
    }

    pub fn contains(self, id: Uuid) -> bool {
        self.floor <= id && id < self.ceiling
    }
}

/// The columns that [`Sieve::passes`] wants, in its order.
macro_rules! select_head {
    ($rest:literal) => {
        concat!(
            "SELECT row, id, source, type, outcome, media_id, job_id FROM events ",
            $rest
        )
    };
}
pub(super) use select_head;

/// A column's text, borrowed; nothing where it is no text.
fn text<'r>(row: &'r Row<'_>, column: usize) -> Result<Option<&'r str>> {
    Ok(row.get_ref(column)?.as_str().ok())
}

/// The filter, made ready for many rows.
pub struct Sieve<'a> {
    pub filter: &'a EventFilter,
    pub store: &'a Connection,
}

impl Sieve<'_> {
    /// Whether the columns of a row let it through, and its deliveries.
    pub fn passes(&self, row: &Row<'_>) -> Result<bool> {
        Ok(self.passes_head(row)? && self.deliveries_pass(row.get(0)?)?)
    }

    /// Whether the columns of a row let it through; borrows all of them.
    pub fn passes_head(&self, row: &Row<'_>) -> Result<bool> {
        let filter = self.filter;
        for (wanted, column) in [(&filter.media_id, 5), (&filter.job_id, 6)] {
            if wanted.is_some() && wanted.as_deref() != text(row, column)? {
                return Ok(false);
            }
        }
        let [source, event_type, outcome] = [2, 3, 4].map(|column| text(row, column));
        Ok(self.kind_passes(
            source?.unwrap_or_default(),
            event_type?.unwrap_or_default(),
            outcome?.unwrap_or_default(),
        ))
    }

    /// Whether events of this source, type and outcome can be meant.
    pub fn kind_passes(&self, source: &str, event_type: &str, outcome: &str) -> bool {
        let filter = self.filter;
        let outcomes = filter.outcomes.as_ref();
        let sources = filter.sources.as_ref();
        let types = filter.types.as_ref();
        outcomes.is_none_or(|wanted| wanted.iter().any(|wanted| wanted.as_str() == outcome))
            && sources.is_none_or(|wanted| wanted.iter().any(|wanted| wanted.as_str() == source))
            && types.is_none_or(|types| types.is_match(event_type))
    }

    fn deliveries_pass(&self, row: i64) -> Result<bool> {
        let (handler, statuses) = (&self.filter.handler, &self.filter.statuses);
        if handler.is_none() && statuses.is_none() {
            return Ok(true);
        }
        let mut statement = self
            .store
            .prepare_cached("SELECT handler, status FROM deliveries WHERE event = ?1")?;
        let mut deliveries = statement.query([row])?;
        while let Some(delivery) = deliveries.next()? {
            let stands = status(delivery, 1)?;
            let name = text(delivery, 0)?;
            let ours = handler
                .as_ref()
                .is_none_or(|wanted| name == Some(wanted.as_str()));
            let so = statuses
                .as_ref()
                .is_none_or(|wanted| wanted.contains(&stands));
            if ours && so {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The event of a row that passed, where all of the filter holds for it. One
    /// that cannot be read is left out, so that the others can be found.
    pub fn take(&self, row: i64) -> Result<Option<EventSummary>> {
        match self.read(row) {
            Err(error) if is_unreadable(&error) => {
                tell_left_out(row, &error);
                Ok(None)
            }
            read => read,
        }
    }

    fn read(&self, row: i64) -> Result<Option<EventSummary>> {
        if let Some(text) = &self.filter.text
            && !contains_text(&body(self.store, row)?, text.as_bytes())
        {
            return Ok(None);
        }
        let found = summary(self.store, row)?;
        Ok(found.filter(|event| self.filter.admits_head(event)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn times_are_ranges_of_ids() {
        let page = Page {
            limit: 1,
            after: None,
        };
        let at = |nanos| Timestamp::from_nanosecond(nanos).unwrap();
        let range = |since: i128, until: i128| {
            let filter = EventFilter {
                since: Some(at(since)),
                until: Some(at(until)),
                ..EventFilter::default()
            };
            Range::of(&filter, &page)
        };
        let ms = 1_000_000;
        // From exactly 5 ms on, and before exactly 7 ms.
        let exact = range(5 * ms, 7 * ms);
        assert_eq!((exact.floor, exact.ceiling), (Ids::floor(5), Ids::floor(7)));
        // An event of 5 ms is before 5.000001 ms; one of 7 ms is before 7.000001.
        let between = range(5 * ms + 1, 7 * ms + 1);
        assert_eq!(
            (between.floor, between.ceiling),
            (Ids::floor(6), Ids::floor(8))
        );
        assert!(range(7 * ms, 7 * ms).is_empty());
        let all = Range::of(&EventFilter::default(), &page);
        assert!(all.contains(Ids::floor(1)) && !all.is_empty());
    }
}
