-- Only one process at a time creates or upgrades.
-- name: lock
SELECT pg_advisory_xact_lock(hashtextextended('reprise schema ' || $1, 0))

-- name: exists
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)

-- name: empty
SELECT NOT EXISTS (
    SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = $1 AND relname = 'meta'
)

-- name: version
SELECT value FROM meta WHERE name = 'schema'

-- name: set_version
UPDATE meta SET value = $1 WHERE name = 'schema'
