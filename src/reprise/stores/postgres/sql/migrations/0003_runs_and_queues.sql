-- The index of runs, found by many ways, and queues.

-- ---------------------------------------------------------------- runs

-- ended = the run's stream is closed. since = version after which replay reads, generation = how often the run has gone
-- on as a new one, warning = what somebody should know of it.
ALTER TABLE runs
    ADD COLUMN ended boolean NOT NULL DEFAULT false,
    ADD COLUMN since bigint NOT NULL DEFAULT 0,
    ADD COLUMN generation bigint NOT NULL DEFAULT 0,
    ADD COLUMN warning text NOT NULL DEFAULT '';
UPDATE runs SET ended = true FROM streams WHERE streams.name = 'run/' || runs.id AND streams.closed;

CREATE INDEX runs_by_age ON runs (created_at, id);
CREATE INDEX runs_by_status ON runs (status, created_at, id);
CREATE INDEX runs_by_workflow ON runs (workflow, created_at, id);
CREATE INDEX runs_by_parent ON runs (parent, created_at, id) WHERE parent IS NOT NULL;
CREATE INDEX runs_by_owner ON runs (owner, created_at, id) WHERE owner IS NOT NULL;
CREATE INDEX runs_due ON runs (due_at, id) WHERE due_at IS NOT NULL AND NOT ended;

-- Tags of runs, ordered so that a page of the newest with one tag is one walk.
CREATE TABLE run_tags (
    name text COLLATE "C",
    value text COLLATE "C",
    created_at bigint,
    run text COLLATE "C",
    PRIMARY KEY (name, value, created_at, run)
);
INSERT INTO run_tags SELECT tag.key, tag.value, created_at, id FROM runs, jsonb_each_text(tags) AS tag;

-- Remove runs from the index of tags, before their rows change or go.
CREATE FUNCTION untag_runs(ids text[]) RETURNS void LANGUAGE sql AS $$
    DELETE FROM run_tags USING runs, jsonb_each_text(runs.tags) AS tag
    WHERE runs.id = ANY(ids) AND run_tags.name = tag.key AND run_tags.value = tag.value
        AND run_tags.created_at = runs.created_at AND run_tags.run = runs.id
$$;

