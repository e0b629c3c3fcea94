-- Statements of the index of runs. `/* rows: n */` stands for as many rows of n values as are bound.

-- name: rows
WITH wanted (id) AS (VALUES /* rows: 1 */)
SELECT r.id, r.workflow, r.status, r.created_at, r.updated_at, r.parent, r.owner, r.due_at, r.build, r.tags,
    r.error, r.ended, r.since, r.generation, r.warning, r.crc, m.run, m.slots, m.in_line, m.created_at, m.refused,
    m.pinned, m.crc
FROM wanted w CROSS JOIN runs r ON r.id = w.id LEFT JOIN terms m ON m.run = r.id

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
    r.error, r.ended, r.since, r.generation, r.warning, r.crc, m.run, m.slots, m.in_line, m.created_at, m.refused,
    m.pinned, m.crc, s.token
FROM runs r LEFT JOIN streams s ON s.name = 'run/' || r.id LEFT JOIN terms m ON m.run = r.id
WHERE 1

-- name: select_in_line
-- The same, walked by the line in which runs wait for places.
SELECT r.id, r.workflow, r.status, r.created_at, r.updated_at, r.parent, r.owner, r.due_at, r.build, r.tags,
    r.error, r.ended, r.since, r.generation, r.warning, r.crc, m.run, m.slots, m.in_line, m.created_at, m.refused,
    m.pinned, m.crc, s.token
FROM terms m CROSS JOIN runs r ON r.id = m.run LEFT JOIN streams s ON s.name = 'run/' || r.id
WHERE m.in_line = 1 AND m.slots = :slots

-- name: owners
-- From each owner a jump to the next, by the index of owned runs.
WITH RECURSIVE owners (name) AS (
    SELECT min(owner) FROM runs WHERE owner IS NOT NULL
    UNION ALL
    SELECT (SELECT min(r.owner) FROM runs r WHERE r.owner > o.name) FROM owners o WHERE o.name IS NOT NULL
)
SELECT name FROM owners WHERE name IS NOT NULL

-- name: due
AND r.ended = 0 AND r.due_at IS NOT NULL AND r.due_at <= :now AND (r.owner IS NULL OR r.owner = :owner)

-- name: orphans
AND r.ended = 0 AND r.owner IS NOT NULL AND r.owner = :owner

-- name: of_workflows
AND r.workflow IN (SELECT value FROM json_each(:workflows))

-- name: of_builds
-- What the asker holds itself is its own business.
AND (r.owner = :me OR (
    r.build NOT IN (SELECT value FROM json_each(:shunned))
    AND NOT EXISTS (SELECT 1 FROM json_each(m.refused) WHERE value = :build)
    AND (m.pinned IS NULL OR m.pinned = :build)
))

-- name: soonest
ORDER BY r.due_at, r.id LIMIT :limit

-- name: abreast
ORDER BY m.created_at, m.run LIMIT :asked
