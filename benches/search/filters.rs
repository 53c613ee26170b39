//! The searches: each kind with values that are there, no two the same where
//! there is a choice.

use rusqlite::{Connection, params};

use crate::generate::{RARE_TYPE, WORDS_EVERY};

/// One kind of search.
pub struct Filter {
    pub name: &'static str,
    pub paths: Vec<String>,
    /// Events on a first page, on average at least.
    pub at_least: u64,
}

/// Events of the store, spread over all of it.
pub struct Sample {
    id: String,
    media_id: String,
    job_id: String,
    event_type: String,
    at: i64,
}

/// Takes `count` of them.
pub fn samples(store: &Connection, count: u64) -> anyhow::Result<Vec<Sample>> {
    let last: i64 = store.query_row("SELECT max(row) FROM events", [], |row| row.get(0))?;
    let mut statement = store.prepare(
        "SELECT id, media_id, job_id, type, received_at FROM events
         WHERE row >= ?1 AND media_id IS NOT NULL AND job_id IS NOT NULL LIMIT 1",
    )?;
    let mut samples = Vec::new();
    for n in 0..count as i64 {
        let at = 1 + (last - 100) / (count as i64) * n;
        samples.push(statement.query_row(params![at], |row| {
            Ok(Sample {
                id: uuid::Uuid::from_bytes(row.get(0)?).to_string(),
                media_id: row.get(1)?,
                job_id: row.get(2)?,
                event_type: row.get(3)?,
                at: row.get(4)?,
            })
        })?);
    }
    Ok(samples)
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| at.to_string())
}

/// Every kind of search.
pub fn all(samples: &[Sample]) -> Vec<Filter> {
    let each = |name, at_least, path: &dyn Fn(&Sample) -> String| Filter {
        name,
        paths: samples.iter().map(path).collect(),
        at_least,
    };
    let find = |name, at_least, query: &str| {
        each(name, at_least, &|_: &Sample| format!("/api/events?{query}"))
    };
    vec![
        each("id", 0, &|s| format!("/api/events/{}", s.id)),
        each("media id", 1, &|s| {
            format!("/api/events?media_id={}", s.media_id)
        }),
        each("job id", 1, &|s| format!("/api/events?job_id={}", s.job_id)),
        each("media id that is nowhere", 0, &|s| {
            format!("/api/events?media_id=not-{}", s.media_id)
        }),
        find("no filter", 50, ""),
        each("type, one of 29", 1, &|s| {
            format!("/api/events?type={}", s.event_type)
        }),
        find("a common type", 50, "type=ProduceMediaComplete"),
        find("a rare type", 1, &format!("type={RARE_TYPE}")),
        find("type glob", 50, "type=Live*"),
        find("type that is nowhere", 0, "type=Unheard*"),
        find("source", 50, "source=partner"),
        find("outcome", 50, "outcome=failed"),
        each("since and until, an hour", 1, &|s| {
            let (since, until) = (time(s.at - 1_800_000), time(s.at + 1_800_000));
            format!("/api/events?since={since}&until={until}")
        }),
        each("until, long ago", 50, &|s| {
            format!("/api/events?until={}", time(s.at.max(0) + 86_400_000))
        }),
        find("status dead", 50, "status=dead"),
        find("status pending", 50, "status=pending"),
        find("status succeeded", 50, "status=succeeded"),
        find("handler and status dead", 50, "handler=cms&status=dead"),
        find(
            "a common type and status dead",
            1,
            "type=ProduceMediaComplete&status=dead",
        ),
        find(
            "a rare type and status dead",
            0,
            &format!("type={RARE_TYPE}&status=dead"),
        ),
        find(
            "source, outcome and glob",
            1,
            "source=partner&outcome=failed&type=*Complete",
        ),
        each("type and an hour", 0, &|s| {
            let (since, until) = (time(s.at - 1_800_000), time(s.at + 1_800_000));
            let event_type = &s.event_type;
            format!("/api/events?type={event_type}&since={since}&until={until}")
        }),
        each("media id and text", 1, &|s| {
            format!("/api/events?media_id={}&q=messagebody", s.media_id)
        }),
        find(
            &*format!("text in one of {WORDS_EVERY} bodies").leak(),
            1,
            "q=unusual",
        ),
        find("text that is nowhere", 0, "q=no+such+text"),
    ]
}

/// A mix for clients that search without pause.
pub fn mixed(samples: &[Sample]) -> Vec<String> {
    let kinds = all(samples);
    (0..samples.len())
        .flat_map(|n| kinds.iter().filter_map(move |kind| kind.paths.get(n)))
        .cloned()
        .collect()
}

/// How many events an answer holds.
pub fn count(answer: &[u8]) -> u64 {
    let answer: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    answer["events"].as_array().map_or(0, Vec::len) as u64
}
