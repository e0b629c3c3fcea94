-- Fragments out of which reprise.stores.searching puts statements together.
-- Sources give (created_at, run). INDEXED BY and CROSS JOIN: which way to go was decided by counting, not by a guess.

-- name: page
-- First which runs, then what there is to say of them: what is sorted on the way is small.
SELECT r.id, r.workflow, r.status, r.created_at, r.updated_at, r.parent, r.owner, r.due_at, r.build, r.tags,
    r.error, r.ended, r.since, r.generation, r.warning, r.crc, m.run, m.slots, m.in_line, m.created_at, m.refused,
    m.pinned, m.crc, s.token
FROM (/* found */) c CROSS JOIN runs r ON r.id = c.run LEFT JOIN streams s ON s.name = 'run/' || r.id
    LEFT JOIN terms m ON m.run = r.id
ORDER BY /* order */

-- name: found
-- Where the conditions ask of nothing but tags and words.
SELECT c.created_at, c.run FROM (/* candidates */) c WHERE /* conditions */ ORDER BY /* order */ LIMIT :limit

-- name: found_in_rows
SELECT c.created_at, c.run FROM (/* candidates */) c CROSS JOIN runs r ON r.id = c.run
WHERE /* conditions */ ORDER BY /* order */ LIMIT :limit

-- name: candidates
SELECT c.created_at, c.run FROM (/* source */) c WHERE /* bounds */

-- name: first_of_them
ORDER BY /* order */ LIMIT :first

-- name: count
SELECT /* group */, count(*) FROM (/* source */) c CROSS JOIN runs r ON r.id = c.run WHERE /* conditions */ GROUP BY 1

-- name: size
(SELECT count(*) FROM (SELECT 1 FROM (/* source */) LIMIT :most))

-- name: total
SELECT count(*) FROM (/* source */)

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
(SELECT g.value FROM run_tags g WHERE g.run = r.id AND g.name = :name)


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
SELECT c.created_at FROM (SELECT created_at, id AS run FROM runs INDEXED BY runs_by_age WHERE 1) c
WHERE /* bounds */ ORDER BY /* order */ LIMIT 1 OFFSET :skip

-- name: first_newest
(SELECT max(c.created_at) FROM (/* source */) c)

-- name: first_oldest
(SELECT min(c.created_at) FROM (/* source */) c)


-- ---------------------------------------------------------------- sources

-- name: from_every
SELECT created_at, id AS run FROM runs INDEXED BY runs_by_age WHERE 1

-- name: from_roots
SELECT created_at, id AS run FROM runs INDEXED BY runs_by_age WHERE parent IS NULL

-- name: from_id
SELECT created_at, id AS run FROM runs WHERE id = :value

-- name: from_column
SELECT created_at, id AS run FROM runs INDEXED BY runs_by_/* column */ WHERE /* column */ = :value

-- name: from_below
SELECT created_at, id AS run FROM runs INDEXED BY runs_by_/* column */ WHERE /* column */ < :value

-- name: from_above
SELECT created_at, id AS run FROM runs INDEXED BY runs_by_/* column */ WHERE /* column */ > :value

-- name: from_range
SELECT created_at, id AS run FROM runs WHERE /* column */ >= :low AND /* column */ < :high

-- name: from_tag_text
SELECT created_at, run FROM run_tags INDEXED BY run_tags_by_value WHERE name = :name AND value = :value

-- name: from_tag_number
SELECT created_at, run FROM run_tags INDEXED BY run_tags_by_value WHERE name = :name AND value = :value

-- name: from_tag_any
SELECT created_at, run FROM run_tags INDEXED BY run_tags_by_value WHERE name = :name

-- name: from_tag_range
SELECT created_at, run FROM run_tags INDEXED BY run_tags_by_value
WHERE name = :name AND value >= :low AND value < :high

-- name: from_tag_numbers
SELECT created_at, run FROM run_tags INDEXED BY run_tags_by_value WHERE name = :name

-- name: from_tag_texts
SELECT created_at, run FROM run_tags INDEXED BY run_tags_by_value WHERE name = :name

-- name: bound_number
AND value /* op */ :value

-- name: bound_text
AND value /* op */ :value

-- name: numbers_end
AND value < ''

-- name: texts_end
AND value >= ''

-- name: from_words
SELECT e.created_at, e.run FROM error_words w CROSS JOIN run_errors e ON e.number = w.rowid
WHERE w.error_words MATCH :phrase


-- ---------------------------------------------------------------- conditions; none of them is ever NULL

-- name: is
/* column */ IS :value

-- name: starts
ifnull(/* column */ >= :low AND /* column */ < :high, 0)

-- name: bound
/* column */ /* op */ :value

-- name: compare
ifnull(/* column */ /* op */ :value, 0)

-- name: says
/* run */ IN (SELECT e.run FROM error_words w CROSS JOIN run_errors e ON e.number = w.rowid WHERE w.error_words MATCH :phrase)

-- name: tag_none
NOT EXISTS (SELECT 1 FROM run_tags t WHERE t.run = /* run */ AND t.name = :name)

-- name: tag_is_text
-- By the index of values: of one value it is dense, and in the order in which most candidates come.
EXISTS (SELECT 1 FROM run_tags t INDEXED BY run_tags_by_value
    WHERE t.name = :name AND t.value = :value AND t.created_at = /* created_at */ AND t.run = /* run */)

-- name: tag_is_number
EXISTS (SELECT 1 FROM run_tags t INDEXED BY run_tags_by_value
    WHERE t.name = :name AND t.value = :value AND t.created_at = /* created_at */ AND t.run = /* run */)

-- name: tag_number
EXISTS (SELECT 1 FROM run_tags t
    WHERE t.run = /* run */ AND t.name = :name AND typeof(t.value) <> 'text' AND t.value /* op */ :value)

-- name: tag_text
EXISTS (SELECT 1 FROM run_tags t
    WHERE t.run = /* run */ AND t.name = :name AND typeof(t.value) = 'text' AND t.value /* op */ :value)

-- name: tag_starts
EXISTS (SELECT 1 FROM run_tags t
    WHERE t.run = /* run */ AND t.name = :name AND t.value >= :low AND t.value < :high)
