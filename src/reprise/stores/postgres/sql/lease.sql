-- name: take
-- Who finds it free looks a moment before the one who is first in line; when that one has taken it, its end is known.
SELECT token, expires_at, CASE
    WHEN EXISTS (SELECT FROM leases l WHERE l.name = $1 AND l.expires_at > now_us()) THEN look_again_us
    ELSE least(look_again_us, 30000)
END AS look_again_us
FROM take_lease($1, $2, $3, $4, $5, $6, $7)

-- name: renew
UPDATE leases SET expires_at = now_us() + $4
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS g (name, holder, token)
WHERE leases.name = g.name AND leases.holder = g.holder AND leases.token = g.token
    AND leases.expires_at > now_us()
RETURNING leases.name, leases.holder, leases.token, leases.expires_at

-- name: drop
SELECT drop_leases($1, $2, $3)

-- name: leave
SELECT leave_line($1, $2)

-- name: holder
SELECT name, holder, token, expires_at FROM leases WHERE name = $1 AND expires_at > now_us() ORDER BY token

-- name: find
SELECT name, holder, token, expires_at FROM leases WHERE starts_with(name, $1) AND expires_at > now_us()
ORDER BY name COLLATE "C", token

-- name: lift
-- A sequence cannot be set without a race, so it is drawn from until it is far enough; a million numbers at most.
WITH mine AS (
    SELECT token FROM leases WHERE name = $1 AND holder = $2 AND token = $3
), drawn AS (
    SELECT ((SELECT value FROM meta WHERE meta.name = 'epoch') << 40) + max(nextval('lease_tokens')) AS token
    FROM mine, generate_series(mine.token + 1, least($4, mine.token + 1000000))
)
UPDATE leases SET token = coalesce(drawn.token, leases.token) FROM drawn
WHERE leases.name = $1 AND leases.holder = $2 AND leases.token = $3 AND leases.expires_at > now_us()
RETURNING leases.name, leases.holder, leases.token, leases.expires_at
