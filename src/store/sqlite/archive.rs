//! The operator's side of the engine.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;

use super::rows::{millis, timestamp};
use super::{SqliteStore, roster, upkeep};
use crate::request::HandlerName;
use crate::store::archive::{
    Archive, EventFilter, Found, HandlerState, Imported, MinuteCount, Page, Redeliver, Redelivered,
    StoreSize, Tail, TailPosition,
};
use crate::store::{History, Store, StoreError};

fn missing<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("not built yet".into()))
}

#[async_trait]
impl Archive for SqliteStore {
    async fn events(&self, _filter: &EventFilter, _page: Page) -> Result<Found, StoreError> {
        missing()
    }
    async fn tail(&self, _position: Option<TailPosition>, _limit: u32) -> Result<Tail, StoreError> {
        missing()
    }
    async fn minutes(&self, _since: Timestamp) -> Result<Vec<MinuteCount>, StoreError> {
        missing()
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
