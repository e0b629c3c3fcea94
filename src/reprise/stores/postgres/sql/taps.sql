-- Without payloads it only shows that the connection lives.
-- name: tap
SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS p (payload)

-- A worker's presence: held by the session.
-- name: hold
SELECT pg_advisory_lock_shared(hashtextextended('reprise worker ' || current_schema() || ' ' || worker, 0))
FROM unnest($1::text[]) AS w (worker)

-- name: let_go
SELECT pg_advisory_unlock_shared(hashtextextended('reprise worker ' || current_schema() || ' ' || $1, 0))

-- Nobody holds it if it can be had alone; it is given back with the end of the statement.
-- name: missing
SELECT worker FROM unnest($1::text[]) AS w (worker)
WHERE pg_try_advisory_xact_lock(hashtextextended('reprise worker ' || current_schema() || ' ' || worker, 0))
