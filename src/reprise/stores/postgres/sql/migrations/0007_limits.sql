-- Limits: the places of runs, the lines in which runs wait for them, and which builds could not replay a run.

-- On what terms a worker may take a run. Only runs that start under a limit, or that some build could not replay, have
-- a row; it goes when the run ends. slots and refused are JSON: [[limit, key, most, period], ...] and [build, ...].
-- in_line = it waits for its places, in the order of the runs' creation; line stands for the slots in the index, for
-- those may be long.
CREATE TABLE terms (
    run text COLLATE "C" PRIMARY KEY,
    slots jsonb NOT NULL,
    in_line boolean NOT NULL,
    created_at bigint NOT NULL,
    refused jsonb NOT NULL,
    line text COLLATE "C" GENERATED ALWAYS AS (md5(slots::text)) STORED
);
CREATE INDEX terms_in_line ON terms (line, created_at, run) WHERE in_line;

-- A place is a lease slot/... or rate/... that a run holds. Those of slot/... are given back, those of rate/... end.
CREATE INDEX leases_of_runs ON leases (holder) WHERE name >= 'slot/' AND name < 'slot0';

CREATE FUNCTION give_back(runs text[]) RETURNS void LANGUAGE sql AS $$
    DELETE FROM leases WHERE holder = ANY(runs) AND name >= 'slot/' AND name < 'slot0'
$$;

-- Take and give back places for the appends of a batch, in their order: an array of {"back": run} and
-- {"append": number, "takes": [[run, token, lease, most, period], ...]}. The answer is which appends lack which lease;
-- an append takes all its places or none. A place that a run has already is no other's.
CREATE FUNCTION take_places(changes jsonb, OUT refused integer[], OUT lacking text[]) LANGUAGE plpgsql AS $$
DECLARE
    now bigint := now_us();
    change jsonb;
    place record;
    lacks text;
BEGIN
    refused := '{}';
    lacking := '{}';
    FOR change IN SELECT * FROM jsonb_array_elements(changes) LOOP
        IF change ? 'back' THEN
            PERFORM give_back(ARRAY[change ->> 'back']);
            CONTINUE;
        END IF;
        BEGIN
            FOR place IN
                SELECT v ->> 0 AS run, (v ->> 1)::bigint AS token, v ->> 2 AS lease, (v ->> 3)::bigint AS most,
                    (v ->> 4)::bigint AS period
                FROM jsonb_array_elements(change -> 'takes') AS v
            LOOP
                DELETE FROM leases WHERE name = place.lease AND expires_at <= now;
                CONTINUE WHEN EXISTS (SELECT FROM leases WHERE name = place.lease AND holder = place.run);
                IF (SELECT count(*) FROM leases WHERE name = place.lease) >= place.most THEN
                    lacks := place.lease;
                    RAISE EXCEPTION USING ERRCODE = 'RPFUL';
                END IF;
                INSERT INTO leases (name, holder, token, shared, expires_at) VALUES (
                    place.lease, place.run, place.token, false,
                    CASE place.period WHEN 0 THEN 4611686018427387904 ELSE now + place.period END
                );
            END LOOP;
        EXCEPTION WHEN SQLSTATE 'RPFUL' THEN
            refused := refused || (change ->> 'append')::integer;
            lacking := lacking || lacks;
        END;
    END LOOP;
END
$$;

-- Write a batch of which some appends need places; all of it or nothing. Nothing is written when the writer believed in
-- old heads (base is NULL), nor when an append lacks a place (then it is named): the batch is judged again without it.
CREATE FUNCTION write_limited_batch(
    names text[], versions bigint[], tokens bigint[], closings boolean[],
    changed text[], new_versions bigint[], new_tokens bigint[], new_closings boolean[],
    owners integer[], record_versions bigint[], kinds integer[], ats bigint[], keys text[], datas bytea[],
    prints bigint[], tooks bigint[], appends bigint[], checksums bigint[],
    run_changes text, place_changes text,
    hashes bytea[], blob_datas bytea[], blob_names text[], blob_versions bigint[],
    OUT base bigint, OUT refused integer[], OUT lacking text[]
) LANGUAGE plpgsql AS $$
BEGIN
    refused := '{}';
    lacking := '{}';
    BEGIN
        base := write_batch(
            names, versions, tokens, closings, changed, new_versions, new_tokens, new_closings, owners,
            record_versions, kinds, ats, keys, datas, prints, tooks, appends, checksums, run_changes
        );
        IF base IS NULL THEN
            RETURN;
        END IF;
        PERFORM write_blobs(hashes, blob_datas, blob_names, blob_versions);
        SELECT t.refused, t.lacking INTO refused, lacking FROM take_places(place_changes::jsonb) AS t;
        IF refused <> '{}' THEN
            RAISE EXCEPTION USING ERRCODE = 'RPFUL';
        END IF;
    EXCEPTION WHEN SQLSTATE 'RPFUL' THEN
        base := NULL;
    END;
