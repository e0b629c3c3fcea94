-- name: offer
SELECT queue, id FROM offer_tasks($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: claim
SELECT * FROM claim_tasks($1, $2, $3, $4) ORDER BY rank, number

-- name: due
SELECT CASE
    WHEN EXISTS (SELECT FROM resting WHERE queue = $1) THEN NULL
    WHEN EXISTS (SELECT FROM tasks WHERE queue = $1 AND place = 1) THEN 0
    ELSE (SELECT min(later_at) - now_us() FROM tasks WHERE queue = $1 AND place = 2)
END

-- name: extend
UPDATE tasks SET until = now_us() + $4, later_at = now_us() + $4, place = 2
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS c (queue, id, token)
WHERE tasks.queue = c.queue AND tasks.id = c.id AND tasks.token = c.token AND state = 'claimed'
RETURNING tasks.*

-- name: settle
SELECT settle_tasks($1, $2, $3, $4, $5, $6, $7, $8) AS n

-- The numbers of those of which an earlier attempt has left the traces: the claim ended so, or the task is not there.
-- name: traces
SELECT s.n FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[]) WITH ORDINALITY
    AS s (queue, id, token, state, note, n)
LEFT JOIN tasks ON tasks.queue = s.queue AND tasks.id = s.id
WHERE CASE s.state
    WHEN 'gone' THEN tasks.id IS NULL
    ELSE tasks.token = s.token AND tasks.note = s.note
        AND tasks.state = CASE s.state WHEN 'back' THEN 'ready' ELSE s.state END
END

-- name: find
SELECT * FROM tasks WHERE queue = $1 AND NOT is_over(state, until, now_us()) ORDER BY rank, number LIMIT $2::bigint OFFSET $3::bigint

-- What may be claimed, and what is due without that anybody has said so yet.
-- name: find_ready
(SELECT * FROM tasks WHERE queue = $1 AND place = 1 AND state = 'ready' ORDER BY rank, number LIMIT $2::bigint + $3::bigint)
UNION ALL
(
    SELECT * FROM tasks WHERE queue = $1 AND place = 2 AND later_at <= now_us() AND state = 'ready'
    ORDER BY rank, number LIMIT $2::bigint + $3::bigint
)
ORDER BY rank, number LIMIT $2::bigint OFFSET $3::bigint

-- name: find_later
SELECT * FROM tasks WHERE queue = $1 AND place = 2 AND later_at > now_us() AND state = 'ready'
ORDER BY later_at, number LIMIT $2::bigint OFFSET $3::bigint

-- name: find_claimed
SELECT * FROM tasks WHERE queue = $1 AND state = 'claimed' ORDER BY until, number LIMIT $2::bigint OFFSET $3::bigint

-- name: find_done
SELECT * FROM tasks WHERE queue = $1 AND place = 0 AND state = 'done' AND (until = 0 OR until > now_us())
ORDER BY ended_at, number LIMIT $2::bigint OFFSET $3::bigint

-- name: find_dead
SELECT * FROM tasks WHERE queue = $1 AND place = 0 AND state = 'dead' AND (until = 0 OR until > now_us())
ORDER BY ended_at, number LIMIT $2::bigint OFFSET $3::bigint

-- name: find_ids
SELECT *, now_us() AS now FROM tasks WHERE queue = $1 AND id = ANY($2::text[])

-- name: change
UPDATE tasks SET rank = coalesce($3, rank), due_at = coalesce($4, due_at), state = coalesce($5, state),
    later_at = coalesce($4, due_at), place = place_of(coalesce($5, state), coalesce($4, due_at), now_us()),
    claims = CASE $5 WHEN 'ready' THEN 0 ELSE claims END,
    until = CASE WHEN $5 IS NULL THEN until ELSE 0 END,
    ended_at = CASE $5 WHEN 'ready' THEN 0 WHEN 'dead' THEN now_us() ELSE ended_at END
WHERE queue = $1 AND id = ANY($2::text[]) AND state IN ('ready', 'dead') AND NOT is_over(state, until, now_us())
RETURNING 1

-- name: remove
DELETE FROM tasks
WHERE queue = $1 AND id = ANY($2::text[]) AND state <> 'claimed' AND NOT is_over(state, until, now_us())
RETURNING 1

-- name: pause
INSERT INTO resting VALUES ($1) ON CONFLICT DO NOTHING

-- name: resume
DELETE FROM resting WHERE queue = $1

-- From each name to the next by the index, however many tasks they have.
-- name: names
WITH RECURSIVE names (name) AS (
    SELECT min(queue) FROM tasks
    UNION ALL SELECT (SELECT min(queue) FROM tasks WHERE queue > name) FROM names WHERE name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL

-- Counts of tasks, each beside what is said of the whole queue; one row without a count where there are none.
-- name: stats
SELECT ends.*, counts.* FROM (
    SELECT EXISTS (SELECT FROM resting WHERE queue = $1) AS paused, coalesce(sum(finished), 0)::bigint AS finished,
        coalesce(sum(failed), 0)::bigint AS failed
    FROM tallies WHERE queue = $1
) AS ends
LEFT JOIN (
    SELECT CASE WHEN state = 'ready' AND due_at > now_us() THEN 'later' ELSE state END AS shown, level, count(*),
        now_us() - min(greatest(offered_at, due_at)) AS age
    FROM tasks WHERE queue = $1 AND NOT is_over(state, until, now_us()) GROUP BY shown, level
) AS counts ON true

-- name: sweep
DELETE FROM tasks WHERE number IN (
    SELECT number FROM tasks WHERE queue = $1 AND place = 0 AND is_over(state, until, now_us()) LIMIT $2
    FOR UPDATE SKIP LOCKED
)
RETURNING 1
