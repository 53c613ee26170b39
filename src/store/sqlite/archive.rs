//! The operator's side of the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::Connection;

use super::rows::{millis, timestamp};
use super::search::{self, Failure, OTHER_TYPES, Search};
use super::{SqliteStore, events, reader, roster, upkeep};
use crate::request::{HandlerName, SourceName};
use crate::store::archive::{
    Archive, EventFilter, Found, HandlerState, Imported, MinuteCount, Page, Redeliver, Redelivered,
    StoreSize, Tail, TailPosition,
};
use crate::store::{History, Store, StoreError};

#[async_trait]
impl Archive for SqliteStore {
    async fn events(&self, filter: &EventFilter, page: Page) -> Result<Found, StoreError> {
        let filter = filter.clone();
        let tallies = self.shared.tallies.snapshot();
        let hold = Arc::clone(&self.shared.index.hold);
        let search = move |store: &Connection, index: Option<&Connection>| {
            Search {
                store,
                index,
                filter: &filter,
                page,
                tallies: &tallies,
                hold: &hold,
            }
            .run()
        };
        let (found, orphans) = self.searches.run(search).await?;
        if !orphans.is_empty() {
            self.shared.index.orphaned(orphans);
        }
        Ok(found)
    }

    async fn tail(&self, position: Option<TailPosition>, limit: u32) -> Result<Tail, StoreError> {
        self.readers
            .read(move |connection| reader::tail(connection, position, limit))
            .await
    }

    async fn minutes(&self, since: Timestamp) -> Result<Vec<MinuteCount>, StoreError> {
        let since = millis(since);
        let counts = self
            .searches
            .run(move |_, index| match index {
                Some(index) => search::minutes(index, since).map_err(Failure::Index),
                // It is being built: nothing is counted yet.
                None => Ok(Vec::new()),
            })
            .await?;
        let counts = counts.into_iter().map(|count| MinuteCount {
            minute: timestamp(count.minute),
            source: SourceName::from_store(&count.source),
            outcome: events::outcome(&count.outcome),
            event_type: match count.event_type.as_str() {
                OTHER_TYPES => "other".to_owned(),
                _ => count.event_type,
            },
            events: count.events.cast_unsigned(),
        });
        Ok(counts.collect())
    }

    async fn redeliver(&self, what: &Redeliver, now: Timestamp) -> Result<Redelivered, StoreError> {
        self.new_rounds(what, now).await
    }

    async fn handlers(&self) -> Result<BTreeMap<HandlerName, HandlerState>, StoreError> {
        let known = self.readers.read(roster::known).await?;
        let mut backlog = self.backlog().await?;
        let state = |known: roster::Known| {
            let state = HandlerState {
                removed_at: known.removed_at.map(timestamp),
                paused_at: known.paused_at.map(timestamp),
                backlog: backlog.remove(&known.name).unwrap_or_default(),
            };
            (known.name, state)
        };
        Ok(known.into_iter().map(state).collect())
    }

    async fn set_paused(
        &self,
        handler: &HandlerName,
        paused: bool,
        now: Timestamp,
    ) -> Result<Option<bool>, StoreError> {
        let (name, at) = (handler.clone(), millis(now));
        let changed = self
            .in_commit(move |tx, effects| {
                let changed = roster::set_paused(tx, &name, paused, at)?;
                if changed == Some(true) {
                    effects.wrote();
                }
                Ok(changed)
            })
            .await?;
        if changed == Some(true) && !paused {
            let mut returned = self.returned.lock().expect("a plain insert cannot panic");
            returned.insert(handler.clone(), at);
        }
        Ok(changed)
    }

    async fn discard(&self, handler: &HandlerName, _now: Timestamp) -> Result<u64, StoreError> {
        self.give_up(handler).await
    }

    async fn import(&self, events: Vec<History>) -> Result<Imported, StoreError> {
        self.take_in(events).await
    }

    async fn size(&self) -> Result<StoreSize, StoreError> {
        let path = self.path.clone();
        self.readers
            .read(move |connection| upkeep::size(connection, &path))
            .await
    }
}
