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
DELETE FROM run_tags WHERE created_at = ? AND run = ? AND name = ? AND value = ?

-- name: insert_tags
INSERT INTO run_tags (name, value, created_at, run) VALUES /* rows: 4 */

-- name: select
-- Followed by conditions, then an order. The token is that of the run's stream.
SELECT r.id, r.workflow, r.status, r.created_at, r.updated_at, r.parent, r.owner, r.due_at, r.build, r.tags,
    r.error, r.ended, r.since, r.generation, r.warning, r.crc, s.token
FROM runs r LEFT JOIN streams s ON s.name = 'run/' || r.id
WHERE 1

-- name: select_tagged
-- The same, walked by the tag that was named first.
SELECT r.id, r.workflow, r.status, r.created_at, r.updated_at, r.parent, r.owner, r.due_at, r.build, r.tags,
    r.error, r.ended, r.since, r.generation, r.warning, r.crc, s.token
FROM run_tags t CROSS JOIN runs r ON r.id = t.run LEFT JOIN streams s ON s.name = 'run/' || r.id
WHERE t.name = :tag0 AND t.value = :value0

-- name: count_status
SELECT r.status, count(*) FROM runs r WHERE 1

-- name: count_workflow
SELECT r.workflow, count(*) FROM runs r WHERE 1

-- name: count_owner
SELECT ifnull(r.owner, ''), count(*) FROM runs r WHERE 1

-- name: where_prefix
-- A range of the primary key: no character follows U+10FFFF.
AND r.id >= :prefix AND r.id < :prefix || char(1114111)

-- name: where_status
AND r.status = :status

-- name: where_workflow
AND r.workflow = :workflow

-- name: where_parent
AND r.parent = :parent

-- name: where_owner
AND r.owner = :owner

-- name: where_created_after
AND r.created_at > :created_after

-- name: where_created_before
AND r.created_at < :created_before

-- name: where_tag
-- `/* n */` is the tag's number.
AND EXISTS (SELECT 1 FROM run_tags x
    WHERE x.name = :tag/* n */ AND x.value = :value/* n */ AND x.created_at = r.created_at AND x.run = r.id)

-- name: where_older
AND (r.created_at, r.id) < (SELECT b.created_at, b.id FROM runs b WHERE b.id = :before)

-- name: where_newer
AND (r.created_at, r.id) > (SELECT b.created_at, b.id FROM runs b WHERE b.id = :before)

-- name: newest_first
ORDER BY r.created_at DESC, r.id DESC LIMIT :limit

-- name: oldest_first
ORDER BY r.created_at, r.id LIMIT :limit

-- name: newest_first_prefix
-- `+`: find the few with the prefix and sort them, instead of walking all runs in order.
ORDER BY +r.created_at DESC, +r.id DESC LIMIT :limit

-- name: oldest_first_prefix
ORDER BY +r.created_at, +r.id LIMIT :limit

-- name: newest_first_tagged
ORDER BY t.created_at DESC, t.run DESC LIMIT :limit

-- name: oldest_first_tagged
ORDER BY t.created_at, t.run LIMIT :limit

-- name: group
GROUP BY 1

-- name: due
AND r.ended = 0 AND r.due_at IS NOT NULL AND r.due_at <= :now AND (r.owner IS NULL OR r.owner = :owner)
AND (:workflows IS NULL OR r.workflow IN (SELECT value FROM json_each(:workflows)))
ORDER BY r.due_at, r.id LIMIT :limit

-- name: orphans
AND r.ended = 0 AND r.owner IS NOT NULL AND r.owner = :owner
AND (:workflows IS NULL OR r.workflow IN (SELECT value FROM json_each(:workflows)))
ORDER BY r.due_at, r.id LIMIT :limit
