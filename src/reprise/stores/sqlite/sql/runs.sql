-- Statements of the index of runs. `/* rows: n */` stands for as many rows of n values as are bound.

-- name: rows
WITH wanted (id) AS (VALUES /* rows: 1 */)
SELECT r.id, r.workflow, r.status, r.created_at, r.updated_at, r.parent, r.owner, r.due_at, r.build, r.tags,
    r.error, r.ended, r.since, r.generation, r.warning, r.crc
FROM wanted w CROSS JOIN runs r ON r.id = w.id

-- name: insert
INSERT INTO runs (id, workflow, status, created_at, updated_at, parent, owner, due_at, build, tags, error, ended, since,
    generation, warning, crc)
VALUES /* rows: 16 */

-- name: update
-- What changes while a run lives: leaves the indices by age, workflow and parent alone, and what changes seldom.
WITH change (id, status, updated_at, owner, due_at, error, ended, crc) AS (VALUES /* rows: 8 */)
UPDATE runs SET status = c.status, updated_at = c.updated_at, owner = c.owner, due_at = c.due_at, error = c.error,
    ended = c.ended, crc = c.crc
FROM change c WHERE runs.id = c.id

-- name: delete
DELETE FROM runs WHERE id = ?

-- name: delete_tags
DELETE FROM run_tags WHERE run = ?

-- name: insert_tags
INSERT INTO run_tags (run, name, value, created_at) VALUES /* rows: 4 */

-- name: insert_error
INSERT INTO run_errors (run, created_at) VALUES (?, ?) RETURNING number

-- name: insert_words
INSERT INTO error_words (rowid, words) VALUES (?, ?)

-- name: delete_error
DELETE FROM run_errors WHERE run = ? RETURNING number

-- name: delete_words
-- The words must be those that were inserted.
INSERT INTO error_words (error_words, rowid, words) VALUES ('delete', ?, ?)

-- name: select
-- Followed by conditions, then an order. The token is that of the run's stream.
SELECT r.id, r.workflow, r.status, r.created_at, r.updated_at, r.parent, r.owner, r.due_at, r.build, r.tags,
    r.error, r.ended, r.since, r.generation, r.warning, r.crc, s.token
FROM runs r LEFT JOIN streams s ON s.name = 'run/' || r.id
WHERE 1

-- name: due
AND r.ended = 0 AND r.due_at IS NOT NULL AND r.due_at <= :now AND (r.owner IS NULL OR r.owner = :owner)
AND (:workflows IS NULL OR r.workflow IN (SELECT value FROM json_each(:workflows)))
ORDER BY r.due_at, r.id LIMIT :limit

-- name: orphans
AND r.ended = 0 AND r.owner IS NOT NULL AND r.owner = :owner
AND (:workflows IS NULL OR r.workflow IN (SELECT value FROM json_each(:workflows)))
ORDER BY r.due_at, r.id LIMIT :limit
