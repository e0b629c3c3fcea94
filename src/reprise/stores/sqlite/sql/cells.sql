-- Statements of cells. `/* rows: n */` stands for as many rows of n values as are bound.

-- name: space
SELECT space, head, kept_after, crc FROM spaces WHERE space = ?

-- name: put_space
INSERT INTO spaces (space, head, kept_after, crc) VALUES (?, ?, ?, ?)
ON CONFLICT (space) DO UPDATE SET head = excluded.head, kept_after = excluded.kept_after, crc = excluded.crc

-- name: spaces
-- From each to the next by the index, however many cells they have.
WITH RECURSIVE found (first) AS (
    SELECT min(space) FROM cells
    UNION ALL SELECT (SELECT min(space) FROM cells WHERE space > first) FROM found WHERE first IS NOT NULL)
SELECT first FROM found WHERE first IS NOT NULL

-- name: cell
SELECT space, name, data, version, expires_at, crc FROM cells WHERE space = ? AND name = ?

-- name: page
-- What has ended takes up no room.
SELECT space, name, data, version, expires_at, crc FROM cells
WHERE space = ? AND name >= ? AND name > ? AND (expires_at = 0 OR expires_at > ?) ORDER BY name LIMIT ?

-- name: ended
-- `> 0` is spelled out so that the index of cells that end is used.
SELECT name FROM cells WHERE space = ? AND expires_at > 0 AND expires_at <= ? ORDER BY expires_at, name

-- name: any_ended
SELECT 1 FROM cells WHERE space = ? AND expires_at > 0 AND expires_at <= ? LIMIT 1

-- name: put_cells
INSERT INTO cells (space, name, data, version, expires_at, crc) VALUES /* rows: 6 */
ON CONFLICT (space, name) DO UPDATE SET data = excluded.data, version = excluded.version,
    expires_at = excluded.expires_at, crc = excluded.crc

-- name: delete_cell
DELETE FROM cells WHERE space = ? AND name = ?

-- name: enter
INSERT INTO cell_changes (space, position, name, data, expires_at, origin, at, crc) VALUES /* rows: 8 */

-- name: feed
SELECT space, position, name, data, expires_at, origin, at, crc FROM cell_changes
WHERE space = ? AND position > ? ORDER BY position LIMIT ?

-- name: is_kept
SELECT 1 FROM cell_changes WHERE space = ? AND position = ?

-- name: newest_to_go
SELECT position FROM cell_changes WHERE space = ? ORDER BY position DESC LIMIT 1 OFFSET ?

-- name: nth
SELECT position FROM cell_changes WHERE space = ? ORDER BY position LIMIT 1 OFFSET ?

-- name: forget
DELETE FROM cell_changes WHERE space = ? AND position <= ?

-- name: gone
-- How many rows the last statement deleted.
SELECT changes()
