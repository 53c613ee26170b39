-- The search index, version 1. Everything in it is read out of the store and
-- can be read out of it again, so there are no migrations: a file of another
-- version is built anew.

-- `boot` is the start of the machine in which the file was last written to,
-- `clean` whether it was closed in good order, `newest` the largest id so far.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;

-- The last row of each segment that was read, with the id of its event: proof
-- that this is the index of that store, and how far it has come.
CREATE TABLE marks (
    segment INTEGER PRIMARY KEY,
    row     INTEGER NOT NULL,
    id      BLOB    NOT NULL
);

-- Which combinations there are. One whose type is '' stands for all the types
-- that came after there were too many.
CREATE TABLE kinds (
    kind    INTEGER PRIMARY KEY,
    source  TEXT    NOT NULL,
    type    TEXT    NOT NULL,
    outcome TEXT    NOT NULL,
    events  INTEGER NOT NULL,
    UNIQUE (source, type, outcome)
);

CREATE TABLE by_kind (
    kind INTEGER NOT NULL,
    id   BLOB    NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;

-- Hashes of media and job ids. They are scattered, so each segment of rows has
-- a tree of its own, small enough that a batch changes few pages.
CREATE TABLE by_key (
    segment INTEGER NOT NULL,
    hash    INTEGER NOT NULL,
    id      BLOB    NOT NULL,
    PRIMARY KEY (segment, hash, id)
) WITHOUT ROWID;

-- Events whose id is smaller than that of an event in an earlier row: put back
-- from another store.
CREATE TABLE strays (
    id BLOB PRIMARY KEY
) WITHOUT ROWID;

CREATE TABLE minutes (
    minute INTEGER NOT NULL,  -- since 1970
    kind   INTEGER NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (minute, kind)
) WITHOUT ROWID;
