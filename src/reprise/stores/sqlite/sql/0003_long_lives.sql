-- Runs that live long: they go on under the same id with a fresh history, and what is old of their stream may go.

-- Up to which version a stream was trimmed. No row for one that never was.
CREATE TABLE trims (
    stream INTEGER PRIMARY KEY,
    through INTEGER NOT NULL,
    crc INTEGER NOT NULL
);

-- `since`: version after which replay reads. `generation`: how often the run has gone on as a new one.
-- `warning`: what somebody should know of it. In the checksum's row the three stand after `ended`.
ALTER TABLE runs ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN warning TEXT NOT NULL DEFAULT '';
UPDATE runs SET crc = seal(id, workflow, status, created_at, updated_at, parent, owner, due_at, build, tags, error,
    ended, since, generation, warning);
