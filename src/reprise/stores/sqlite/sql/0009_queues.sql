-- What is left of a task when it has ended, and for how long; queues that rest; what went through them.

-- In the checksum's row the three stand after `later_at`. `until` is also the end of keeping what has ended, 0 = never.
-- What was done before had no promise to be kept.
DELETE FROM tasks WHERE state = 'done';
ALTER TABLE tasks ADD COLUMN outcome BLOB NOT NULL DEFAULT x'';
ALTER TABLE tasks ADD COLUMN level INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN ended_at INTEGER NOT NULL DEFAULT 0;
UPDATE tasks SET ended_at = offered_at WHERE state = 'dead';
UPDATE tasks SET crc = seal(number, queue, id, data, rank, due_at, state, claims, token, worker, until, note, offered_at,
    place, later_at, outcome, level, ended_at);

-- Each row is in one of these. They carry what is counted, so that counting reads them alone.
DROP INDEX tasks_by_state;
DROP INDEX tasks_claimable;
DROP INDEX tasks_later;
CREATE INDEX tasks_claimable ON tasks (queue, rank, number, state, level) WHERE place = 1;
CREATE INDEX tasks_later ON tasks (queue, later_at, state, level) WHERE place = 2;
CREATE INDEX tasks_ended ON tasks (queue, state, ended_at, number, until) WHERE place = 0;

-- `finished`, `failed`: claims that ended so, ever.
CREATE TABLE lines (
    queue TEXT PRIMARY KEY,
    paused INTEGER NOT NULL,
    finished INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    crc INTEGER NOT NULL
) WITHOUT ROWID;
