-- Statements of leases.

-- name: grants
SELECT name, holder, token, expires_at, shared, crc FROM leases WHERE name = ? ORDER BY token

-- name: find
-- All whose names begin so.
SELECT name, holder, token, expires_at, shared, crc FROM leases
WHERE name >= ?1 AND substr(name, 1, length(?1)) = ?1 ORDER BY name, token

-- name: grant
-- The row of one holder.
SELECT name, holder, token, expires_at, shared, crc FROM leases WHERE name = ? AND holder = ?

-- name: put
INSERT INTO leases (name, holder, token, expires_at, shared, crc) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (name, holder) DO UPDATE SET token = excluded.token, expires_at = excluded.expires_at,
    shared = excluded.shared, crc = excluded.crc

-- name: delete
DELETE FROM leases WHERE name = ? AND holder = ? AND token = ?

-- name: delete_ended
DELETE FROM leases WHERE expires_at <= ?

-- name: delete_all
DELETE FROM leases

-- name: delete_tickets
DELETE FROM tickets

-- name: tickets
SELECT ticket, process, until FROM tickets WHERE name = ? AND ticket < ? ORDER BY ticket

-- name: put_ticket
INSERT INTO tickets (ticket, name, process, until) VALUES (?, ?, ?, ?)
ON CONFLICT (ticket) DO UPDATE SET until = excluded.until

-- name: delete_ticket
DELETE FROM tickets WHERE ticket = ?

-- name: any_ticket
SELECT 1 FROM tickets WHERE name = ? LIMIT 1

-- name: count_tickets
SELECT count(*) FROM tickets WHERE name = ?
