-- The log and the leases. Every name lives in the schema of the store, which is first in the search path.
-- Times are microseconds since the epoch by the server's clock.

CREATE TABLE meta (
    name text PRIMARY KEY,
    value bigint NOT NULL
);

-- epoch    high bits of every lease token; raised when a backup is restored, so that tokens never repeat
-- dropped  highest position that was ever deleted, so that none is given twice
INSERT INTO meta VALUES ('schema', 0), ('epoch', 1), ('dropped', 0);

CREATE FUNCTION now_us() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
$$;


-- ---------------------------------------------------------------- log

CREATE TABLE streams (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    version bigint NOT NULL,
    token bigint NOT NULL,
    closed boolean NOT NULL
) WITH (fillfactor = 80);

-- No foreign key to streams: it would lock the stream's row once more for every record.
CREATE TABLE records (
    position bigint PRIMARY KEY,
    stream bigint NOT NULL,
    version bigint NOT NULL,
    at bigint NOT NULL,
    print bigint NOT NULL,
    took bigint NOT NULL,
    append bigint NOT NULL,
    checksum bigint NOT NULL,
    kind integer NOT NULL,
    key text COLLATE "C" NOT NULL,
    data bytea NOT NULL,
    UNIQUE (stream, version)
);

-- Written with the events that change it; read by the index of runs.
CREATE TABLE runs (
    id text COLLATE "C" PRIMARY KEY,
    workflow text NOT NULL,
    status text NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    parent text,
    owner text,
    due_at bigint,
    build text NOT NULL,
    tags jsonb NOT NULL,
    error text NOT NULL
);

-- Whoever holds this lock gives positions. It is held from here to the end of the transaction, that is until the
-- records can be seen: so positions become visible in order, and no reader has to know which transactions are open.
CREATE FUNCTION lock_log() RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('reprise log ' || current_schema(), 0))
$$;

