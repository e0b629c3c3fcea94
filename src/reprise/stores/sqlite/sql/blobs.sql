-- Statements of the blobs. `/* rows: n */` stands for as many rows of n values as are bound.

-- name: insert
INSERT INTO blobs (hash, data) VALUES (?, ?) ON CONFLICT (hash) DO NOTHING

-- name: refer
-- The blob is there: it was inserted in this transaction, or before.
INSERT INTO blob_references (blob, stream, version) SELECT id, ?, ? FROM blobs WHERE hash = ?
ON CONFLICT (blob, stream) DO UPDATE SET version = excluded.version

-- name: get
WITH wanted (hash) AS (VALUES /* rows: 1 */)
SELECT b.hash, b.data FROM wanted w CROSS JOIN blobs b ON b.hash = w.hash

-- name: loosen
-- Before a stream's references go: what they referred to may have no other.
INSERT INTO loose_blobs (blob)
SELECT blob FROM blob_references WHERE stream = :stream AND version <= :through ORDER BY blob LIMIT :most
ON CONFLICT (blob) DO NOTHING

-- name: release
DELETE FROM blob_references WHERE stream = :stream AND blob IN (
    SELECT blob FROM blob_references WHERE stream = :stream AND version <= :through ORDER BY blob LIMIT :most)

-- name: changes
-- Rows that the last statement changed.
SELECT changes()

-- name: last_loose
SELECT max(blob) FROM (SELECT blob FROM loose_blobs ORDER BY blob LIMIT ?)

-- name: collect
-- Of the loose blobs up to one, delete those that nobody refers to.
DELETE FROM blobs WHERE id IN (SELECT blob FROM loose_blobs WHERE blob <= ?)
    AND NOT EXISTS (SELECT 1 FROM blob_references r WHERE r.blob = blobs.id)

-- name: settle
-- They are gone, or somebody refers to them again.
DELETE FROM loose_blobs WHERE blob <= ?

-- name: stats
SELECT (SELECT count(*) FROM blobs), (SELECT ifnull(sum(length(data)), 0) FROM blobs),
    (SELECT count(*) FROM blob_references), (SELECT count(*) FROM loose_blobs)
