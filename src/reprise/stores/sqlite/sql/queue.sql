-- Statements of queues. `/* rows: n */` stands for as many rows of n values as are bound.

-- name: select
-- Followed by one of the conditions below.
SELECT number, queue, id, data, rank, due_at, state, claims, token, worker, until, note, offered_at, place, later_at,
    crc
FROM tasks

-- name: where_id
WHERE queue = ? AND id = ?

-- name: where_claimable
-- `place = 1` is spelled out so that the index of claimable tasks is used, which has the order.
WHERE queue = ? AND place = 1 ORDER BY rank, number LIMIT ?

-- name: where_later
WHERE queue = ? AND place = 2 AND later_at <= ? LIMIT ?

-- name: where_queue
WHERE queue = ? ORDER BY rank, number LIMIT ?

-- name: where_state
WHERE queue = ? AND state = ? ORDER BY rank, number LIMIT ?

-- name: insert
INSERT INTO tasks (number, queue, id, data, rank, due_at, state, claims, token, worker, until, note, offered_at, place,
    later_at, crc)
VALUES /* rows: 16 */

-- name: update
WITH change (number, rank, due_at, state, claims, token, worker, until, note, place, later_at, crc)
    AS (VALUES /* rows: 12 */)
UPDATE tasks SET rank = c.rank, due_at = c.due_at, state = c.state, claims = c.claims, token = c.token,
    worker = c.worker, until = c.until, note = c.note, place = c.place, later_at = c.later_at, crc = c.crc
FROM change c WHERE tasks.number = c.number

-- name: delete
DELETE FROM tasks WHERE number = ?

-- name: last_number
-- AUTOINCREMENT keeps it over deletions.
SELECT ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'tasks'), 0)

-- name: forget_done
DELETE FROM tasks WHERE number IN (
    SELECT number FROM tasks WHERE queue = ? AND state = 'done' ORDER BY number DESC LIMIT -1 OFFSET ?)

-- name: names
-- From each name to the next by the index, however many tasks they have.
WITH RECURSIVE names (name) AS (
    SELECT min(queue) FROM tasks
    UNION ALL SELECT (SELECT min(queue) FROM tasks WHERE queue > name) FROM names WHERE name IS NOT NULL)
SELECT name FROM names WHERE name IS NOT NULL

-- name: counts
SELECT state, count(*), min(number) FROM tasks WHERE queue = ? GROUP BY state

-- name: offered_at
SELECT offered_at FROM tasks WHERE number = ?
