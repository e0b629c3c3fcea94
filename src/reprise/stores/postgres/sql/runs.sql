-- Statements of the index of runs. `:name` stands for a value; Python numbers them.

-- name: select
-- Followed by conditions, then an order.
SELECT r.*, (SELECT s.token FROM streams s WHERE s.name = 'run/' || r.id) AS token
FROM runs r WHERE true

-- name: select_tagged
-- The same, walked by the tag that was named first.
SELECT r.*, (SELECT s.token FROM streams s WHERE s.name = 'run/' || r.id) AS token
FROM run_tags t JOIN runs r ON r.id = t.run
WHERE t.name = :tag0 AND t.value = :value0

-- name: each_status
-- One status at a time: each is a walk of the index in the order asked for, where IN (…) would sort all.
SELECT page.* FROM unnest(:statuses::text[]) AS wanted (status) CROSS JOIN LATERAL (/* page */) AS page
ORDER BY /* order */ LIMIT :limit

-- name: count
-- /* by */ is the column.
SELECT coalesce(r./* by */, '') AS name, count(*) AS number FROM runs r WHERE true

-- name: group
GROUP BY 1

-- name: where_each
AND r.status = wanted.status

-- name: where_status
AND r.status = ANY(:statuses::text[])

-- name: where_prefix
-- A range of the primary key: no character follows U+10FFFF.
AND r.id >= :prefix AND r.id < :prefix || U&'\+10FFFF'

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
AND EXISTS (SELECT FROM run_tags x
    WHERE x.name = :tag/* n */ AND x.value = :value/* n */ AND x.created_at = r.created_at AND x.run = r.id)

-- name: where_older
AND (r.created_at, r.id) < ((SELECT b.created_at FROM runs b WHERE b.id = :before), :before)

-- name: where_newer
AND (r.created_at, r.id) > ((SELECT b.created_at FROM runs b WHERE b.id = :before), :before)

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
