-- name: get
WITH opened AS MATERIALIZED (
    SELECT coalesce((SELECT head FROM spaces WHERE space = $1), 0) AS head, now_us() AS now
)
SELECT o.head, o.now, c.name, c.data, c.version, c.expires_at, c.checksum
FROM opened o LEFT JOIN LATERAL (
    SELECT * FROM cells WHERE space = $1 AND name = ANY($2::text[]) AND (expires_at = 0 OR expires_at > o.now)
) c ON true

-- name: apply
SELECT * FROM apply_cells($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: scan
SELECT * FROM scan_cells($1, $2, $3, $4)

-- name: feed
SELECT * FROM read_feed($1, $2, $3)

-- name: prune
SELECT prune_feed($1, $2)

-- From each to the next by the index, however many cells they have.
-- name: spaces
WITH RECURSIVE found (first) AS (
    SELECT min(space) FROM cells
    UNION ALL SELECT (SELECT min(space) FROM cells WHERE space > first) FROM found WHERE first IS NOT NULL
)
SELECT first FROM found WHERE first IS NOT NULL
