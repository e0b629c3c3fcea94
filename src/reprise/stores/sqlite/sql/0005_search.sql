-- Search: typed tags, words of errors, the newest runs that have no parent.

-- A tag's value is a number or a text, true and false being texts too; numbers sort before all texts.
CREATE TABLE typed_tags (
    run TEXT NOT NULL,
    name TEXT NOT NULL,
    value NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
INSERT INTO typed_tags SELECT run, name, value, created_at FROM run_tags ORDER BY run, name;
DROP TABLE run_tags;
ALTER TABLE typed_tags RENAME TO run_tags;
-- Ordered so that a page of the newest with one tag is one walk.
CREATE INDEX run_tags_by_value ON run_tags (name, value, created_at, run);

-- Runs with an error, numbered for the index of its words. That index keeps no text: what is deleted from it is told to
-- it again. It is given words as `words()` makes them, so the tokenizer has only spaces to see.
CREATE TABLE run_errors (
    number INTEGER PRIMARY KEY,
    run TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
);
CREATE VIRTUAL TABLE error_words USING fts5 (words, content = '', columnsize = 0, tokenize = 'ascii');
INSERT INTO run_errors (run, created_at) SELECT id, created_at FROM runs WHERE error <> '' ORDER BY created_at, id;
INSERT INTO error_words (rowid, words) SELECT e.number, words(r.error) FROM run_errors e JOIN runs r ON r.id = e.run
    ORDER BY e.number;

-- With the parent in it, that index alone says which runs have none.
DROP INDEX runs_by_age;
CREATE INDEX runs_by_age ON runs (created_at, id, parent);
