-- Cells: values with versions that change together, and the feeds of what changed.

-- head = position of the newest entry of the feed, kept_after = that of the newest one that was forgotten.
CREATE TABLE spaces (
    space text COLLATE "C" PRIMARY KEY,
    head bigint NOT NULL,
    kept_after bigint NOT NULL
) WITH (fillfactor = 50);

-- version = position of the entry that made it; expires_at 0 = it does not end. The client gives a checksum of what it
-- knows, space, name and data; what the server decides is folded in (fold).
CREATE TABLE cells (
    space text COLLATE "C",
    name text COLLATE "C",
    data bytea NOT NULL,
    version bigint NOT NULL,
    expires_at bigint NOT NULL,
    checksum bigint NOT NULL,
    PRIMARY KEY (space, name)
) WITH (fillfactor = 80);
CREATE INDEX cells_ending ON cells (space, expires_at) WHERE expires_at > 0;

-- data and checksum NULL = it was removed. mark = which call made it.
CREATE TABLE cell_changes (
    space text COLLATE "C",
    position bigint,
    name text COLLATE "C" NOT NULL,
    data bytea,
    expires_at bigint NOT NULL,
    origin text NOT NULL,
    at bigint NOT NULL,
    mark bigint NOT NULL,
    checksum bigint,
    PRIMARY KEY (space, position)
);

