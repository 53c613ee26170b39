-- Version 1. Times are UNIX milliseconds, UTC. Migrations only add, so that
-- the release before can still open the file (`meta.oldest_reader`).

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;

-- Every start of the service is a worker; what is running belongs to one.
CREATE TABLE workers (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    started_at INTEGER NOT NULL
);

-- Every handler name that was ever configured. removed_at is set while it is
-- not; returned_at is the start at which it last came back.
CREATE TABLE handlers (
    name        TEXT PRIMARY KEY,
    removed_at  INTEGER,
    returned_at INTEGER
) WITHOUT ROWID;

-- Append-only: an update of a row would rewrite its body. The body stands
-- last, so that the columns before it are read without its overflow pages.
CREATE TABLE events (
    row         INTEGER PRIMARY KEY,
    id          BLOB    NOT NULL,  -- UUIDv7; grows with row
    fingerprint BLOB    NOT NULL,  -- first 16 bytes of the body's SHA-256
    received_at INTEGER NOT NULL,
    source      TEXT    NOT NULL,
    type        TEXT    NOT NULL,
    outcome     TEXT    NOT NULL,
    event_time  TEXT,
    user_id     TEXT,
    media_id    TEXT,
    job_id      TEXT,
    verified    TEXT    NOT NULL,  -- JSON
    query       TEXT,
    headers     TEXT,              -- JSON list of pairs, NULL where empty
    peer        TEXT,
    notes       TEXT,              -- JSON list, NULL where empty
    body        BLOB    NOT NULL
);

-- Serves look-ups by id and, as it grows in the order of time, the rebuilding
-- of the duplicate window and the search for what is past its retention: both
-- read this narrow index and no body.
CREATE UNIQUE INDEX events_by_id ON events (id, fingerprint);

-- How often a body came again; apart from events, which is never updated.
CREATE TABLE duplicates (
    event INTEGER PRIMARY KEY,
    count INTEGER NOT NULL
);

CREATE TABLE deliveries (
    event    INTEGER NOT NULL,
    handler  TEXT    NOT NULL,
    status   INTEGER NOT NULL,  -- 0 pending, 1 running, 2 succeeded, 3 dead
    attempts INTEGER NOT NULL,  -- the highest attempt number so far
    failed   INTEGER NOT NULL,  -- failed attempts of this round
    lost     INTEGER NOT NULL,  -- attempts lost in a row
    worker   INTEGER,           -- who has it, while running
    due      INTEGER,           -- when it is tried next; the largest integer while running, NULL once final
    taken_at INTEGER,           -- when the current or last attempt was handed over
    age_from INTEGER,           -- when it was redelivered
    reason   TEXT,
    PRIMARY KEY (event, handler)
) WITHOUT ROWID;

-- What is unfinished: small, since finished rows leave it.
CREATE INDEX deliveries_open ON deliveries (handler, due) WHERE due IS NOT NULL;
CREATE INDEX deliveries_dead ON deliveries (handler) WHERE status = 3;

CREATE TABLE attempts (
    event      INTEGER NOT NULL,
    handler    TEXT    NOT NULL,
    attempt    INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER,
    result     INTEGER NOT NULL,  -- 0 succeeded, 1 failed, 2 stopped, 3 lost
    reason     TEXT,
    report     TEXT,              -- JSON
    PRIMARY KEY (event, handler, attempt)
) WITHOUT ROWID;