-- Write one batch of appends, or nothing.
--
-- The writer has judged every append by the heads that it believes in (names, versions, tokens, closings). Under the
-- lock these are compared with the truth: any difference and the answer is NULL, nothing is written, and the writer
-- judges again. Else the changed heads, the records and the runs are written, and the answer is the position before
-- the first record. The lock is never held while a client thinks.
--
-- owners are indexes into changed: the stream of each record. The checksum of a record comes without its position,
-- which nobody knew; it is folded in here.
CREATE FUNCTION write_batch(
    names text[], versions bigint[], tokens bigint[], closings boolean[],
    changed text[], new_versions bigint[], new_tokens bigint[], new_closings boolean[],
    owners integer[], record_versions bigint[], kinds integer[], ats bigint[], keys text[], datas bytea[],
    prints bigint[], tooks bigint[], appends bigint[], checksums bigint[],
    run_changes jsonb
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    base bigint;
    change jsonb;
BEGIN
    PERFORM lock_log();
    IF EXISTS (
        SELECT FROM unnest(names, versions, tokens, closings) AS believed (name, version, token, closed)
        LEFT JOIN streams USING (name)
        WHERE (believed.version, believed.token, believed.closed)
            <> (coalesce(streams.version, 0), coalesce(streams.token, 0), coalesce(streams.closed, false))
    ) THEN
        RETURN NULL;
    END IF;

    SELECT greatest(coalesce(max(position), 0), (SELECT value FROM meta WHERE name = 'dropped'))
    INTO base FROM records;

    INSERT INTO streams (name, version, token, closed)
    SELECT * FROM unnest(changed, new_versions, new_tokens, new_closings)
    ON CONFLICT (name) DO UPDATE
    SET version = excluded.version, token = excluded.token, closed = excluded.closed;

    INSERT INTO records (position, stream, version, kind, at, key, data, print, took, append, checksum)
    SELECT base + r.number, streams.id, r.version, r.kind, r.at, r.key, r.data, r.print, r.took, r.append,
        r.checksum # ((base + r.number) & 4294967295)
    FROM unnest(owners, record_versions, kinds, ats, keys, datas, prints, tooks, appends, checksums)
        WITH ORDINALITY
        AS r (owner, version, kind, at, key, data, print, took, append, checksum, number)
    JOIN streams ON streams.name = changed[r.owner];

    FOR change IN SELECT * FROM jsonb_array_elements(run_changes) LOOP
        PERFORM change_run(change);
    END LOOP;
    RETURN base;
END
$$;

-- Write what an append says about a run: fields that are not named stay as they are.
CREATE FUNCTION change_run(change jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO runs AS old
        (id, workflow, status, created_at, updated_at, parent, owner, due_at, build, tags, error)
    VALUES (
        change ->> 'id', coalesce(change ->> 'workflow', ''), coalesce(change ->> 'status', 'pending'),
        coalesce((change ->> 'at')::bigint, 0), coalesce((change ->> 'at')::bigint, 0),
        change ->> 'parent', change ->> 'owner', (change ->> 'due_at')::bigint, coalesce(change ->> 'build', ''),
        coalesce(change -> 'tags', '{}'), coalesce(change ->> 'error', '')
    )
    ON CONFLICT (id) DO UPDATE SET
        updated_at = excluded.updated_at,
        workflow = CASE WHEN change ? 'workflow' THEN excluded.workflow ELSE old.workflow END,
        status = CASE WHEN change ? 'status' THEN excluded.status ELSE old.status END,
        parent = CASE WHEN change ? 'parent' THEN excluded.parent ELSE old.parent END,
        owner = CASE WHEN change ? 'owner' THEN excluded.owner ELSE old.owner END,
        due_at = CASE WHEN change ? 'due_at' THEN excluded.due_at ELSE old.due_at END,
        build = CASE WHEN change ? 'build' THEN excluded.build ELSE old.build END,
        tags = CASE WHEN change ? 'tags' THEN excluded.tags ELSE old.tags END,
        error = CASE WHEN change ? 'error' THEN excluded.error ELSE old.error END
$$;

-- Delete a stream; return how many records went. Most of the work is done before the lock is taken; what was appended
-- meanwhile is deleted under it.
CREATE FUNCTION drop_stream(stream_name text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    stream_id bigint := (SELECT id FROM streams WHERE name = stream_name);
    early record;
    late record;
BEGIN
    WITH gone AS (DELETE FROM records WHERE stream = stream_id RETURNING position)
    SELECT count(*) AS number, coalesce(max(position), 0) AS last INTO early FROM gone;
    PERFORM lock_log();
    WITH gone AS (DELETE FROM records WHERE stream = stream_id RETURNING position)
    SELECT count(*) AS number, coalesce(max(position), 0) AS last INTO late FROM gone;
    DELETE FROM streams WHERE id = stream_id;
    DELETE FROM runs WHERE 'run/' || id = stream_name;
    UPDATE meta SET value = greatest(value, early.last, late.last) WHERE name = 'dropped';
    RETURN early.number + late.number;
END
$$;


-- ---------------------------------------------------------------- leases

CREATE TABLE leases (
    name text COLLATE "C",
    holder text COLLATE "C",
    token bigint NOT NULL,
    shared boolean NOT NULL,
    expires_at bigint NOT NULL,
    PRIMARY KEY (name, holder)
) WITH (fillfactor = 50);

CREATE SEQUENCE lease_tokens;

-- Who waits, in the order of number. A ticket that is not shown again before seen_until belongs to a dead process.
CREATE TABLE lease_tickets (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ticket bigint NOT NULL UNIQUE,
    name text COLLATE "C" NOT NULL,
    seen_until bigint NOT NULL
);
CREATE INDEX ON lease_tickets (name, number);

-- One transaction at a time decides about a name.
CREATE FUNCTION lock_lease(lease text) RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('reprise lease ' || current_schema() || ' ' || lease, 0))
$$;

-- Tap whoever waits longest for a name.
CREATE FUNCTION wake_first(lease text) RETURNS void LANGUAGE sql AS $$
    SELECT pg_notify('reprise ' || current_schema(), ticket::text)
    FROM lease_tickets WHERE name = lease ORDER BY number LIMIT 1
$$;

-- Take a lease. With a ticket (not 0) the caller is put in the line, or stays in it, until it gets the lease.
-- token is NULL when the lease is not free; look_again_us is then the time after which it may be.
CREATE FUNCTION take_lease(
    lease text, who text, ttl_us bigint, most integer, sharing boolean, my_ticket bigint, ticket_us bigint,
    OUT token bigint, OUT expires_at bigint, OUT look_again_us bigint
) LANGUAGE plpgsql AS $$
DECLARE
    now bigint;
    mine bigint;
    others bigint;
    others_share boolean;
    free boolean;
BEGIN
    PERFORM lock_lease(lease);
    now := now_us();
    DELETE FROM leases l WHERE l.name = lease AND l.expires_at <= now;
    DELETE FROM lease_tickets t WHERE t.name = lease AND t.seen_until <= now AND t.ticket <> my_ticket;
    SELECT l.token INTO mine FROM leases l WHERE l.name = lease AND l.holder = who;
    SELECT count(*), coalesce(bool_or(l.shared), false) INTO others, others_share
    FROM leases l WHERE l.name = lease AND l.holder <> who;

    free := CASE WHEN others > 0 AND (others_share OR sharing) THEN others_share AND sharing ELSE others < most END;
    -- Who holds it may renew past the line; everybody else stands behind those who came before.
    IF mine IS NULL AND free THEN
        free := NOT EXISTS (
            SELECT FROM lease_tickets t WHERE t.name = lease AND t.ticket <> my_ticket
            AND t.number < coalesce((SELECT m.number FROM lease_tickets m WHERE m.ticket = my_ticket), 9223372036854775807)
        );
    END IF;

    IF free THEN
        token := coalesce(mine, ((SELECT value FROM meta WHERE meta.name = 'epoch') << 40) + nextval('lease_tokens'));
        expires_at := now + ttl_us;
        INSERT INTO leases AS l VALUES (lease, who, token, sharing, expires_at)
        ON CONFLICT (name, holder) DO UPDATE
        SET shared = excluded.shared, expires_at = excluded.expires_at;
        DELETE FROM lease_tickets t WHERE t.ticket = my_ticket;
        IF sharing OR others + 1 < most THEN
            -- There may be room for the next in line.
            PERFORM wake_first(lease);
        END IF;
    ELSIF my_ticket <> 0 THEN
        INSERT INTO lease_tickets (ticket, name, seen_until) VALUES (my_ticket, lease, now + ticket_us)
        ON CONFLICT (ticket) DO UPDATE SET seen_until = excluded.seen_until;
        SELECT min(until) - now INTO look_again_us FROM (
            SELECT l.expires_at FROM leases l WHERE l.name = lease
            UNION ALL
            SELECT t.seen_until FROM lease_tickets t WHERE t.name = lease AND t.ticket <> my_ticket
        ) AS ends (until);
    END IF;
END
$$;

-- Leave the line.
CREATE FUNCTION leave_line(lease text, my_ticket bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_lease(lease);
    DELETE FROM lease_tickets WHERE ticket = my_ticket;
    IF FOUND THEN
        PERFORM wake_first(lease);
    END IF;
END
$$;

-- Give leases back and wake who waits for them. In the order of names, so that two droppers cannot block each other.
CREATE FUNCTION drop_leases(names text[], holders text[], tokens bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    gone record;
BEGIN
    FOR gone IN
        SELECT * FROM unnest(names, holders, tokens) AS g (name, holder, token) ORDER BY name COLLATE "C"
    LOOP
        PERFORM lock_lease(gone.name);
        DELETE FROM leases l WHERE l.name = gone.name AND l.holder = gone.holder AND l.token = gone.token;
        IF FOUND THEN
            PERFORM wake_first(gone.name);
        END IF;
    END LOOP;
END
$$;
