-- Clients that are names, and why each decision fell as it did.
ALTER TABLE tuple ADD COLUMN ip TEXT;
CREATE TABLE identity (
    name TEXT PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, expires INTEGER NOT NULL,
    messages INTEGER NOT NULL, retries INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX identity_expires ON identity (expires);
CREATE TABLE decision (
    number INTEGER PRIMARY KEY, at INTEGER NOT NULL, session TEXT NOT NULL, ip TEXT NOT NULL,
    identity TEXT NOT NULL, helo TEXT NOT NULL, reverse_path TEXT NOT NULL, forward_path TEXT NOT NULL,
    result TEXT NOT NULL, reason TEXT NOT NULL, findings TEXT NOT NULL, points INTEGER NOT NULL,
    waited INTEGER, queue_id TEXT NOT NULL DEFAULT '', message_id TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX decision_session ON decision (session);
CREATE INDEX decision_ip ON decision (ip);
