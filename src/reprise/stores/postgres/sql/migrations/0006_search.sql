-- Search: typed tags, words of errors, the newest runs that have no parent.

-- Text by code points, as queries compare it; and with the parent in it, the index of age says which runs have none.
ALTER TABLE runs
    ALTER workflow TYPE text COLLATE "C",
    ALTER status TYPE text COLLATE "C",
    ALTER parent TYPE text COLLATE "C",
    ALTER owner TYPE text COLLATE "C",
    ALTER build TYPE text COLLATE "C",
    -- As it was written: 1.0 must not come back as 1.
    ALTER tags TYPE text COLLATE "C" USING tags::text;
DROP INDEX runs_by_age;
CREATE INDEX runs_by_age ON runs (created_at, id, parent);

-- A tag's value is a text (true and false are texts too) or a number.
DROP TABLE run_tags;
CREATE TABLE run_tags (
    run text COLLATE "C",
    name text COLLATE "C",
    text text COLLATE "C",
    number numeric,
    created_at bigint NOT NULL,
    PRIMARY KEY (run, name)
);
-- Ordered so that a page of the newest with one tag is one walk.
CREATE INDEX run_tags_by_text ON run_tags (name, text, created_at, run);
CREATE INDEX run_tags_by_number ON run_tags (name, number, created_at, run) WHERE number IS NOT NULL;

-- Words of the errors of runs, as the client tells them.
CREATE TABLE run_errors (
    run text COLLATE "C" PRIMARY KEY,
    created_at bigint NOT NULL,
    words tsvector NOT NULL
);
CREATE INDEX run_errors_by_word ON run_errors USING gin (words);

-- Remove runs from the indexes beside their rows, before their rows change or go.
CREATE OR REPLACE FUNCTION untag_runs(ids text[]) RETURNS void LANGUAGE sql AS $$
    DELETE FROM run_tags WHERE run = ANY(ids);
    DELETE FROM run_errors WHERE run = ANY(ids);
$$;

-- Let runs be found by their tags and by the words of their errors, as an array of objects has them. Of a run that
-- begins without tags, or ends without an error and had none, nothing is written.
CREATE FUNCTION index_runs(changes jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    tagged text[] := (
        SELECT array_agg(c ->> 'id') FROM jsonb_array_elements(changes) AS c
        WHERE c ? 'values' AND (c -> 'values' <> '[]' OR NOT c ? 'workflow')
    );
    judged text[] := (
        SELECT array_agg(c ->> 'id') FROM jsonb_array_elements(changes) AS c
        WHERE c ->> 'words' <> ''
            OR c ? 'words' AND EXISTS (SELECT FROM run_errors e WHERE e.run = c ->> 'id')
    );
BEGIN
    IF tagged IS NOT NULL THEN
        DELETE FROM run_tags WHERE run = ANY(tagged);
        INSERT INTO run_tags
        SELECT runs.id, tag.name, tag.text, tag.number, runs.created_at
        FROM jsonb_array_elements(changes) AS c
        CROSS JOIN LATERAL jsonb_to_recordset(c -> 'values') AS tag (name text, text text, number numeric)
        JOIN runs ON runs.id = c ->> 'id'
        WHERE c ? 'values';
    END IF;
    IF judged IS NOT NULL THEN
        DELETE FROM run_errors WHERE run = ANY(judged);
        INSERT INTO run_errors
        SELECT runs.id, runs.created_at, (c ->> 'words')::tsvector
        FROM jsonb_array_elements(changes) AS c JOIN runs ON runs.id = c ->> 'id'
        WHERE c ->> 'words' <> '';
    END IF;
END
$$;

-- As before; tags are text now, and what runs are found by is told apart from what they are.
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
END
$$;
