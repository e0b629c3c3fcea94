-- Epochs, and dropping many streams at once.

-- The epoch stands as the version of the stream ~epoch, which never has a record: so it is among the heads by which a
-- writer judges, and whoever has not heard of a new one is told as of any other head that changed. Tokens and positions
-- begin anew above all that were given. meta.epoch counts from 1 and is for the tokens of leases and claims.
CREATE FUNCTION begin_epoch(above bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    fresh bigint;
BEGIN
    PERFORM lock_log();
    UPDATE meta SET value = greatest(value, above + 1) + 1 WHERE name = 'epoch' RETURNING value - 1 INTO fresh;
    INSERT INTO streams (name, version, token, closed) VALUES ('~epoch', fresh, 0, false)
    ON CONFLICT (name) DO UPDATE SET version = excluded.version;
    UPDATE meta SET value = greatest(value, (SELECT max(position) FROM records), fresh << 40) WHERE name = 'dropped';
    DELETE FROM leases;
    DELETE FROM lease_tickets;
    RETURN fresh;
END
$$;

-- Delete streams, and the runs whose histories are among them; return how many records went. Most of the work is done
-- before the lock is taken; what was appended meanwhile is deleted under it.
DROP FUNCTION drop_stream(text);
CREATE FUNCTION drop_streams(stream_names text[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    doomed bigint[] := (SELECT array_agg(id) FROM streams WHERE name = ANY(stream_names));
    doomed_runs text[] := (
        SELECT array_agg(substr(name, 5)) FROM unnest(stream_names) AS name WHERE starts_with(name, 'run/')
    );
    early record;
    late record;
BEGIN
    WITH gone AS (DELETE FROM records WHERE stream = ANY(doomed) RETURNING position)
    SELECT count(*) AS number, coalesce(max(position), 0) AS last INTO early FROM gone;
    PERFORM lock_log();
    WITH gone AS (DELETE FROM records WHERE stream = ANY(doomed) RETURNING position)
    SELECT count(*) AS number, coalesce(max(position), 0) AS last INTO late FROM gone;
    PERFORM release_blobs(id, 9223372036854775807) FROM unnest(doomed) AS id;
    DELETE FROM streams WHERE id = ANY(doomed);
    PERFORM untag_runs(doomed_runs);
    DELETE FROM runs WHERE id = ANY(doomed_runs);
    UPDATE meta SET value = greatest(value, early.last, late.last) WHERE name = 'dropped';
    RETURN early.number + late.number;
END
$$;
