-- Statements of the log. `/* rows: n */` stands for as many rows of n values as are bound.

-- name: heads
-- Rows of the wanted streams with the version that their records say.
WITH wanted (name) AS (VALUES /* rows: 1 */)
SELECT s.id, s.name, s.version, s.token, s.closed, s.crc,
    (SELECT max(r.version) FROM records r WHERE r.stream = s.id)
FROM wanted w CROSS JOIN streams s ON s.name = w.name

-- name: insert_streams
INSERT INTO streams (id, name, version, token, closed, crc) VALUES /* rows: 6 */

-- name: update_streams
-- `name` travels along only because it is part of the checksum's row.
WITH change (id, name, version, token, closed, crc) AS (VALUES /* rows: 6 */)
UPDATE streams SET version = c.version, token = c.token, closed = c.closed, crc = c.crc
FROM change c WHERE streams.id = c.id

-- name: insert_records
INSERT INTO records (position, stream, version, kind, at, key, data, print, took, append, crc)
VALUES /* rows: 11 */

-- name: ends
-- What the writer must know after another process has written: highest position and stream number, and the epoch.
SELECT
    max(ifnull((SELECT max(position) FROM records), 0),
        ifnull((SELECT value FROM meta WHERE name = 'position'), 0)),
    ifnull((SELECT max(id) FROM streams), 0),
    ifnull((SELECT value FROM meta WHERE name = 'epoch'), 0)

-- name: keep_position
-- Remember the highest position before its record is dropped.
INSERT INTO meta (name, value) VALUES ('position', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value

-- name: hide_stream
-- A dropped stream loses its name at once and its records little by little; `closed` = 2 marks it.
UPDATE streams SET name = ?, closed = 2 WHERE id = ?

-- name: trimmed
SELECT stream, through, crc FROM trims WHERE stream = ?

-- name: set_trimmed
INSERT INTO trims (stream, through, crc) VALUES (?, ?, ?)
ON CONFLICT (stream) DO UPDATE SET through = excluded.through, crc = excluded.crc

-- name: forget_trimmed
DELETE FROM trims WHERE stream = ?

-- name: trim_records
DELETE FROM records WHERE stream = ? AND version <= ?

-- name: hidden_streams
SELECT id FROM streams WHERE closed = 2 AND name >= '~dropped/' AND name < '~dropped0'

-- name: is_hidden
-- Asked again before each step of a drop: another process may have finished it, and the number be in use anew.
SELECT 1 FROM streams WHERE id = ? AND closed = 2

-- name: drop_records
DELETE FROM records WHERE position IN (SELECT position FROM records WHERE stream = ? LIMIT ?)

-- name: changes
-- Rows that the last statement changed.
SELECT changes()

-- name: drop_stream
DELETE FROM streams WHERE id = ? AND closed = 2

-- name: read
-- A stream's row, and that of its trim, beside each of its records; one row with NULLs where it has none.
SELECT s.id, s.version, s.token, s.closed, s.crc, t.through, t.crc,
    r.position, r.stream, r.version, r.kind, r.at, r.key, r.data, r.print, r.took, r.append, r.crc
FROM streams s LEFT JOIN trims t ON t.stream = s.id
    LEFT JOIN records r ON r.stream = s.id AND r.version > :after
WHERE s.name = :name
ORDER BY r.version
LIMIT :limit

-- name: scan
-- Records in the order of the log with the row of their stream (NULL = it is gone: damage).
SELECT s.id, s.name, s.version, s.token, s.closed, s.crc, r.position, r.stream, r.version, r.kind, r.at, r.key, r.data, r.print, r.took, r.append, r.crc
FROM records r LEFT JOIN streams s ON s.id = r.stream
WHERE r.position > :after AND ifnull(s.closed, 0) < 2
    AND (:prefix = '' OR s.name IS NULL OR substr(s.name, 1, length(:prefix)) = :prefix)
ORDER BY r.position
LIMIT :limit

-- name: lookup
-- Newest first: who asks has just lost the answer.
SELECT r.version
FROM streams s CROSS JOIN records r ON r.stream = s.id
WHERE s.name = ? AND r.append = ?
ORDER BY r.version DESC
LIMIT 1
