-- A run may be pinned to a build: its workers alone take it. '' = it is not.
ALTER TABLE terms ADD COLUMN pinned text COLLATE "C" NOT NULL DEFAULT '';

-- As before; also the pin.
CREATE OR REPLACE FUNCTION change_terms(changes jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    leaving text[];
BEGIN
    IF NOT EXISTS (SELECT FROM jsonb_array_elements(changes) AS c WHERE c ? 'slots' OR c ? 'refused' OR c ? 'pinned')
        AND NOT EXISTS (SELECT FROM terms)
    THEN
        RETURN;
    END IF;
    INSERT INTO terms (run, slots, in_line, created_at, refused)
    SELECT id, '[]', false, created_at, '[]' FROM jsonb_array_elements(changes) AS c JOIN runs ON id = c ->> 'id'
    WHERE NOT runs.ended AND (c -> 'slots' <> '[]' OR c -> 'refused' <> '[]' OR c ->> 'pinned' <> '')
    ON CONFLICT (run) DO NOTHING;
    UPDATE terms SET
        slots = coalesce(c -> 'slots', slots),
        refused = coalesce(c -> 'refused', refused),
        pinned = coalesce(c ->> 'pinned', pinned),
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
