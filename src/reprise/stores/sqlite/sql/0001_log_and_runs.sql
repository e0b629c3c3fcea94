-- The log and the index of runs.
-- Every row ends with `crc`: CRC-32 of the MessagePack of all its other columns, in their order here.

-- Counters of the whole file that no row may ever fall behind: `position` (highest given before a drop), `token`,
-- `epoch` (bumped by a restore), `clock` (latest time the keeper has told), `serial` (counts the transactions that asked
-- for the time, so that one of unknown outcome can be recognised).
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

-- One row per stream, so that a record names its stream by a small number. Not written by every append: a stream's
-- version is the highest in `records`; here stands the version when the row was last written (start, take-over, end,
-- and now and then), below which no record may be missing.
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    version INTEGER NOT NULL,
    token INTEGER NOT NULL,
    closed INTEGER NOT NULL,
    crc INTEGER NOT NULL
);

-- The log. Positions are given by the writer under the turnstile and never used again.
CREATE TABLE records (
    position INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    version INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    at INTEGER NOT NULL,
    key TEXT NOT NULL,
    data BLOB NOT NULL,
    print INTEGER NOT NULL,
    took INTEGER NOT NULL,
    append INTEGER NOT NULL,
    crc INTEGER NOT NULL
);
CREATE UNIQUE INDEX records_by_stream ON records (stream, version);

-- The index of runs, written in the transaction of the append that changes it. `ended` = the run's stream is closed.
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    workflow TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    parent TEXT,
    owner TEXT,
    due_at INTEGER,
    build TEXT NOT NULL,
    tags TEXT NOT NULL,
    error TEXT NOT NULL,
    ended INTEGER NOT NULL,
    crc INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX runs_by_age ON runs (created_at, id);
CREATE INDEX runs_by_status ON runs (status, created_at, id);
CREATE INDEX runs_by_workflow ON runs (workflow, created_at, id);
CREATE INDEX runs_by_parent ON runs (parent, created_at, id) WHERE parent IS NOT NULL;
CREATE INDEX runs_by_owner ON runs (owner, created_at, id) WHERE owner IS NOT NULL;
CREATE INDEX runs_due ON runs (due_at, id) WHERE due_at IS NOT NULL AND ended = 0;

-- Tags of runs, ordered so that a page of the newest with one tag is one walk.
CREATE TABLE run_tags (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    run TEXT NOT NULL,
    PRIMARY KEY (name, value, created_at, run)
) WITHOUT ROWID;
