-- Statements of the index of runs. `:name` stands for a value; Python numbers them.

-- name: select
-- Followed by conditions, then an order.
SELECT r.*, m.slots, m.in_line, m.refused, m.pinned, (SELECT s.token FROM streams s WHERE s.name = 'run/' || r.id) AS token
FROM runs r LEFT JOIN terms m ON m.run = r.id WHERE true

-- name: select_in_line
-- The same, walked by the line in which runs wait for places.
SELECT r.*, m.slots, m.in_line, m.refused, m.pinned, (SELECT s.token FROM streams s WHERE s.name = 'run/' || r.id) AS token
FROM terms m JOIN runs r ON r.id = m.run WHERE m.in_line AND m.line = md5((wanted.slots::jsonb)::text)

-- name: each_line
SELECT page.* FROM unnest(:lines::text[], :asked::bigint[]) AS wanted (slots, asked) CROSS JOIN LATERAL (/* page */) AS page
ORDER BY page.created_at, page.id LIMIT :limit

-- name: owners
-- From each owner a jump to the next, by the index of owned runs.
WITH RECURSIVE owners (name) AS (
    (SELECT owner FROM runs WHERE owner IS NOT NULL ORDER BY owner LIMIT 1)
    UNION ALL
    SELECT (SELECT r.owner FROM runs r WHERE r.owner > o.name ORDER BY r.owner LIMIT 1)
    FROM owners o WHERE o.name IS NOT NULL
)
SELECT name FROM owners WHERE name IS NOT NULL

-- name: due
AND NOT r.ended AND r.due_at <= :now AND (r.owner IS NULL OR r.owner = :owner)

-- name: orphans
AND NOT r.ended AND r.owner = ANY(:dead::text[])

-- name: of_workflows
AND r.workflow = ANY(:workflows::text[])

-- name: of_builds
-- What the asker holds itself is its own business.
AND (r.owner = :owner OR (r.build <> ALL(:shunned::text[]) AND NOT coalesce(m.refused ? :build, false)
    AND coalesce(m.pinned, '') IN ('', :build)))

-- name: soonest
ORDER BY r.due_at, r.id LIMIT :limit

-- name: longest_left
ORDER BY coalesce(r.due_at, 0), r.id LIMIT :limit

-- name: abreast
ORDER BY m.created_at, m.run LIMIT wanted.asked

-- name: lines
-- One step of the index for each line, however many runs wait in it.
WITH RECURSIVE found AS (
    (SELECT line, slots, created_at FROM terms WHERE in_line ORDER BY line, created_at, run LIMIT 1)
    UNION ALL
    SELECT next.* FROM found CROSS JOIN LATERAL (
        SELECT t.line, t.slots, t.created_at FROM terms t WHERE t.in_line AND t.line > found.line
        ORDER BY t.line, t.created_at, t.run LIMIT 1
    ) AS next
)
SELECT slots, created_at FROM found

-- name: fills
-- How many hold a lease, and after how long the first of them ends by itself.
SELECT name, count(*) AS taken,
    CASE min(expires_at) WHEN 4611686018427387904 THEN 0 ELSE min(expires_at) - now_us() END AS free_in
FROM leases WHERE name = ANY(:leases::text[]) AND expires_at > now_us()
GROUP BY name

-- name: mark
SELECT mark_run($1, $2)

-- name: errors_to_index
-- Of runs that an older Reprise has written.
SELECT id, error FROM runs r WHERE error <> '' AND NOT EXISTS (SELECT FROM run_errors e WHERE e.run = r.id)

-- name: tags_to_index
SELECT id, tags FROM runs r WHERE tags <> '{}' AND NOT EXISTS (SELECT FROM run_tags t WHERE t.run = r.id)

-- name: index
SELECT index_runs($1::text::jsonb)
