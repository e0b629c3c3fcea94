-- name: write
SELECT write_batch(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19
)

-- name: write_limited
SELECT * FROM write_limited_batch(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24
)

-- name: lock
SELECT lock_log()

-- Where in the log a batch begins, if all of its appends are there: each is looked for at the version it was to have.
-- name: find
SELECT CASE WHEN count(*) = cardinality($1::text[]) THEN min(records.position - m.number) END
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS m (stream, version, append, number)
JOIN streams ON streams.name = m.stream
JOIN records ON records.stream = streams.id AND records.version = m.version AND records.append = m.append

-- name: heads
SELECT name, version, token, closed FROM streams WHERE name = ANY($1::text[])

-- The head, and what was trimmed, come with every record, in one snapshot, so that what is lost is noticed.
-- name: read
SELECT streams.version AS head, trimmed, position, records.version, kind, at, key, data, print, took, append, checksum
FROM streams
LEFT JOIN LATERAL (
    SELECT * FROM records WHERE stream = streams.id AND records.version > $2 ORDER BY records.version LIMIT $3
) AS records ON true
WHERE name = $1
ORDER BY records.version

-- name: scan
SELECT name, position, records.version, kind, at, key, data, print, took, append, checksum
FROM records JOIN streams ON streams.id = stream
WHERE position > $1
ORDER BY position LIMIT $2

-- name: scan_prefix
SELECT name, position, records.version, kind, at, key, data, print, took, append, checksum
FROM records JOIN streams ON streams.id = stream
WHERE position > $1 AND starts_with(name, $3)
ORDER BY position LIMIT $2

-- name: end
SELECT greatest(
    (SELECT max(position) FROM records), (SELECT value FROM meta WHERE name = 'dropped')
)

-- name: lookup
SELECT records.version FROM records JOIN streams ON streams.id = stream
WHERE name = $1 AND append = $2
ORDER BY records.version LIMIT 1

-- name: trim
SELECT trim_stream($1, $2, $3)

-- name: drop
SELECT drop_streams($1)

-- name: begin_epoch
SELECT begin_epoch($1)

-- A transaction for somebody's own work: its number. After this first query its isolation is what it is, and that is the
-- log's. $1 = after how long without a statement the server ends it.
-- name: open_work
SELECT txid_current(), set_config('idle_in_transaction_session_timeout', $1, true)

-- The work is done: what it may have been set to is set as the log needs it, until the commit. It must be the transaction
-- that was opened, and one that may write.
-- name: close_work
SELECT txid_current() AS number, current_setting('transaction_read_only') = 'on' AS only_reads,
    set_config('search_path', quote_ident($1), true),
    set_config('idle_in_transaction_session_timeout', '5s', true),
    set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true),
    set_config('jit', 'off', true),
    set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN 'on'
        ELSE current_setting('synchronous_commit') END, true)

-- Deferred checks are made before the log is locked: they may wait for others.
-- name: check_now
SET CONSTRAINTS ALL IMMEDIATE
