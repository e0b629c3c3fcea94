-- Cells: values with versions that change together, and the feeds of what changed. Every row ends with its checksum.

-- `head` is the position of the newest entry of the feed, `kept_after` that of the newest one that was forgotten.
CREATE TABLE spaces (
    space TEXT PRIMARY KEY,
    head INTEGER NOT NULL,
    kept_after INTEGER NOT NULL,
    crc INTEGER NOT NULL
) WITHOUT ROWID;

-- `version` is the position of the entry that made it; `expires_at` 0 = it does not end.
CREATE TABLE cells (
    space TEXT NOT NULL,
    name TEXT NOT NULL,
    data BLOB NOT NULL,
    version INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    PRIMARY KEY (space, name)
);
CREATE INDEX cells_ending ON cells (space, expires_at) WHERE expires_at > 0;

-- `data` NULL = it was removed.
CREATE TABLE cell_changes (
    space TEXT NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    data BLOB,
    expires_at INTEGER NOT NULL,
    origin TEXT NOT NULL,
    at INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    PRIMARY KEY (space, position)
);
