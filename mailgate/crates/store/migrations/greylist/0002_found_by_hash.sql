-- Found by a hash, so that memory and the order of loading need no text; its rows are taken over at the opening.
ALTER TABLE tuple RENAME TO tuple_1;
DROP INDEX tuple_expires;
CREATE TABLE secret (value BLOB NOT NULL) STRICT;
INSERT INTO secret VALUES (randomblob(16));
CREATE TABLE tuple (
    key INTEGER PRIMARY KEY,
    first INTEGER NOT NULL, pass INTEGER NOT NULL, expires INTEGER NOT NULL,
    blocked INTEGER NOT NULL, passed INTEGER NOT NULL,
    client TEXT NOT NULL, reverse_path TEXT NOT NULL, forward_path TEXT NOT NULL,
    helo TEXT NOT NULL, said_reverse TEXT, said_forward TEXT
) STRICT;
CREATE TABLE trap_history (
    network TEXT PRIMARY KEY, times INTEGER NOT NULL, last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
