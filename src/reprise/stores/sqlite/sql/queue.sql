-- Statements of queues. `/* rows: n */` stands for as many rows of n values as are bound.

-- name: select
-- Followed by one of the conditions below. `place = …` is spelled out so that the index of that place is used.
SELECT number, queue, id, data, rank, due_at, state, claims, token, worker, until, note, offered_at, place, later_at,
    outcome, level, ended_at, crc
FROM tasks

-- name: where_id
WHERE queue = ? AND id = ?

-- name: where_claimable
WHERE queue = ? AND place = 1 ORDER BY rank, number LIMIT ?

-- name: where_later
WHERE queue = ? AND place = 2 AND later_at <= ? LIMIT ?

-- name: where_any
WHERE queue = ?1 AND ?2 = ?2 ORDER BY rank, number LIMIT ?3

-- name: where_ready
WHERE queue = ?1 AND place = 1 AND state = 'ready' AND ?2 = ?2 ORDER BY rank, number LIMIT ?3

-- name: where_due
-- Ready, and it is not said yet that it may be claimed.
WHERE queue = ?1 AND place = 2 AND later_at <= ?2 AND state = 'ready' ORDER BY rank, number LIMIT ?3

-- name: where_not_due
WHERE queue = ?1 AND place = 2 AND later_at > ?2 AND state = 'ready' ORDER BY later_at, number LIMIT ?3

-- name: where_claimed
WHERE queue = ?1 AND place = 2 AND state = 'claimed' AND ?2 = ?2 ORDER BY later_at, number LIMIT ?3

-- name: where_claim_ended
WHERE queue = ?1 AND place = 1 AND state = 'claimed' AND ?2 = ?2 ORDER BY later_at, number LIMIT ?3

-- name: where_done
WHERE queue = ?1 AND place = 0 AND state = 'done' AND (until = 0 OR until > ?2) ORDER BY ended_at, number LIMIT ?3

-- name: where_dead
WHERE queue = ?1 AND place = 0 AND state = 'dead' AND (until = 0 OR until > ?2) ORDER BY ended_at, number LIMIT ?3

-- name: insert
INSERT INTO tasks (number, queue, id, data, rank, due_at, state, claims, token, worker, until, note, offered_at, place,
    later_at, outcome, level, ended_at, crc)
VALUES /* rows: 19 */

-- name: update
-- What is done has no more to be done.
WITH change (number, rank, due_at, state, claims, token, worker, until, note, place, later_at, outcome, ended_at, crc)
    AS (VALUES /* rows: 14 */)
UPDATE tasks SET rank = c.rank, due_at = c.due_at, state = c.state, claims = c.claims, token = c.token,
    worker = c.worker, until = c.until, note = c.note, place = c.place, later_at = c.later_at, outcome = c.outcome,
    ended_at = c.ended_at, crc = c.crc, data = CASE c.state WHEN 'done' THEN x'' ELSE data END
FROM change c WHERE tasks.number = c.number

-- name: delete
DELETE FROM tasks WHERE number = ?

-- name: sweep
DELETE FROM tasks WHERE number IN (
    SELECT number FROM tasks
    WHERE queue = ?1 AND place = 0 AND state IN ('done', 'dead') AND until > 0 AND until <= ?2 LIMIT ?3)
RETURNING 1

-- name: last_number
-- AUTOINCREMENT keeps it over deletions.
SELECT ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'tasks'), 0)

-- name: names
-- From each name to the next by the index, however many tasks they have.
WITH RECURSIVE names (name) AS (
    SELECT min(queue) FROM tasks
    UNION ALL SELECT (SELECT min(queue) FROM tasks WHERE queue > name) FROM names WHERE name IS NOT NULL)
SELECT name FROM names WHERE name IS NOT NULL

-- name: line
SELECT queue, paused, finished, failed, crc FROM lines WHERE queue = ?

-- name: set_line
INSERT OR REPLACE INTO lines (queue, paused, finished, failed, crc) VALUES (?, ?, ?, ?, ?)

-- name: is_claimable
SELECT EXISTS (SELECT 1 FROM tasks WHERE queue = ? AND place = 1)

-- name: first_later
SELECT min(later_at) FROM tasks WHERE queue = ? AND place = 2

-- name: count
-- As (state by which it is found, level, how many, the first that was offered).
SELECT state, level, count(*), min(number) FROM tasks WHERE queue = ?1 AND place = 1 GROUP BY state, level
UNION ALL
SELECT iif(state = 'ready' AND later_at > ?2, 'later', state) AS shown, level, count(*), min(number)
FROM tasks WHERE queue = ?1 AND place = 2 GROUP BY shown, level
UNION ALL
SELECT state, 0, count(*), 0
FROM tasks WHERE queue = ?1 AND place = 0 AND (until = 0 OR until > ?2) GROUP BY state

-- name: waits_since
SELECT max(offered_at, due_at) FROM tasks WHERE number = ?
