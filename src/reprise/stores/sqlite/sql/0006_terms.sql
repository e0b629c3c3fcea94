-- On what terms a worker may take a run. Only runs that start under a limit, or that some build could not replay, have
-- a row; it goes when the run ends.
--
-- `slots` and `refused` are JSON: [[limit, key, most, period], …] and [build, …]. `in_line` = 1: it waits for its places,
-- in the order of the runs' creation. Taken places are rows of `leases`, `slot/…` and `rate/…`, held by the run.
CREATE TABLE terms (
    run TEXT PRIMARY KEY,
    slots TEXT NOT NULL,
    in_line INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    refused TEXT NOT NULL,
    crc INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX terms_in_line ON terms (slots, created_at, run) WHERE in_line = 1;
