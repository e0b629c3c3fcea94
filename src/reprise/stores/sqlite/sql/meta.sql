-- Counters of the file.

-- name: read
SELECT value FROM meta WHERE name = ?

-- name: write
INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value

-- name: holds_data
SELECT EXISTS (SELECT 1 FROM records r JOIN streams s ON s.id = r.stream WHERE s.closed < 2)
    OR EXISTS (SELECT 1 FROM tasks) OR EXISTS (SELECT 1 FROM cells)