-- Write what a batch says about runs: an array of objects, one for each run. Fields that are not named stay as they
-- are. A row is made only by what names the workflow: mail to a run that was dropped meanwhile makes none.
CREATE FUNCTION change_runs(changes jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    tagged text[] := (SELECT array_agg(c ->> 'id') FROM jsonb_array_elements(changes) AS c WHERE c ? 'tags');
BEGIN
    PERFORM untag_runs(tagged) WHERE tagged IS NOT NULL;
    UPDATE runs SET
        updated_at = coalesce((c ->> 'at')::bigint, updated_at),
        workflow = coalesce(c ->> 'workflow', workflow),
        status = coalesce(c ->> 'status', status),
        parent = CASE WHEN c ? 'parent' THEN c ->> 'parent' ELSE parent END,
        owner = CASE WHEN c ? 'owner' THEN c ->> 'owner' ELSE owner END,
        due_at = CASE WHEN c ? 'due_at' THEN (c ->> 'due_at')::bigint ELSE due_at END,
        build = coalesce(c ->> 'build', build),
        tags = coalesce(c -> 'tags', tags),
        error = coalesce(c ->> 'error', error),
        ended = ended OR c ? 'ended',
        since = coalesce((c ->> 'since')::bigint, since),
        generation = coalesce((c ->> 'generation')::bigint, generation),
        warning = coalesce(c ->> 'warning', warning)
    FROM jsonb_array_elements(changes) AS c
    WHERE runs.id = c ->> 'id';
    INSERT INTO runs (id, workflow, status, created_at, updated_at, parent, owner, due_at, build, tags, error, ended,
        since, generation, warning)
    SELECT c ->> 'id', c ->> 'workflow', coalesce(c ->> 'status', 'pending'), (c ->> 'first_at')::bigint,
        (c ->> 'at')::bigint, c ->> 'parent', c ->> 'owner', (c ->> 'due_at')::bigint, coalesce(c ->> 'build', ''),
        coalesce(c -> 'tags', '{}'), coalesce(c ->> 'error', ''), c ? 'ended', coalesce((c ->> 'since')::bigint, 0),
        coalesce((c ->> 'generation')::bigint, 0), coalesce(c ->> 'warning', '')
    FROM jsonb_array_elements(changes) AS c
    WHERE c ? 'workflow'
    ON CONFLICT (id) DO NOTHING;
    INSERT INTO run_tags
    SELECT tag.key, tag.value, created_at, id FROM runs, jsonb_each_text(tags) AS tag WHERE id = ANY(tagged);
END
$$;

-- As before, with the changes of runs as text ('' = none).
DROP FUNCTION write_batch(
    text[], bigint[], bigint[], boolean[], text[], bigint[], bigint[], boolean[], integer[], bigint[], integer[],
    bigint[], text[], bytea[], bigint[], bigint[], bigint[], bigint[], jsonb
);
DROP FUNCTION change_run(jsonb);
CREATE FUNCTION write_batch(
    names text[], versions bigint[], tokens bigint[], closings boolean[],
    changed text[], new_versions bigint[], new_tokens bigint[], new_closings boolean[],
    owners integer[], record_versions bigint[], kinds integer[], ats bigint[], keys text[], datas bytea[],
    prints bigint[], tooks bigint[], appends bigint[], checksums bigint[],
    run_changes text
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    base bigint;
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

    IF run_changes <> '' THEN
        PERFORM change_runs(run_changes::jsonb);
    END IF;
    RETURN base;
END
$$;

-- As before; the run's tags go too.
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
    DELETE FROM streams WHERE id = stream_id;
    PERFORM untag_runs(ARRAY[run]);
    DELETE FROM runs WHERE id = run;
    UPDATE meta SET value = greatest(value, early.last, late.last) WHERE name = 'dropped';
    RETURN early.number + late.number;
END
$$;

-- Set when somebody should look at a run. A hint: a crash of the server may lose it, so nobody waits for the disk.
CREATE FUNCTION mark_run(run text, at bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE runs SET due_at = at WHERE id = run AND due_at IS DISTINCT FROM at;
END
$$;


-- ---------------------------------------------------------------- queues

-- number is the order of the offers, rank that of the work.
-- place: 1 = may be claimed, 2 = not before later_at (due later, or claimed until then), 0 = neither.
CREATE SEQUENCE task_numbers;
CREATE SEQUENCE task_tokens;
CREATE TABLE tasks (
    number bigint PRIMARY KEY,
    queue text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    data bytea NOT NULL,
    rank double precision NOT NULL,
    due_at bigint NOT NULL,
    state text NOT NULL,
    claims integer NOT NULL,
    token bigint NOT NULL,
    worker text NOT NULL,
    until bigint NOT NULL,
    note text NOT NULL,
    offered_at bigint NOT NULL,
    place smallint NOT NULL,
    later_at bigint NOT NULL,
    UNIQUE (queue, id)
) WITH (fillfactor = 80);
CREATE INDEX tasks_by_state ON tasks (queue, state, rank, number);
CREATE INDEX tasks_claimable ON tasks (queue, rank, number) WHERE place = 1;
CREATE INDEX tasks_later ON tasks (queue, later_at) WHERE place = 2;

CREATE FUNCTION place_of(state text, later_at bigint, now bigint) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN state NOT IN ('ready', 'claimed') THEN 0 WHEN later_at > now THEN 2 ELSE 1 END::smallint
$$;

-- Add tasks in their order, each id once; return how many were new. An id that is done may be offered anew.
CREATE FUNCTION offer_tasks(queues text[], ids text[], datas bytea[], ranks double precision[], dues bigint[])
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    now bigint := now_us();
    new_ones bigint;
BEGIN
    INSERT INTO tasks AS old
    SELECT nextval('task_numbers'), queue, id, data, rank, due_at, 'ready', 0, 0, '', 0, '', now,
        place_of('ready', due_at, now), due_at
    FROM (
        SELECT * FROM unnest(queues, ids, datas, ranks, dues) WITH ORDINALITY AS t (queue, id, data, rank, due_at, n)
        ORDER BY n
    ) AS offered
    ON CONFLICT (queue, id) DO UPDATE
    SET number = excluded.number, data = excluded.data, rank = excluded.rank, due_at = excluded.due_at,
        state = 'ready', claims = 0, token = 0, worker = '', until = 0, note = '', offered_at = now,
        place = excluded.place, later_at = excluded.later_at
    WHERE old.state = 'done';
    GET DIAGNOSTICS new_ones = ROW_COUNT;
    RETURN new_ones;
END
$$;

-- Claim tasks. What has become due, or whose claim ended, takes its place in the order before the order is asked.
-- Tasks that another claimer is at are passed over, so that nobody waits for anybody.
CREATE FUNCTION claim_tasks(queue_name text, who text, most integer, ttl_us bigint)
RETURNS SETOF tasks LANGUAGE plpgsql AS $$
DECLARE
    now bigint := now_us();
    epoch bigint := (SELECT value << 40 FROM meta WHERE name = 'epoch');
BEGIN
    LOOP
        WITH due AS MATERIALIZED (
            SELECT number FROM tasks WHERE queue = queue_name AND place = 2 AND later_at <= now
            ORDER BY later_at LIMIT 500 FOR UPDATE SKIP LOCKED
        )
        UPDATE tasks SET place = 1 FROM due WHERE tasks.number = due.number;
        EXIT WHEN NOT FOUND;
    END LOOP;
    RETURN QUERY
        WITH first AS MATERIALIZED (
            SELECT number FROM tasks WHERE queue = queue_name AND place = 1
            ORDER BY rank, number LIMIT most FOR UPDATE SKIP LOCKED
        )
        UPDATE tasks SET state = 'claimed', claims = claims + 1, token = epoch + nextval('task_tokens'), worker = who,
            until = now + ttl_us, place = place_of('claimed', now + ttl_us, now), later_at = now + ttl_us
        FROM first WHERE tasks.number = first.number
        RETURNING tasks.*;
END
$$;
