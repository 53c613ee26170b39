//! The operator's side of the engine.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;

use super::SqliteStore;
use crate::request::HandlerName;
use crate::store::archive::{
    Archive, EventFilter, Found, HandlerState, Imported, MinuteCount, Page, Redeliver, Redelivered,
    StoreSize, Tail, TailPosition,
};
use crate::store::{History, StoreError};

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
    async fn redeliver(
        &self,
        _what: &Redeliver,
        _now: Timestamp,
    ) -> Result<Redelivered, StoreError> {
        missing()
    }
    async fn handlers(&self) -> Result<BTreeMap<HandlerName, HandlerState>, StoreError> {
        missing()
    }
    async fn set_paused(
        &self,
        _handler: &HandlerName,
        _paused: bool,
        _now: Timestamp,
    ) -> Result<Option<bool>, StoreError> {
        missing()
    }
    async fn discard(&self, _handler: &HandlerName, _now: Timestamp) -> Result<u64, StoreError> {
        missing()
    }
    async fn import(&self, _events: Vec<History>) -> Result<Imported, StoreError> {
        missing()
    }
    async fn size(&self) -> Result<StoreSize, StoreError> {
        missing()
    }
}
