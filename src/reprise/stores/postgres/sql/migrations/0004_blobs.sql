-- Large payloads, each stored once. The hash of the data is its checksum. What is written is packed already, so the
-- server need not try to compress it.
CREATE TABLE blobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash bytea NOT NULL UNIQUE,
    data bytea NOT NULL
);
ALTER TABLE blobs ALTER data SET STORAGE EXTERNAL;

-- Which streams refer to a blob, and up to which version they do.
CREATE TABLE blob_references (
    blob bigint NOT NULL,
    stream bigint NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (blob, stream)
);
CREATE INDEX ON blob_references (stream);

-- Blobs that lost a reference: only these need to be looked at to find those that have none.
CREATE TABLE loose_blobs (
    blob bigint PRIMARY KEY
);

-- Write the blobs of a batch, in its transaction and so under the lock of the log; return 0, to be added to the
-- batch's answer. names are the streams that refer to the blobs, versions what the batch takes these to.
CREATE FUNCTION write_blobs(hashes bytea[], datas bytea[], names text[], versions bigint[])
RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO blobs (hash, data)
    SELECT DISTINCT ON (b.hash) b.hash, b.data FROM unnest(hashes, datas) AS b (hash, data)
    ON CONFLICT (hash) DO NOTHING;

    INSERT INTO blob_references AS old (blob, stream, version)
    SELECT blobs.id, streams.id, max(r.version)
    FROM unnest(hashes, names, versions) AS r (hash, name, version)
    JOIN blobs USING (hash) JOIN streams USING (name)
    GROUP BY blobs.id, streams.id
    ON CONFLICT (blob, stream) DO UPDATE SET version = greatest(old.version, excluded.version);
    RETURN 0;
END
$$;

-- Drop a stream's references from versions up to one. What they referred to may have no other.
CREATE FUNCTION release_blobs(stream_id bigint, through bigint) RETURNS void LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM blob_references WHERE stream = stream_id AND version <= through RETURNING blob)
    INSERT INTO loose_blobs SELECT blob FROM gone ON CONFLICT (blob) DO NOTHING
$$;

-- Look at up to most loose blobs and delete those that nobody refers to; return how many these are, and whether there
-- was anything to look at. Under the lock of the log, so nobody refers to one between the look and the end.
CREATE FUNCTION collect_blobs(most bigint, OUT gone bigint, OUT more boolean) LANGUAGE plpgsql AS $$
DECLARE
    last bigint;
BEGIN
    PERFORM lock_log();
    SELECT max(blob) INTO last FROM (SELECT blob FROM loose_blobs ORDER BY blob LIMIT most) AS first;
    DELETE FROM blobs WHERE id IN (SELECT blob FROM loose_blobs WHERE blob <= last)
        AND NOT EXISTS (SELECT FROM blob_references WHERE blob = blobs.id);
    GET DIAGNOSTICS gone = ROW_COUNT;
    DELETE FROM loose_blobs WHERE blob <= last;
    more := last IS NOT NULL;
END
$$;

-- As before; the references to blobs go along.
CREATE OR REPLACE FUNCTION drop_stream(stream_name text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    stream_id bigint := (SELECT id FROM streams WHERE name = stream_name);
    run text := CASE WHEN starts_with(stream_name, 'run/') THEN substr(stream_name, 5) END;
    early record;
    late record;
BEGIN
    WITH gone AS (DELETE FROM records WHERE stream = stream_id RETURNING position)
    SELECT count(*) AS number, coalesce(max(position), 0) AS last INTO early FROM gone;
    PERFORM lock_log();
    WITH gone AS (DELETE FROM records WHERE stream = stream_id RETURNING position)
    SELECT count(*) AS number, coalesce(max(position), 0) AS last INTO late FROM gone;
    PERFORM release_blobs(stream_id, 9223372036854775807);
    DELETE FROM streams WHERE id = stream_id;
    PERFORM untag_runs(ARRAY[run]);
    DELETE FROM runs WHERE id = run;
    UPDATE meta SET value = greatest(value, early.last, late.last) WHERE name = 'dropped';
    RETURN early.number + late.number;
END
$$;

-- As before; the references to blobs go along.
CREATE OR REPLACE FUNCTION trim_stream(stream_name text, through bigint, most bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    found record;
    last bigint;
    gone bigint;
BEGIN
    SELECT id, version, trimmed INTO found FROM streams WHERE name = stream_name;
    IF found.id IS NULL THEN
        RETURN 0;
    END IF;
    last := least(through, found.version - 1, found.trimmed + most);
    DELETE FROM records WHERE stream = found.id AND version <= last;
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM release_blobs(found.id, last);
    UPDATE streams SET trimmed = last WHERE id = found.id AND trimmed < last;
    RETURN gone;
END
$$;
