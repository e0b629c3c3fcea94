-- A run may be pinned to a build: its workers alone take it. NULL = it is not; such a row is sealed as before there were pins.
ALTER TABLE terms ADD COLUMN pinned TEXT;
