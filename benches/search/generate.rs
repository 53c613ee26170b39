//! Makes a large store: rows as the service would have written them, in large
//! transactions and without syncing.

use ims_receiver::clock::{Clock as _, SystemClock};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rusqlite::{Connection, params};
use uuid::Builder;

/// A type that one of a hundred thousand events has.
pub const RARE_TYPE: &str = "MediaConvertComplete";

/// One of so many bodies holds an unusual word.
pub const WORDS_EVERY: u64 = 1000;

/// Milliseconds from event to event: five million are twelve days, which
/// retention leaves alone.
const APART_MS: i64 = 200;

/// Events of one transaction.
const TRANSACTION: u64 = 100_000;

/// One of so many deliveries is dead; of the newest, so many wait.
const DEAD_EVERY: u64 = 100;
const PENDING: u64 = 20_000;

/// Fills the store at `path`, which the service made.
pub fn fill(path: &Path, events: u64) -> anyhow::Result<()> {
    let store = Connection::open(path)?;
    store.pragma_update(None, "synchronous", "off")?;
    store.pragma_update(None, "cache_size", -512_000)?;
    store.pragma_update(None, "wal_autocheckpoint", 20_000)?;
    let types: Vec<&str> = ims_receiver::event::ims::all_types().collect();
    let now = SystemClock.now().as_millisecond();
    let start = now - events as i64 * APART_MS;
    let mut random = StdRng::seed_from_u64(7);
    let mut n = 0;
    while n < events {
        let tx = store.unchecked_transaction()?;
        for _ in 0..TRANSACTION.min(events - n) {
            let at = start + n as i64 * APART_MS;
            insert(&tx, n, at, &types, &mut random, events)?;
            n += 1;
        }
        tx.commit()?;
        if n % 1_000_000 == 0 {
            eprintln!("  {n} events");
        }
    }
    store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}

/// Mostly productions and what follows them, seldom anything else.
fn kind<'a>(types: &[&'a str], random: &mut StdRng) -> &'a str {
    match random.random_range(0..100_000u32) {
        0 => RARE_TYPE,
        1..40_000 => "ProduceMediaComplete",
        40_000..60_000 => "FileMetaChanged",
        60_000..75_000 => "SnapshotComplete",
        _ => loop {
            let any = types[random.random_range(0..types.len())];
            if any != RARE_TYPE {
                break any;
            }
        },
    }
}

fn insert(
    tx: &Connection,
    n: u64,
    at: i64,
    types: &[&str],
    random: &mut StdRng,
    events: u64,
) -> anyhow::Result<()> {
    let row = n as i64 + 1;
    let id = Builder::from_unix_timestamp_millis(at.cast_unsigned(), &random.random()).into_uuid();
    let fingerprint: [u8; 16] = random.random();
    let event_type = kind(types, random);
    let outcome = match random.random_range(0..20u32) {
        0 => "failed",
        1..6 => "other",
        _ => "succeeded",
    };
    let source = if random.random_range(0..10u32) == 0 {
        "partner"
    } else {
        "default"
    };
    // About three events share a media id, a few minutes apart.
    let media = scattered(n / 3);
    let job = scattered(n.wrapping_add(1 << 40));
    let word = match n % WORDS_EVERY {
        0 => "unusual",
        _ => "plain",
    };
    let body = format!(
        r#"{{"EventType":"{event_type}","UserId":1833220977561234,"EventTime":"2026-11-24T08:48:14Z","MessageBody":{{"Status":"Success","JobId":"{job}","MediaId":"{media}","MediaURL":"https://media.example.com/out/{media}.mp4","Code":"Success","ProjectId":"b4a9f6c2d1e84c55","UserData":"{{\"batch\":7,\"word\":\"{word}\"}}"}}}}"#
    );
    tx.prepare_cached(
        "INSERT INTO events (row, id, fingerprint, received_at, source, type, outcome, event_time,
            user_id, media_id, job_id, verified, query, headers, peer, notes, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, '2026-11-24T08:48:14Z', '1833220977561234', ?8, ?9,
            ?10, NULL, '[[\"content-type\",\"application/json\"]]', '192.0.2.1', NULL, ?11)",
    )?
    .execute(params![
        row,
        id.as_bytes(),
        &fingerprint,
        at,
        source,
        event_type,
        outcome,
        media,
        job,
        r#"{"scheme":"ims","key":1,"url":1}"#,
        body.as_bytes(),
    ])?;
    for handler in ["archive", "cms"] {
        let (status, due, reason) = if n + PENDING >= events && handler == "cms" {
            (0, Some(at + 86_400_000 * 30), Some("status 503"))
        } else if random.random_range(0..DEAD_EVERY) == 0 && handler == "cms" {
            (3, None, Some("status 500"))
        } else {
            (2, None, None)
        };
        tx.prepare_cached(
            "INSERT INTO deliveries (event, handler, status, attempts, failed, lost, worker, due,
                taken_at, reason)
             VALUES (?1, ?2, ?3, 1, 0, 0, NULL, ?4, ?5, ?6)",
        )?
        .execute(params![row, handler, status, due, at, reason])?;
    }
    Ok(())
}

/// 32 hexadecimal digits that say nothing about the number.
fn scattered(n: u64) -> String {
    let (high, low) = (mixed(2 * n), mixed(2 * n + 1));
    format!("{high:016x}{low:016x}")
}

/// SplitMix64.
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