CREATE FUNCTION fold(checksum bigint, version bigint, expires_at bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT checksum # (version & 4294967295) # (expires_at & 4294967295)
$$;

-- Take the turn at a space, enter what has ended, and return the newest position that an entry may follow.
CREATE FUNCTION open_space(in_space text, now bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    last bigint;
    ended record;
BEGIN
    SELECT greatest(head, (SELECT (value - 1) << 40 FROM meta WHERE name = 'epoch')) INTO last
    FROM spaces WHERE space = in_space FOR UPDATE;
    FOR ended IN
        DELETE FROM cells WHERE space = in_space AND expires_at > 0 AND expires_at <= now RETURNING name
    LOOP
        last := last + 1;
        INSERT INTO cell_changes VALUES (in_space, last, ended.name, NULL, 0, '', now, 0, NULL);
        UPDATE spaces SET head = last WHERE space = in_space;
    END LOOP;
    RETURN last;
END
$$;

-- Make changes of cells, or none of them. datas NULL = remove it; expecteds NULL = whatever is there; ttls (microseconds)
-- NULL = it does not end, 0 = as before. my_mark tells the call from others: sent again, because nobody said what became
-- of it, it changes nothing if it was made.
--
-- refused is the cell that does not have the version expected, and has the one that it has; then nothing is changed.
-- versions and ends are those of the changes, in their order (NULL = removed); changed = something was entered.
CREATE FUNCTION apply_cells(
    in_space text, names text[], datas bytea[], expecteds bigint[], ttls bigint[], checksums bigint[],
    in_origin text, my_mark bigint, sent_again boolean,
    OUT refused text, OUT has bigint, OUT head bigint, OUT now bigint,
    OUT versions bigint[], OUT ends bigint[], OUT changed boolean
) LANGUAGE plpgsql AS $$
DECLARE
    before bigint;
    change record;
BEGIN
    INSERT INTO spaces VALUES (in_space, 0, 0) ON CONFLICT DO NOTHING;
    SELECT s.head INTO before FROM spaces s WHERE s.space = in_space FOR UPDATE;
    now := now_us();
    head := open_space(in_space, now);
    versions := array_fill(NULL::bigint, ARRAY[cardinality(names)]);
    ends := versions;

    IF sent_again AND EXISTS (SELECT FROM cell_changes c WHERE c.space = in_space AND c.mark = my_mark) THEN
        FOR change IN
            SELECT n, c.position, c.expires_at FROM unnest(names) WITH ORDINALITY AS given (name, n)
            JOIN cell_changes c ON c.space = in_space AND c.mark = my_mark AND c.name = given.name
            WHERE c.data IS NOT NULL
        LOOP
            versions[change.n] := change.position;
            ends[change.n] := change.expires_at;
        END LOOP;
        SELECT max(c.position), min(c.at) INTO head, now
        FROM cell_changes c WHERE c.space = in_space AND c.mark = my_mark;
        changed := true;
        RETURN;
    END IF;

    SELECT given.name, coalesce(c.version, 0) INTO refused, has
    FROM unnest(names, expecteds) WITH ORDINALITY AS given (name, expected, n)
    LEFT JOIN cells c ON c.space = in_space AND c.name = given.name
    WHERE given.expected IS NOT NULL AND given.expected <> coalesce(c.version, 0)
    ORDER BY n LIMIT 1;
    IF refused IS NULL THEN
        FOR change IN
            SELECT n, given.name, given.data, given.checksum, c.name IS NOT NULL AS lives,
                CASE WHEN given.ttl IS NULL THEN 0 WHEN given.ttl = 0 THEN coalesce(c.expires_at, 0)
                    ELSE now + given.ttl END AS expires_at
            FROM unnest(names, datas, ttls, checksums) WITH ORDINALITY AS given (name, data, ttl, checksum, n)
            LEFT JOIN cells c ON c.space = in_space AND c.name = given.name
            ORDER BY n
        LOOP
            CONTINUE WHEN change.data IS NULL AND NOT change.lives;
            head := head + 1;
            IF change.data IS NULL THEN
                DELETE FROM cells c WHERE c.space = in_space AND c.name = change.name;
                INSERT INTO cell_changes
                VALUES (in_space, head, change.name, NULL, 0, in_origin, now, my_mark, NULL);
            ELSE
                change.checksum := fold(change.checksum, head, change.expires_at);
                INSERT INTO cells AS c
                VALUES (in_space, change.name, change.data, head, change.expires_at, change.checksum)
                ON CONFLICT (space, name) DO UPDATE SET data = excluded.data, version = excluded.version,
                    expires_at = excluded.expires_at, checksum = excluded.checksum;
                INSERT INTO cell_changes VALUES (in_space, head, change.name, change.data, change.expires_at,
                    in_origin, now, my_mark, change.checksum);
                versions[change.n] := head;
                ends[change.n] := change.expires_at;
            END IF;
            UPDATE spaces s SET head = apply_cells.head WHERE s.space = in_space;
        END LOOP;
    END IF;
    SELECT s.head, s.head > before INTO head, changed FROM spaces s WHERE s.space = in_space;
END
$$;

-- Enter what has ended, if anything has; return whether it was so.
CREATE FUNCTION let_cells_end(in_space text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM cells WHERE space = in_space AND expires_at > 0 AND expires_at <= now_us()
    ) THEN
        RETURN false;
    END IF;
    -- The turn first, then the time: it must not be before that of the entries made meanwhile.
    PERFORM FROM spaces WHERE space = in_space FOR UPDATE;
    PERFORM open_space(in_space, now_us());
    RETURN true;
END
$$;

-- A page of the feed, or a row without an entry. known = the feed goes on behind that position.
CREATE FUNCTION read_feed(in_space text, behind bigint, most bigint)
RETURNS TABLE (ended boolean, known boolean, kept_after bigint, "position" bigint, name text, data bytea,
    expires_at bigint, origin text, at bigint, checksum bigint)
LANGUAGE plpgsql AS $$
DECLARE
    some_ended boolean := let_cells_end(in_space);
BEGIN
    RETURN QUERY
        WITH opened AS MATERIALIZED (
            SELECT coalesce((SELECT s.kept_after FROM spaces s WHERE s.space = in_space), 0) AS kept_after,
                EXISTS (SELECT FROM cell_changes c WHERE c.space = in_space AND c.position = behind) AS is_kept
        )
        SELECT some_ended, o.is_kept OR o.kept_after = behind, o.kept_after, c.position, c.name, c.data, c.expires_at,
            c.origin, c.at, c.checksum
        FROM opened o LEFT JOIN LATERAL (
            SELECT * FROM cell_changes c WHERE c.space = in_space AND c.position > behind ORDER BY c.position LIMIT most
        ) c ON true
        ORDER BY c.position;
END
$$;

-- A page of cells, or a row without a cell.
CREATE FUNCTION scan_cells(in_space text, prefix text, behind text, most bigint)
RETURNS TABLE (ended boolean, head bigint, now bigint, name text, data bytea, version bigint, expires_at bigint,
    checksum bigint)
LANGUAGE plpgsql AS $$
DECLARE
    some_ended boolean := let_cells_end(in_space);
BEGIN
    RETURN QUERY
        WITH opened AS MATERIALIZED (
            SELECT coalesce((SELECT s.head FROM spaces s WHERE s.space = in_space), 0) AS head, now_us() AS now
        )
        SELECT some_ended, o.head, o.now, c.name, c.data, c.version, c.expires_at, c.checksum
        FROM opened o LEFT JOIN LATERAL (
            SELECT * FROM cells c WHERE c.space = in_space AND c.name >= prefix AND c.name > behind
                AND starts_with(c.name, prefix) AND (c.expires_at = 0 OR c.expires_at > o.now)
            ORDER BY c.name LIMIT most
        ) c ON true
        ORDER BY c.name;
END
$$;

-- Forget the oldest entries of a feed but so many; return how many went.
CREATE FUNCTION prune_feed(in_space text, keep bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    through bigint;
    gone bigint;
BEGIN
    PERFORM FROM spaces WHERE space = in_space FOR UPDATE;
    SELECT position INTO through FROM cell_changes WHERE space = in_space ORDER BY position DESC LIMIT 1 OFFSET keep;
    DELETE FROM cell_changes WHERE space = in_space AND position <= through;
    GET DIAGNOSTICS gone = ROW_COUNT;
    UPDATE spaces SET kept_after = through WHERE space = in_space AND through IS NOT NULL;
    RETURN gone;
END
$$;
