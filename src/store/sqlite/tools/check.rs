//! Looks for damage: what SQLite can tell, and the laws that only this program
//! knows. A body's fingerprint shows what no checksum of SQLite's would.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rusqlite::{Connection, Row};
use uuid::Uuid;

use super::{Step, ToolError, Watch, failed, open_to_read, refuse_foreign};
use crate::event::fingerprint;
use crate::store::archive::StoreSize;
use crate::store::sqlite::events::{read_event, select_event};
use crate::store::sqlite::ids::Ids;
use crate::store::sqlite::open::MAGIC;
use crate::store::sqlite::readable;
use crate::store::sqlite::rows::RUNNING;
use crate::store::sqlite::upkeep::size;

/// Rows that one statement looks at, so that none holds up the log for long.
const ROWS: i64 = 10_000;

/// Problems of one kind that are named; the others are counted.
const NAMED_MAX: u64 = 5;

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// What is wrong, one line each; empty where nothing is.
    pub problems: Vec<String>,
    /// What the service sets aside until somebody sees to it, and what to do,
    /// one line each. It is no damage.
    pub set_aside: Vec<String>,
    /// Events that were read.
    pub events: u64,
    /// Deliveries by status: pending, running, succeeded, dead.
    pub deliveries: [u64; 4],
    /// Attempts in the history.
    pub attempts: u64,
    /// How large it is.
    pub size: StoreSize,
}

/// A law over the rows of a range: a query that answers how many break it, and
/// the first event of them.
struct Law {
    broken: &'static str,
    sql: &'static str,
}

const LAWS: [Law; 5] = [
    Law {
        broken: "deliveries without their event",
        sql: "SELECT count(*), min(event) FROM deliveries AS d
              WHERE event BETWEEN ?1 AND ?2
                AND NOT EXISTS (SELECT 1 FROM events WHERE row = d.event)",
    },
    Law {
        broken: "attempts without their delivery, or with a number that it never had",
        sql: "SELECT count(*), min(event) FROM attempts AS a
              WHERE event BETWEEN ?1 AND ?2
                AND NOT EXISTS (SELECT 1 FROM deliveries AS d
                    WHERE d.event = a.event AND d.handler = a.handler AND d.attempts >= a.attempt)",
    },
    Law {
        broken: "counts of duplicates without their event",
        sql: "SELECT count(*), min(event) FROM duplicates AS d
              WHERE event BETWEEN ?1 AND ?2
                AND NOT EXISTS (SELECT 1 FROM events WHERE row = d.event)",
    },
    Law {
        broken: "deliveries whose status, due time and worker contradict each other",
        sql: "SELECT count(*), min(event) FROM deliveries
              WHERE event BETWEEN ?1 AND ?2 AND NOT coalesce(CASE status
                WHEN 0 THEN due < 9223372036854775807 AND worker IS NULL
                WHEN 1 THEN due = 9223372036854775807 AND worker IS NOT NULL
                WHEN 2 THEN due IS NULL AND worker IS NULL
                WHEN 3 THEN due IS NULL AND worker IS NULL
                ELSE 0 END, 0)",
    },
    Law {
        broken: "attempts with a result that there is not",
        sql: "SELECT count(*), min(event) FROM attempts
              WHERE event BETWEEN ?1 AND ?2 AND (result NOT IN (0, 1, 2, 3) OR attempt < 1)",
    },
];

/// What the service cannot go on from. Each is told with what to do.
const SET_ASIDE: Law = Law {
    broken: "deliveries with a count that no delivery has (they wait; `ims-receiver events redeliver ID` counts anew)",
    sql: "SELECT count(*), min(event) FROM deliveries
          WHERE event BETWEEN ?1 AND ?2 AND NOT (
            typeof(attempts) = 'integer' AND attempts BETWEEN 0 AND 4294967294
            AND typeof(failed) = 'integer' AND failed BETWEEN 0 AND 4294967295
            AND typeof(lost) = 'integer' AND lost BETWEEN 0 AND 4294967295)",
};

/// What has to hold for the whole store at one moment.
const WHOLE: [Law; 2] = [
    Law {
        broken: "events that share their id with another one",
        sql: "SELECT count(*), min(row) FROM
                (SELECT min(row) AS row FROM events INDEXED BY events_by_id
                 GROUP BY id HAVING count(*) > 1)",
    },
    // What is counted in memory at a start comes from these indexes.
    Law {
        broken: "deliveries that the counts of what waits and what is dead leave out",
        sql: "SELECT abs((SELECT count(*) FROM deliveries NOT INDEXED WHERE due IS NOT NULL)
                   - (SELECT count(*) FROM deliveries INDEXED BY deliveries_open WHERE due IS NOT NULL))
                 + abs((SELECT count(*) FROM deliveries NOT INDEXED WHERE status = 3)
                   - (SELECT count(*) FROM deliveries INDEXED BY deliveries_dead WHERE status = 3)),
                 NULL",
    },
];

