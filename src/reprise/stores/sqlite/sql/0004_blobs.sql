-- Large payloads, each stored once. The hash of the data is its checksum.
CREATE TABLE blobs (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    data BLOB NOT NULL
);

-- Which streams refer to a blob, and up to which version they do.
CREATE TABLE blob_references (
    blob INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (blob, stream)
) WITHOUT ROWID;
CREATE INDEX blob_references_by_stream ON blob_references (stream);

-- Blobs that lost a reference: only these need to be looked at to find those that have none.
CREATE TABLE loose_blobs (
    blob INTEGER PRIMARY KEY
);
