//! Where events may be found that match: the narrowest list that the indexes
//! offer, newest first, a chunk at a time.

use std::collections::HashSet;

use rusqlite::{Connection, Result, params};
use uuid::Uuid;

use super::bound;
use super::index::Entry;
use super::sieve::Range;
use super::summary::id_in;

/// Candidates of one chunk, about.
const CHUNK: usize = bound(256, 8);

/// Candidates that one of many lists gives at the least.
const SHARE_MIN: usize = bound(8, 2);

/// Where candidates come from.
#[derive(Debug)]
pub enum Candidates {
    /// Every event, along the index by id.
    All,
    /// These kinds of events.
    Kinds(Vec<i64>),
    /// A hash of a media or job id, in these segments.
    Key { hash: i64, segments: Vec<i64> },
    /// These events and no others, newest first.
    Listed(Vec<Uuid>),
    /// What has a delivery that is dead or unfinished, by rows.
    Rows(Rows),
}

/// Rows in their order, which is that of their ids but for the strays.
#[derive(Debug)]
pub struct Rows {
    /// Handlers whose dead deliveries are meant.
    pub dead: Vec<String>,
    /// Rows with an unfinished delivery, newest first.
    pub open: Vec<i64>,
    /// Looked for among the events of their own, by id.
    pub strays: HashSet<Uuid>,
    /// Only rows before this one.
    pub below: i64,
}

/// A part of the candidates.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Newest first, with the entry that led there.
    pub ids: Vec<(Uuid, Option<Entry>)>,
    /// No candidate from this id on is missing; `None` where there is no more.
    pub complete_to: Option<Uuid>,
}

/// What went wrong, and with which file.
#[derive(Debug)]
pub enum Failure {
    Store(rusqlite::Error),
    Index(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error)
    }
}

impl Candidates {
    /// The next candidates within `range`, whose ceiling moves down from call
    /// to call.
    pub fn next(
        &mut self,
        store: &Connection,
        index: Option<&Connection>,
        range: Range,
    ) -> std::result::Result<Chunk, Failure> {
        match (self, index) {
            (Self::Kinds(kinds), Some(index)) => {
                by_kind(index, kinds, range).map_err(Failure::Index)
            }
            (Self::Key { hash, segments }, Some(index)) => {
                by_key(index, *hash, segments, range).map_err(Failure::Index)
            }
            (Self::Listed(ids), _) => Ok(listed(ids, range)),
            (Self::Rows(rows), _) => Ok(rows.next(store, range)?),
            // Those need no list, or have lost it.
            (Self::All | Self::Kinds(_) | Self::Key { .. }, _) => Ok(Chunk::default()),
        }
    }
}

fn by_kind(index: &Connection, kinds: &[i64], range: Range) -> Result<Chunk> {
    let mut statement = index.prepare_cached(
        "SELECT id FROM by_kind WHERE kind = ?1 AND id >= ?2 AND id < ?3
         ORDER BY id DESC LIMIT ?4",
    )?;
    let (merged, complete_to) = merge(kinds.len(), |list, limit| {
        let bounds = params![
            kinds[list],
            range.floor.as_bytes(),
            range.ceiling.as_bytes(),
            limit as i64
        ];
        statement
            .query_map(bounds, |row| row.get(0).map(Uuid::from_bytes))?
            .collect()
    })?;
    let entry = |(id, list): (Uuid, usize)| {
        let kind = kinds[list];
        (id, Some(Entry::Kind { kind, id }))
    };
    Ok(Chunk {
        ids: merged.into_iter().map(entry).collect(),
        complete_to,
    })
}

fn by_key(index: &Connection, hash: i64, segments: &[i64], range: Range) -> Result<Chunk> {
    let mut statement = index.prepare_cached(
        "SELECT id FROM by_key WHERE segment = ?1 AND hash = ?2 AND id >= ?3 AND id < ?4
         ORDER BY id DESC LIMIT ?5",
    )?;
    let (merged, complete_to) = merge(segments.len(), |list, limit| {
        let bounds = params![
            segments[list],
            hash,
            range.floor.as_bytes(),
            range.ceiling.as_bytes(),
            limit as i64
        ];
        statement
            .query_map(bounds, |row| row.get(0).map(Uuid::from_bytes))?
            .collect()
    })?;
    let entry = |(id, list): (Uuid, usize)| {
        let segment = segments[list];
        (id, Some(Entry::Key { segment, hash, id }))
    };
    Ok(Chunk {
        ids: merged.into_iter().map(entry).collect(),
        complete_to,
    })
}

