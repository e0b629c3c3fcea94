-- A batch with blobs. These are written only if the batch is, after it, under its lock.
-- name: write
SELECT CASE WHEN base IS NOT NULL THEN base + write_blobs($20, $21, $22, $23) END
FROM write_batch(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19
) AS base

-- name: get
SELECT hash, data FROM blobs WHERE hash = ANY($1::bytea[])

-- name: collect
SELECT gone, more FROM collect_blobs($1)

-- name: stats
SELECT (SELECT count(*) FROM blobs) AS blobs, (SELECT coalesce(sum(length(data)), 0)::bigint FROM blobs) AS bytes,
    (SELECT count(*) FROM blob_references) AS references, (SELECT count(*) FROM loose_blobs) AS loose
