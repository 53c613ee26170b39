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
    /// Goes on after what the database holds.
    pub fn resume(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let (row, at): (i64, i64) = connection.query_row(
            "SELECT coalesce(max(row), 0), coalesce(max(received_at), 0) FROM
                (SELECT row, received_at FROM events ORDER BY row DESC LIMIT 1)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
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