fn listed(ids: &[Uuid], range: Range) -> Chunk {
    let start = ids.partition_point(|id| *id >= range.ceiling);
    let end = ids.partition_point(|id| *id >= range.floor);
    let ids = ids.get(start..end).unwrap_or_default();
    Chunk {
        ids: ids.iter().map(|id| (*id, None)).collect(),
        complete_to: None,
    }
}

impl Rows {
    fn next(&mut self, store: &Connection, range: Range) -> Result<Chunk> {
        let mut dead = store.prepare_cached(
            "SELECT event FROM deliveries INDEXED BY deliveries_dead
             WHERE status = 3 AND handler = ?1 AND event < ?2 ORDER BY event DESC LIMIT ?3",
        )?;
        let below = self.below;
        let from = self.open.partition_point(|row| *row >= below);
        let open = self.open.get(from..).unwrap_or_default();
        let (mut rows, complete_to) = merge(self.dead.len() + 1, |list, limit| {
            match self.dead.get(list) {
                Some(handler) => dead
                    .query_map(params![handler, below, limit as i64], |row| row.get(0))?
                    .collect(),
                None => Ok(open.iter().take(limit).copied().collect()),
            }
        })?;
        rows.dedup_by_key(|(row, _)| *row);
        let mut chunk = Chunk::default();
        for (row, _) in rows {
            let Some(id) = id_in(store, row)? else {
                continue;
            };
            if !self.strays.contains(&id) {
                chunk.ids.push((id, None));
            }
        }
        // The id of a stray says nothing about those of the rows before it.
        let last = chunk.ids.last().map_or(range.ceiling, |(id, _)| *id);
        chunk.complete_to = complete_to.map(|_| last);
        self.below = complete_to.unwrap_or(0);
        Ok(chunk)
    }
}

/// Values with the number of their list, and how far they are complete.
type Merged<T> = (Vec<(T, usize)>, Option<T>);

/// The largest of several lists, largest first and each with the number of its
/// list. `fetch` gives the largest `limit` values of one list. What comes
/// second is the smallest value to which no list can hold any other; nothing
/// where all lists are through.
fn merge<T: Ord + Copy>(
    lists: usize,
    mut fetch: impl FnMut(usize, usize) -> Result<Vec<T>>,
) -> Result<Merged<T>> {
    let limit = (CHUNK / lists.max(1)).max(SHARE_MIN);
    let mut merged = Vec::new();
    let mut complete_to: Option<T> = None;
    for list in 0..lists {
        let values = fetch(list, limit)?;
        if values.len() == limit {
            complete_to = complete_to.max(values.last().copied());
        }
        merged.extend(values.into_iter().map(|value| (value, list)));
    }
    merged.sort_unstable_by(|a, b| b.cmp(a));
    if let Some(end) = complete_to {
        merged.retain(|(value, _)| *value >= end);
    }
    Ok((merged, complete_to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_loses_nothing_and_repeats_nothing() {
        // Lists of very different lengths and densities.
        let lists: Vec<Vec<u32>> = vec![
            (0..5000).rev().map(|n| n * 7).collect(),
            (0..40).rev().map(|n| n * 801 + 1).collect(),
            vec![],
            (0..900).rev().map(|n| 20_000 + n * 7 + 2).collect(),
            vec![3],
        ];
        let mut all: Vec<u32> = lists.iter().flatten().copied().collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        let mut seen = Vec::new();
        let mut ceiling = u32::MAX;
        loop {
            let (merged, complete_to) = merge(lists.len(), |list, limit| {
                let below = lists[list].iter().filter(|value| **value < ceiling);
                Ok(below.take(limit).copied().collect())
            })
            .unwrap();
            seen.extend(merged.iter().map(|(value, _)| *value));
            match complete_to {
                Some(end) => ceiling = end,
                None => break,
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn a_list_is_cut_to_the_range() {
        let id = |n| Uuid::from_u128(n);
        let range = Range {
            floor: id(3),
            ceiling: id(7),
        };
        let chunk = listed(&[9, 7, 6, 4, 3, 2].map(id), range);
        let ids: Vec<_> = chunk.ids.iter().map(|(id, _)| id.as_u128()).collect();
        assert_eq!(ids, [6, 4, 3]);
    }
}
