-- Statements that look at everything.

-- name: records
SELECT s.name, r.position, r.stream, r.version, r.kind, r.at, r.key, r.data, r.print, r.took, r.append, r.crc
FROM records r LEFT JOIN streams s ON s.id = r.stream
WHERE r.position > ? ORDER BY r.position LIMIT ?

-- name: streams
SELECT id, name, version, token, closed, crc FROM streams WHERE closed < 2

-- name: runs
SELECT id, workflow, status, created_at, updated_at, parent, owner, due_at, build, tags, error, ended, since,
    generation, warning, crc
FROM runs

-- name: terms
SELECT run, slots, in_line, created_at, refused, pinned, crc FROM terms

-- name: leases
SELECT name, holder, token, expires_at, shared, crc FROM leases

-- name: tasks
SELECT number, queue, id, data, rank, due_at, state, claims, token, worker, until, note, offered_at, place, later_at,
    outcome, level, ended_at, crc
FROM tasks

-- name: spaces
SELECT space, head, kept_after, crc FROM spaces

-- name: cells
SELECT rowid, space, name, data, version, expires_at, crc FROM cells WHERE rowid > ? ORDER BY rowid LIMIT ?

-- name: cell_changes
SELECT rowid, space, position, name, data, expires_at, origin, at, crc FROM cell_changes
WHERE rowid > ? ORDER BY rowid LIMIT ?

-- name: lost_changes
-- Spaces whose newest entry is not where the space says, or whose cells are newer than it.
SELECT s.space FROM spaces s
WHERE s.head <> max(s.kept_after, ifnull((SELECT max(position) FROM cell_changes c WHERE c.space = s.space), 0))
    OR s.head < ifnull((SELECT max(version) FROM cells c WHERE c.space = s.space), 0)

-- name: lines
SELECT queue, paused, finished, failed, crc FROM lines

-- name: trims
SELECT stream, through, crc FROM trims

-- name: holes
-- Streams whose versions are not 1, 2, 3 … (after a trim: what follows it) up to at least what their row says. A closed
-- one has no more either.
SELECT s.name, s.version, count(r.version), max(r.version), ifnull(t.through, 0)
FROM streams s LEFT JOIN trims t ON t.stream = s.id LEFT JOIN records r ON r.stream = s.id
WHERE s.closed < 2
GROUP BY s.id
HAVING count(r.version) <> ifnull(max(r.version), 0) - ifnull(t.through, 0)
    OR min(r.version) <= t.through OR ifnull(max(r.version), 0) < s.version
    OR (s.closed = 1 AND max(r.version) <> s.version)

-- name: tags_without_run
SELECT DISTINCT t.run FROM run_tags t LEFT JOIN runs r ON r.id = t.run WHERE r.id IS NULL

-- name: terms_without_run
SELECT t.run FROM terms t LEFT JOIN runs r ON r.id = t.run WHERE r.id IS NULL OR r.ended
-- name: blobs
SELECT id, hash, data FROM blobs WHERE id > ? ORDER BY id LIMIT ?

-- name: lost_blobs
-- References to blobs that are not there.
SELECT DISTINCT s.name FROM blob_references r
LEFT JOIN blobs b ON b.id = r.blob LEFT JOIN streams s ON s.id = r.stream
WHERE b.id IS NULL

-- name: lost_streams
-- References from streams that are not there: their blobs will never be collected.
SELECT b.hash FROM blob_references r JOIN blobs b ON b.id = r.blob
LEFT JOIN streams s ON s.id = r.stream WHERE s.id IS NULL

-- name: forgotten_blobs
-- Blobs that nobody refers to and nobody will look at again.
SELECT b.hash FROM blobs b
WHERE NOT EXISTS (SELECT 1 FROM blob_references r WHERE r.blob = b.id)
    AND NOT EXISTS (SELECT 1 FROM loose_blobs l WHERE l.blob = b.id)

-- name: refers
-- A stream that is being dropped loses its references before its records.
SELECT 1 FROM blobs b JOIN blob_references r ON r.blob = b.id WHERE b.hash = :hash AND r.stream = :stream
UNION ALL SELECT 1 FROM streams WHERE id = :stream AND closed = 2
LIMIT 1

-- name: errors_without_run
SELECT e.run FROM run_errors e LEFT JOIN runs r ON r.id = e.run WHERE r.id IS NULL OR r.error = ''

-- name: runs_without_error
SELECT r.id FROM runs r LEFT JOIN run_errors e ON e.run = r.id WHERE r.error <> '' AND e.run IS NULL
