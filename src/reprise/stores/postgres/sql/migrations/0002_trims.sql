-- What is old of a stream may go.

-- Up to which version the stream was trimmed.
ALTER TABLE streams ADD COLUMN trimmed bigint NOT NULL DEFAULT 0;

-- Delete a stream's oldest records up to a version, but never its newest, and no more than so many; return how many.
-- Records first, then the stream's row: the order in which drop_stream takes its locks.
CREATE FUNCTION trim_stream(stream_name text, through bigint, most bigint) RETURNS bigint LANGUAGE plpgsql AS $$
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
    UPDATE streams SET trimmed = last WHERE id = found.id AND trimmed < last;
    RETURN gone;
END
$$;