/// Looks through the store at `path`, which a service may have open; nothing
/// is changed.
///
/// # Errors
/// [`ToolError`] where there is none, or one that this release cannot judge.
/// Damage is no error: it is what was looked for.
pub fn check(path: &Path, watch: Watch<'_>) -> Result<Findings, ToolError> {
    let mut findings = Findings::default();
    if !begins_as_a_database(path)? {
        findings
            .problems
            .push("its first bytes are not those of a database".to_owned());
        return Ok(findings);
    }
    let connection = open_to_read(path)?;
    match refuse_foreign(&connection, path) {
        Ok(()) => {}
        Err(ToolError::Failed(problem)) => {
            findings.problems.push(problem);
            return Ok(findings);
        }
        Err(refusal) => return Err(refusal),
    }
    let mut checker = Checker {
        connection: &connection,
        findings: &mut findings,
        watch,
    };
    checker.pages();
    checker.rows();
    for law in &WHOLE {
        checker.step("the indexes", 0, 0);
        checker.obey(law, &[]);
    }
    findings.size = size(&connection, path).map_err(failed("its size is not known", path))?;
    Ok(findings)
}

fn begins_as_a_database(path: &Path) -> Result<bool, ToolError> {
    let mut head = Vec::new();
    match File::open(path).and_then(|file| file.take(16).read_to_end(&mut head)) {
        Ok(_) => Ok(head == MAGIC),
        // Opening it says why not.
        Err(_) => Ok(true),
    }
}

struct Checker<'c> {
    connection: &'c Connection,
    findings: &'c mut Findings,
    watch: Watch<'c>,
}

