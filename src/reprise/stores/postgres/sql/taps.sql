-- Without payloads it only shows that the connection lives.
-- name: tap
SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS p (payload)
