-- Statements of the index of runs. `:name` stands for a value; Python numbers them.

-- name: select
-- Followed by conditions, then an order.
SELECT r.*, (SELECT s.token FROM streams s WHERE s.name = 'run/' || r.id) AS token
FROM runs r WHERE true

-- name: due
AND NOT r.ended AND r.due_at <= :now AND (r.owner IS NULL OR r.owner = :owner)
AND (:workflows::text[] IS NULL OR r.workflow = ANY(:workflows))
ORDER BY r.due_at, r.id LIMIT :limit

-- name: orphans
AND NOT r.ended AND r.owner = ANY(:dead::text[])
AND (:workflows::text[] IS NULL OR r.workflow = ANY(:workflows))
ORDER BY coalesce(r.due_at, 0), r.id LIMIT :limit

-- name: mark
SELECT mark_run($1, $2)

-- name: errors_to_index
-- Of runs that an older Reprise has written.
SELECT id, error FROM runs r WHERE error <> '' AND NOT EXISTS (SELECT FROM run_errors e WHERE e.run = r.id)

-- name: tags_to_index
SELECT id, tags FROM runs r WHERE tags <> '{}' AND NOT EXISTS (SELECT FROM run_tags t WHERE t.run = r.id)

-- name: index
SELECT index_runs($1::text::jsonb)
