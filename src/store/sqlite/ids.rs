//! Ids, rows and arrival times, none of which ever runs backwards.

use rusqlite::Connection;
use uuid::{Builder, Uuid};

/// Makes ids, rows and arrival times, none of which ever runs backwards.
#[derive(Debug, Default)]
pub struct Ids {
    last_ms: i64,
    counter: u16,
    last_row: i64,
}

impl Ids {
    /// Goes on after what the database holds. Imported events have new rows and
    /// old ids, so each is asked for by itself.
    pub fn resume(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let (row, id): (i64, Option<[u8; 16]>) = connection.query_row(
            "SELECT (SELECT coalesce(max(row), 0) FROM events), (SELECT max(id) FROM events)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let at = id.map_or(0, |id| Self::time(Uuid::from_bytes(id)));
        self.last_row = self.last_row.max(row);
        if at > self.last_ms {
            self.last_ms = at;
            self.counter = u16::MAX;
        }
        Ok(())
    }

    /// A UUIDv7 and the arrival time in it. Twelve bits count within one
    /// millisecond, so that ids grow strictly; when they run out, the next
    /// millisecond is borrowed.
    pub fn next(&mut self, now: i64) -> (Uuid, i64) {
        if now > self.last_ms {
            self.last_ms = now;
            self.counter = 0;
        } else if self.counter >= 0x0fff {
            self.last_ms += 1;
            self.counter = 0;
        } else {
            self.counter += 1;
        }
        let mut random: [u8; 10] = rand::random();
        let [high, low] = self.counter.to_be_bytes();
        random[0] = high;
        random[1] = low;
        let ms = self.last_ms.max(0).cast_unsigned();
        let id = Builder::from_unix_timestamp_millis(ms, &random).into_uuid();
        (id, self.last_ms)
    }

    /// The next row's number.
    pub fn next_row(&mut self) -> i64 {
        self.last_row += 1;
        self.last_row
    }

    /// The last row's number.
    pub fn last_row(&self) -> i64 {
        self.last_row
    }

    /// Notes that numbers up to `row` were given out beside this.
    pub fn go_on_after(&mut self, row: i64) {
        self.last_row = self.last_row.max(row);
    }

    /// The latest arrival time given out; no later event gets an earlier one.
    pub fn last_ms(&self) -> i64 {
        self.last_ms
    }

    /// The smallest id of a millisecond.
    pub fn floor(ms: i64) -> Uuid {
        Builder::from_unix_timestamp_millis(ms.max(0).cast_unsigned(), &[0; 10]).into_uuid()
    }

    /// The millisecond of an id.
    pub fn time(id: Uuid) -> i64 {
        let (high, _) = id.as_u64_pair();
        (high >> 16).cast_signed()
    }
}
