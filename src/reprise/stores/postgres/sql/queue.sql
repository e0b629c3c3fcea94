-- name: offer
SELECT offer_tasks($1, $2, $3, $4, $5)

-- name: claim
SELECT * FROM claim_tasks($1, $2, $3, $4) ORDER BY rank, number

-- name: extend
UPDATE tasks SET until = now_us() + $4, later_at = now_us() + $4, place = 2
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS c (queue, id, token)
WHERE tasks.queue = c.queue AND tasks.id = c.id AND tasks.token = c.token AND state = 'claimed'
RETURNING tasks.*

-- A claim is settled once. $7 = an earlier attempt may have been the one, so its traces are an answer too.
-- name: settle
WITH settled AS (
    UPDATE tasks SET state = $4, due_at = coalesce(nullif($5::bigint, 0), due_at), note = $6, worker = '', until = 0,
        later_at = coalesce(nullif($5, 0), due_at),
        place = place_of($4, coalesce(nullif($5, 0), due_at), now_us())
    WHERE queue = $1 AND id = $2 AND token = $3 AND state = 'claimed'
    RETURNING 1
)
SELECT EXISTS (SELECT FROM settled) OR ($7::boolean AND EXISTS (
    SELECT FROM tasks WHERE queue = $1 AND id = $2 AND token = $3 AND state = $4 AND note = $6
))

-- name: forget_done
DELETE FROM tasks WHERE number IN (
    SELECT number FROM tasks WHERE queue = $1 AND state = 'done' ORDER BY number DESC OFFSET $2
)

-- name: find
SELECT * FROM tasks WHERE queue = $1 ORDER BY rank, number LIMIT $2

-- name: find_state
SELECT * FROM tasks WHERE queue = $1 AND state = $3 ORDER BY rank, number LIMIT $2

-- name: change
UPDATE tasks SET rank = coalesce($3, rank), due_at = coalesce($4, due_at), state = coalesce($5, state),
    later_at = coalesce($4, due_at), place = place_of(coalesce($5, state), coalesce($4, due_at), now_us())
WHERE queue = $1 AND id = ANY($2::text[]) AND state <> 'claimed'
RETURNING 1

-- From each name to the next by the index, however many tasks they have.
-- name: names
WITH RECURSIVE names (name) AS (
    SELECT min(queue) FROM tasks
    UNION ALL SELECT (SELECT min(queue) FROM tasks WHERE queue > name) FROM names WHERE name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL

-- name: counts
SELECT state, count(*), now_us() - min(offered_at) AS age FROM tasks WHERE queue = $1 GROUP BY state
