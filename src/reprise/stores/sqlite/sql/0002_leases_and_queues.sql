-- Leases and queues. As in the first step every row ends with the checksum of its other columns.

-- Who may act. Rows whose time is over are removed when their name is asked for again.
CREATE TABLE leases (
    name TEXT NOT NULL,
    holder TEXT NOT NULL,
    token INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    shared INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    PRIMARY KEY (name, holder)
) WITHOUT ROWID;

-- Who waits for a lease, in the order of the tickets. `process` is the name of its socket: when nobody has that open,
-- the ticket is void at once; `until` voids that of a process that is stopped.
CREATE TABLE tickets (
    ticket INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    process TEXT NOT NULL,
    until INTEGER NOT NULL
);
CREATE INDEX tickets_by_name ON tickets (name, ticket);

-- Queued work. `number` is the order of the offers, `rank` that of the work.
-- `place`: 1 = may be claimed, 2 = not before `later_at` (due later, or claimed until then), 0 = neither.
CREATE TABLE tasks (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    id TEXT NOT NULL,
    data BLOB NOT NULL,
    rank REAL NOT NULL,
    due_at INTEGER NOT NULL,
    state TEXT NOT NULL,
    claims INTEGER NOT NULL,
    token INTEGER NOT NULL,
    worker TEXT NOT NULL,
    until INTEGER NOT NULL,
    note TEXT NOT NULL,
    offered_at INTEGER NOT NULL,
    place INTEGER NOT NULL,
    later_at INTEGER NOT NULL,
    crc INTEGER NOT NULL
);
CREATE UNIQUE INDEX tasks_by_id ON tasks (queue, id);
CREATE INDEX tasks_by_state ON tasks (queue, state, rank, number);
CREATE INDEX tasks_claimable ON tasks (queue, rank, number) WHERE place = 1;
CREATE INDEX tasks_later ON tasks (queue, later_at) WHERE place = 2;