END
$$;

-- Write what a batch says about the terms of runs, after their rows were changed.
CREATE FUNCTION change_terms(changes jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    leaving text[];
BEGIN
    IF NOT EXISTS (SELECT FROM jsonb_array_elements(changes) AS c WHERE c ? 'slots' OR c ? 'refused')
        AND NOT EXISTS (SELECT FROM terms)
    THEN
        RETURN;
    END IF;
    INSERT INTO terms (run, slots, in_line, created_at, refused)
    SELECT id, '[]', false, created_at, '[]' FROM jsonb_array_elements(changes) AS c JOIN runs ON id = c ->> 'id'
    WHERE NOT runs.ended AND (c -> 'slots' <> '[]' OR c -> 'refused' <> '[]')
    ON CONFLICT (run) DO NOTHING;
    UPDATE terms SET
        slots = coalesce(c -> 'slots', slots),
        refused = coalesce(c -> 'refused', refused),
        in_line = coalesce((c ->> 'in_line')::boolean, in_line) AND runs.owner IS NULL
    FROM jsonb_array_elements(changes) AS c JOIN runs ON id = c ->> 'id'
    WHERE run = c ->> 'id';
    -- Asked first: who only starts runs and sends mail has no right to delete.
    IF EXISTS (SELECT FROM jsonb_array_elements(changes) AS c WHERE c ? 'ended') THEN
        DELETE FROM terms USING jsonb_array_elements(changes) AS c WHERE run = c ->> 'id' AND c ? 'ended';
    END IF;
    leaving := (
        SELECT array_agg(c ->> 'id') FROM jsonb_array_elements(changes) AS c
        WHERE c ? 'ended' OR NOT c ? 'workflow' AND (c ? 'gives_back' OR (c ? 'owner' AND c ->> 'owner' IS NULL))
    );
    IF leaving IS NOT NULL THEN
        PERFORM give_back(leaving);
    END IF;
END
$$;

-- As before; their terms too.
CREATE OR REPLACE FUNCTION change_runs(changes jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE runs SET
        updated_at = coalesce((c ->> 'at')::bigint, updated_at),
        workflow = coalesce(c ->> 'workflow', workflow),
        status = coalesce(c ->> 'status', status),
        parent = CASE WHEN c ? 'parent' THEN c ->> 'parent' ELSE parent END,
        owner = CASE WHEN c ? 'owner' THEN c ->> 'owner' ELSE owner END,
        due_at = CASE WHEN c ? 'due_at' THEN (c ->> 'due_at')::bigint ELSE due_at END,
        build = coalesce(c ->> 'build', build),
        tags = coalesce(c ->> 'tags', tags),
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
        coalesce(c ->> 'tags', '{}'), coalesce(c ->> 'error', ''), c ? 'ended', coalesce((c ->> 'since')::bigint, 0),
        coalesce((c ->> 'generation')::bigint, 0), coalesce(c ->> 'warning', '')
    FROM jsonb_array_elements(changes) AS c
    WHERE c ? 'workflow'
    ON CONFLICT (id) DO NOTHING;
    PERFORM index_runs(changes);
    PERFORM change_terms(changes);
END
$$;

-- As before; the places and terms of the runs go along.
CREATE OR REPLACE FUNCTION drop_streams(stream_names text[]) RETURNS bigint LANGUAGE plpgsql AS $$
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
    PERFORM give_back(doomed_runs);
    DELETE FROM terms WHERE run = ANY(doomed_runs);
    DELETE FROM runs WHERE id = ANY(doomed_runs);
    UPDATE meta SET value = greatest(value, early.last, late.last) WHERE name = 'dropped';
    RETURN early.number + late.number;
END
$$;
