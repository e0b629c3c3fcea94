-- What is left of a task when it has ended, and for how long; queues that rest; what went through them.

-- until is also the end of keeping what has ended, 0 = never. again = microseconds after it was done in which the id is
-- not offered anew. What was done before had no promise to be kept.
DELETE FROM tasks WHERE state = 'done';
ALTER TABLE tasks
    ADD COLUMN outcome bytea NOT NULL DEFAULT '',
    ADD COLUMN level integer NOT NULL DEFAULT 0,
    ADD COLUMN ended_at bigint NOT NULL DEFAULT 0,
    ADD COLUMN again bigint NOT NULL DEFAULT 0;
UPDATE tasks SET ended_at = offered_at WHERE state = 'dead';
DROP INDEX tasks_by_state;
CREATE INDEX tasks_ended ON tasks (queue, state, ended_at, number) WHERE place = 0;

-- Queues from which nobody may claim.
CREATE TABLE resting (queue text COLLATE "C" PRIMARY KEY);

-- How many claims have ended well and badly, ever. Several rows for each queue, so that those who settle do not wait
-- for each other.
CREATE TABLE tallies (
    queue text COLLATE "C",
    slot integer,
    finished bigint NOT NULL,
    failed bigint NOT NULL,
    PRIMARY KEY (queue, slot)
) WITH (fillfactor = 50);

CREATE FUNCTION is_over(state text, until bigint, now bigint) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT state IN ('done', 'dead') AND until > 0 AND until <= now
$$;

-- Add tasks in their order, each id once; return which are new.
DROP FUNCTION offer_tasks(text[], text[], bytea[], double precision[], bigint[]);
CREATE FUNCTION offer_tasks(
    queues text[], ids text[], datas bytea[], ranks double precision[], dues bigint[], delays bigint[], notes text[],
    outcomes bytea[], levels integer[], agains bigint[]
) RETURNS TABLE (queue text, id text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    now bigint := now_us();
BEGIN
    RETURN QUERY
        INSERT INTO tasks AS old (
            number, queue, id, data, rank, due_at, state, claims, token, worker, until, note, offered_at, place, later_at,
            outcome, level, again
        )
        SELECT nextval('task_numbers'), queue, id, data, rank, due_at, 'ready', 0, 0, '', 0, note, now,
            place_of('ready', due_at, now), due_at, outcome, level, again
        FROM (
            SELECT queue, id, data, rank, CASE delay WHEN 0 THEN due_at ELSE now + delay END AS due_at, note, outcome,
                level, again
            FROM unnest(queues, ids, datas, ranks, dues, delays, notes, outcomes, levels, agains) WITH ORDINALITY
                AS t (queue, id, data, rank, due_at, delay, note, outcome, level, again, n)
            ORDER BY n
        ) AS offered
        ON CONFLICT (queue, id) DO UPDATE
        SET number = excluded.number, data = excluded.data, rank = excluded.rank, due_at = excluded.due_at,
            state = 'ready', claims = 0, token = 0, worker = '', until = 0, note = excluded.note, offered_at = now,
            place = excluded.place, later_at = excluded.later_at, outcome = excluded.outcome, level = excluded.level,
            ended_at = 0, again = excluded.again
        WHERE (old.state = 'done' AND old.ended_at + excluded.again <= now) OR is_over(old.state, old.until, now)
        RETURNING old.queue, old.id;
END
$$;

-- As before; a queue that rests gives nothing.
CREATE OR REPLACE FUNCTION claim_tasks(queue_name text, who text, most integer, ttl_us bigint)
RETURNS SETOF tasks LANGUAGE plpgsql AS $$
DECLARE
    now bigint := now_us();
    epoch bigint := (SELECT value << 40 FROM meta WHERE name = 'epoch');
BEGIN
    IF EXISTS (SELECT FROM resting WHERE queue = queue_name) THEN
        RETURN;
    END IF;
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

-- End claims, each of them once; return the numbers of those that were. A claim is named once in a batch.
CREATE FUNCTION settle_tasks(
    queues text[], ids text[], tokens bigint[], states text[], delays bigint[], notes text[], outcomes bytea[],
    keeps bigint[]
) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
DECLARE
    now bigint := now_us();
    ended bigint[];
    removed bigint[];
BEGIN
    WITH settled AS (
        UPDATE tasks SET
            state = CASE s.state WHEN 'back' THEN 'ready' ELSE s.state END,
            claims = claims - (s.state = 'back')::integer,
            data = CASE s.state WHEN 'done' THEN '' ELSE data END,
            due_at = CASE s.delay WHEN 0 THEN due_at ELSE now + s.delay END,
            note = s.note,
            outcome = coalesce(s.outcome, tasks.outcome),
            worker = '',
            until = CASE WHEN s.state IN ('done', 'dead') THEN coalesce(now + s.keep, 0) ELSE 0 END,
            ended_at = CASE WHEN s.state IN ('done', 'dead') THEN now ELSE 0 END,
            later_at = CASE s.delay WHEN 0 THEN due_at ELSE now + s.delay END,
            place = CASE WHEN s.state IN ('done', 'dead') THEN 0
                ELSE place_of('ready', CASE s.delay WHEN 0 THEN due_at ELSE now + s.delay END, now) END
        FROM unnest(queues, ids, tokens, states, delays, notes, outcomes, keeps) WITH ORDINALITY
            AS s (queue, id, token, state, delay, note, outcome, keep, n)
        WHERE tasks.queue = s.queue AND tasks.id = s.id AND tasks.token = s.token AND tasks.state = 'claimed'
            AND s.state <> 'gone'
        RETURNING s.n
    )
    SELECT coalesce(array_agg(n), '{}') INTO ended FROM settled;
    IF 'gone' = ANY(states) THEN
        WITH settled AS (
            DELETE FROM tasks USING unnest(queues, ids, tokens, states) WITH ORDINALITY AS s (queue, id, token, state, n)
            WHERE tasks.queue = s.queue AND tasks.id = s.id AND tasks.token = s.token AND tasks.state = 'claimed'
                AND s.state = 'gone'
            RETURNING s.n
        )
        SELECT coalesce(array_agg(n), '{}') INTO removed FROM settled;
        ended := ended || removed;
    END IF;
    INSERT INTO tallies AS t
    SELECT queues[n], pg_backend_pid() % 16, count(*) FILTER (WHERE states[n] IN ('done', 'gone')),
        count(*) FILTER (WHERE states[n] IN ('ready', 'dead'))
    FROM unnest(ended) AS n WHERE states[n] <> 'back' GROUP BY queues[n] ORDER BY queues[n]
    ON CONFLICT (queue, slot) DO UPDATE
    SET finished = t.finished + excluded.finished, failed = t.failed + excluded.failed;
    RETURN QUERY SELECT unnest(ended);
END
$$;
