-- Fragments out of which reprise.stores.searching puts statements together. `:name` stands for a value.
-- Sources give (created_at, run). How to go was decided by counting, and the
-- connections on which pages are asked for keep the planner to it (STEERED in runs.py).

-- name: page
-- First which runs, then what there is to say of them: what is sorted on the way is small.
SELECT r.id, r.workflow, r.status, r.created_at, r.updated_at, r.parent, r.owner, r.due_at, r.build, r.tags, r.error,
    coalesce((SELECT s.token FROM streams s WHERE s.name = 'run/' || r.id), 0), r.since, r.generation, r.warning,
    m.slots, m.in_line, m.refused, m.pinned
FROM (/* found */) c JOIN runs r ON r.id = c.run LEFT JOIN terms m ON m.run = r.id
ORDER BY /* order */

-- name: found
-- Where the conditions ask of nothing but tags and words.
SELECT c.created_at, c.run FROM (/* candidates */) c WHERE /* conditions */ ORDER BY /* order */ LIMIT :limit

-- name: found_in_rows
SELECT c.created_at, c.run FROM (/* candidates */) c JOIN runs r ON r.id = c.run
WHERE /* conditions */ ORDER BY /* order */ LIMIT :limit

-- name: candidates
SELECT c.created_at, c.run FROM (/* source */) c WHERE /* bounds */

-- name: first_of_them
ORDER BY /* order */ LIMIT :first

-- name: count
SELECT /* group */, count(*) FROM (/* source */) c JOIN runs r ON r.id = c.run WHERE /* conditions */ GROUP BY 1

-- name: size
(SELECT count(*) FROM (SELECT 1 FROM (/* source */) AS c LIMIT :most) AS entries)

-- name: total
SELECT count(*) FROM (/* source */) AS c

-- name: edge
SELECT created_at FROM runs WHERE id = :run

-- name: tag_names
-- From name to name by the index, however many tags have each.
WITH RECURSIVE names (name) AS (
    SELECT min(name) FROM run_tags
    UNION ALL
    SELECT (SELECT min(t.name) FROM run_tags t WHERE t.name > names.name) FROM names WHERE names.name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL

-- name: group_tag
(SELECT coalesce(to_jsonb(g.text), to_jsonb(g.number)) FROM run_tags g WHERE g.run = r.id AND g.name = :name)


-- ---------------------------------------------------------------- bounds of a walk by age

-- name: start_newest
c.created_at <= :start

-- name: start_oldest
c.created_at >= :start

-- name: horizon_newest
c.created_at >= :horizon

-- name: horizon_oldest
c.created_at <= :horizon

-- name: after_newest
(c.created_at, c.run) < (:edge, :run)

-- name: after_oldest
(c.created_at, c.run) > (:edge, :run)

-- name: horizon
SELECT c.created_at FROM (SELECT created_at, id AS run FROM runs) c
WHERE /* bounds */ ORDER BY /* order */ LIMIT 1 OFFSET :skip

-- name: first_newest
(SELECT max(c.created_at) FROM (/* source */) c)

-- name: first_oldest
(SELECT min(c.created_at) FROM (/* source */) c)


-- ---------------------------------------------------------------- sources

-- name: from_every
SELECT created_at, id AS run FROM runs

-- name: from_roots
SELECT created_at, id AS run FROM runs WHERE parent IS NULL

-- name: from_id
SELECT created_at, id AS run FROM runs WHERE id = :value

-- name: from_column
SELECT created_at, id AS run FROM runs WHERE /* column */ = :value

-- name: from_below
SELECT created_at, id AS run FROM runs WHERE /* column */ < :value

-- name: from_above
SELECT created_at, id AS run FROM runs WHERE /* column */ > :value

-- name: from_range
SELECT created_at, id AS run FROM runs WHERE /* column */ >= :low AND /* column */ < :high

-- name: from_tag_text
SELECT created_at, run FROM run_tags WHERE name = :name AND text = :value

-- name: from_tag_number
SELECT created_at, run FROM run_tags WHERE name = :name AND number = :value

-- name: from_tag_any
SELECT created_at, run FROM run_tags WHERE name = :name

-- name: from_tag_range
SELECT created_at, run FROM run_tags WHERE name = :name AND text >= :low AND text < :high

-- name: from_tag_numbers
SELECT created_at, run FROM run_tags WHERE name = :name AND number IS NOT NULL

-- name: from_tag_texts
SELECT created_at, run FROM run_tags WHERE name = :name

-- name: bound_number
AND number /* op */ :value

-- name: bound_text
AND text /* op */ :value

-- name: numbers_end

-- name: texts_end

-- name: from_words
SELECT created_at, run FROM run_errors WHERE words @@ (:phrase::text)::tsquery


-- ---------------------------------------------------------------- conditions; none of them is ever NULL
-- Those on tags and words are scalars, not EXISTS: the planner makes no join or hash of them, whatever it expects.

-- name: is
/* column */ IS NOT DISTINCT FROM :value

-- name: starts
coalesce(/* column */ >= :low AND /* column */ < :high, false)

-- name: bound
/* column */ /* op */ :value

-- name: compare
coalesce(/* column */ /* op */ :value, false)

-- name: says
coalesce((SELECT e.words @@ (:phrase::text)::tsquery FROM run_errors e WHERE e.run = /* run */), false)

-- name: tag_none
(SELECT t.created_at FROM run_tags t WHERE t.run = /* run */ AND t.name = :name) IS NULL

-- name: tag_is_text
coalesce((SELECT t.text = :value FROM run_tags t WHERE t.run = /* run */ AND t.name = :name), false)

-- name: tag_is_number
coalesce((SELECT t.number = :value FROM run_tags t WHERE t.run = /* run */ AND t.name = :name), false)

-- name: tag_number
coalesce((SELECT t.number /* op */ :value FROM run_tags t WHERE t.run = /* run */ AND t.name = :name), false)

-- name: tag_text
coalesce((SELECT t.text /* op */ :value FROM run_tags t WHERE t.run = /* run */ AND t.name = :name), false)

-- name: tag_starts
coalesce((SELECT t.text >= :low AND t.text < :high FROM run_tags t WHERE t.run = /* run */ AND t.name = :name), false)


-- ---------------------------------------------------------------- the same where all is counted
-- A count reads to the end, so the planner may make of these what it thinks best.

-- name: counted_says
EXISTS (SELECT FROM run_errors e WHERE e.run = /* run */ AND e.words @@ (:phrase::text)::tsquery)

-- name: counted_tag_none
NOT EXISTS (SELECT FROM run_tags t WHERE t.run = /* run */ AND t.name = :name)

-- name: counted_tag_is_text
EXISTS (SELECT FROM run_tags t WHERE t.run = /* run */ AND t.name = :name AND t.text = :value)

-- name: counted_tag_is_number
EXISTS (SELECT FROM run_tags t WHERE t.run = /* run */ AND t.name = :name AND t.number = :value)

-- name: counted_tag_number
EXISTS (SELECT FROM run_tags t WHERE t.run = /* run */ AND t.name = :name AND t.number /* op */ :value)

-- name: counted_tag_text
EXISTS (SELECT FROM run_tags t WHERE t.run = /* run */ AND t.name = :name AND t.text /* op */ :value)

-- name: counted_tag_starts
EXISTS (SELECT FROM run_tags t WHERE t.run = /* run */ AND t.name = :name AND t.text >= :low AND t.text < :high)
