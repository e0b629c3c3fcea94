-- Statements of the terms on which a run may be taken, and of the places that limited runs have.

-- name: put
INSERT INTO terms (run, slots, in_line, created_at, refused, pinned, crc) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run) DO UPDATE SET slots = excluded.slots, in_line = excluded.in_line, created_at = excluded.created_at,
    refused = excluded.refused, pinned = excluded.pinned, crc = excluded.crc

-- name: delete
DELETE FROM terms WHERE run = ?

-- name: lines
-- One step of the index for each line, however many runs wait in it.
WITH RECURSIVE line (slots) AS (
    SELECT min(slots) FROM terms WHERE in_line = 1
    UNION ALL
    SELECT (SELECT min(t.slots) FROM terms t WHERE t.in_line = 1 AND t.slots > line.slots)
    FROM line WHERE line.slots IS NOT NULL
)
SELECT line.slots, (SELECT min(t.created_at) FROM terms t WHERE t.in_line = 1 AND t.slots = line.slots)
FROM line WHERE line.slots IS NOT NULL

-- name: fill
-- How many hold a lease, and when the first of them ends.
SELECT count(*), min(expires_at) FROM leases WHERE name = ? AND expires_at > ?

-- name: others
SELECT count(*), max(holder = ?) FROM leases WHERE name = ? AND expires_at > ?

-- name: empty
-- Places whose time is over.
DELETE FROM leases WHERE name = ? AND expires_at <= ?

-- name: seat
INSERT INTO leases (name, holder, token, expires_at, shared, crc) VALUES (?, ?, ?, ?, ?, ?)

-- name: unseat
DELETE FROM leases WHERE name = ? AND holder = ?