impl Checker<'_> {
    fn step(&mut self, what: &'static str, done: u64, total: u64) {
        (self.watch)(Step { what, done, total });
    }

    fn problem(&mut self, problem: String) {
        self.findings.problems.push(problem);
    }

    fn unreadable(&mut self, what: &str, error: &rusqlite::Error) {
        self.problem(format!("{what} cannot be read: {}", readable(error)));
    }

    /// What SQLite knows of its pages and indexes.
    fn pages(&mut self) {
        self.step("the pages", 0, 0);
        let read = || -> rusqlite::Result<Vec<String>> {
            self.connection
                .prepare("PRAGMA integrity_check(20)")?
                .query_map([], |row| row.get(0))?
                .collect()
        };
        match read() {
            Ok(lines) if lines == ["ok"] => {}
            Ok(lines) => self.findings.problems.extend(lines),
            Err(error) => self.unreadable("its pages", &error),
        }
    }

    /// What holds for every row, range by range.
    fn rows(&mut self) {
        let bounds = self.connection.query_row(
            "SELECT min(low), max(high) FROM (
                SELECT min(row) AS low, max(row) AS high FROM events
                UNION ALL SELECT min(event), max(event) FROM deliveries
                UNION ALL SELECT min(event), max(event) FROM attempts
                UNION ALL SELECT min(event), max(event) FROM duplicates)",
            [],
            |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?)),
        );
        let (low, high) = match bounds {
            Ok((Some(low), Some(high))) => (low, high),
            Ok(_) => return,
            Err(error) => return self.unreadable("its tables", &error),
        };
        let total = high.abs_diff(low);
        let mut from = low;
        loop {
            let to = from.saturating_add(ROWS - 1).min(high);
            self.step("the rows", from.abs_diff(low), total);
            for law in &LAWS {
                self.obey(law, &[from, to]);
            }
            if let Some(told) = self.broken(&SET_ASIDE, &[from, to]) {
                self.findings.set_aside.push(told);
            }
            self.events(from, to);
            self.count(from, to);
            if to == high {
                return;
            }
            from = to + 1;
        }
    }

    fn obey(&mut self, law: &Law, range: &[i64]) {
        if let Some(told) = self.broken(law, range) {
            self.problem(told);
        }
    }

    /// How often a law is broken, and where, where it is.
    fn broken(&mut self, law: &Law, range: &[i64]) -> Option<String> {
        let found = self
            .connection
            .prepare_cached(law.sql)
            .and_then(|mut statement| {
                let range = rusqlite::params_from_iter(range);
                statement.query_row(range, |row| Ok((row.get(0)?, row.get(1)?)))
            });
        let (broken, first): (i64, Option<i64>) = match found {
            Ok(found) => found,
            Err(error) => {
                self.unreadable(law.broken, &error);
                return None;
            }
        };
        let first = first.map_or_else(String::new, |row| self.named(row));
        (broken > 0).then(|| format!("{broken} {}{first}", law.broken))
    }

    /// The first row that breaks a law, with its event where there is one.
    fn named(&self, row: i64) -> String {
        let id = self
            .connection
            .query_row("SELECT id FROM events WHERE row = ?1", [row], |row| {
                row.get(0).map(Uuid::from_bytes)
            });
        match id {
            Ok(id) => format!(", the first at row {row}, event {id}"),
            Err(_) => format!(", the first at row {row}"),
        }
    }

    /// Whether ids say when, and bodies are what they were.
    fn events(&mut self, from: i64, to: i64) {
        let mut wrong = 0;
        let mut named = Vec::new();
        let mut unread = 0_u64;
        let mut first_unread = None;
        let mut read = || -> rusqlite::Result<u64> {
            let mut statement = self
                .connection
                .prepare_cached(select_event!("row BETWEEN ?1 AND ?2"))?;
            let mut found = statement.query([from, to])?;
            let mut events = 0;
            while let Some(row) = found.next()? {
                events += 1;
                if let Some(problem) = wrong_event(row)? {
                    wrong += 1;
                    if wrong <= NAMED_MAX {
                        named.push(problem);
                    }
                } else if let Err(error) = read_event(row) {
                    unread += 1;
                    first_unread.get_or_insert_with(|| untold_event(row, &error));
                }
            }
            Ok(events)
        };
        let read = read();
        self.findings.problems.append(&mut named);
        if wrong > NAMED_MAX {
            let more = wrong - NAMED_MAX;
            self.problem(format!("and {more} more from row {from} to {to}"));
        }
        if let Some(first) = first_unread {
            self.findings.set_aside.push(format!(
                "{unread} events that this release cannot read; their deliveries wait, lists and exports leave them out, and a newer release may read them; the first is {first}"
            ));
        }
        match read {
            Ok(events) => self.findings.events += events,
            Err(error) => self.unreadable(&format!("events from row {from} to {to}"), &error),
        }
    }

    fn count(&mut self, from: i64, to: i64) {
        let mut counted = [0_u64; 5];
        let count = self
            .connection
            .prepare_cached(
                "SELECT status, count(*) FROM deliveries WHERE event BETWEEN ?1 AND ?2 GROUP BY status
                 UNION ALL SELECT 4, count(*) FROM attempts WHERE event BETWEEN ?1 AND ?2",
            )
            .and_then(|mut statement| {
                let mut found = statement.query([from, to])?;
                while let Some(row) = found.next()? {
                    let (kind, rows): (i64, i64) = (row.get(0)?, row.get(1)?);
                    let known = usize::try_from(kind).ok();
                    if let Some(count) = known.and_then(|kind| counted.get_mut(kind)) {
                        *count = rows.cast_unsigned();
                    }
                }
                Ok(())
            });
        // What cannot be read was told by the laws over the same rows.
        if count.is_ok() {
            for (sum, count) in self.findings.deliveries.iter_mut().zip(counted) {
                *sum += count;
            }
            self.findings.attempts += counted[4];
        }
    }
}

/// An event that is whole but says what this release does not know.
fn untold_event(row: &Row<'_>, error: &rusqlite::Error) -> String {
    let number: i64 = row.get(0).unwrap_or_default();
    let id = row.get(1).map_or(Uuid::nil(), Uuid::from_bytes);
    format!("{id} (row {number}): {}", readable(error))
}

/// What is wrong with an event's row.
fn wrong_event(row: &Row<'_>) -> rusqlite::Result<Option<String>> {
    let number: i64 = row.get(0)?;
    let (Ok(id), Ok(received_at), Ok(print)) = (
        row.get::<_, [u8; 16]>(1),
        row.get::<_, i64>(3),
        row.get::<_, [u8; 16]>(2),
    ) else {
        return Ok(Some(format!("the event in row {number} has no usable id")));
    };
    let id = Uuid::from_bytes(id);
    if Ids::time(id) != received_at {
        return Ok(Some(format!(
            "the id of event {id} (row {number}) does not say when it was received"
        )));
    }
    let same = row
        .get_ref(16)?
        .as_blob()
        .is_ok_and(|body| fingerprint(body) == print);
    Ok((!same).then(|| format!("the body of event {id} (row {number}) is not what was received")))
}

const _: () = assert!(RUNNING == 9_223_372_036_854_775_807, "the laws name it");
