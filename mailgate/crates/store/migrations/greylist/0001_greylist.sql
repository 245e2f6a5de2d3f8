-- What first contact remembers: tuples, the standings of networks, trap addresses.
CREATE TABLE tuple (
    client TEXT NOT NULL, reverse_path TEXT NOT NULL, forward_path TEXT NOT NULL,
    helo TEXT NOT NULL, said_reverse TEXT NOT NULL, said_forward TEXT NOT NULL,
    first INTEGER NOT NULL, pass INTEGER NOT NULL, expires INTEGER NOT NULL,
    blocked INTEGER NOT NULL, passed INTEGER NOT NULL,
    PRIMARY KEY (client, reverse_path, forward_path)
) STRICT, WITHOUT ROWID;
CREATE INDEX tuple_expires ON tuple (expires);
CREATE TABLE peer (
    network TEXT PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('passed', 'trapped')),
    origin TEXT NOT NULL CHECK (origin IN ('admin', 'learned')),
    first INTEGER NOT NULL, pass INTEGER NOT NULL, expires INTEGER NOT NULL,
    blocked INTEGER NOT NULL, passed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX peer_expires ON peer (expires);
CREATE TABLE trap_address (address TEXT PRIMARY KEY, added INTEGER NOT NULL) STRICT, WITHOUT ROWID;
