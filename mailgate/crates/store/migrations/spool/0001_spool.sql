-- One accepted message. Rows are deleted when every recipient is done; what remains is a row of `history`.
CREATE TABLE message (
    id           INTEGER PRIMARY KEY,  -- QueueId, 64 bits
    arrived      INTEGER NOT NULL,     -- milliseconds since 1970
    reverse_path TEXT    NOT NULL,     -- '' is the null reverse-path
    envid        TEXT,                 -- xtext, RFC 3461 §4.4
    ret          TEXT CHECK (ret IN ('full', 'headers')),
    smtputf8     INTEGER NOT NULL,
    eight_bit    INTEGER NOT NULL,
    size         INTEGER NOT NULL,     -- octets of the content
    place        TEXT    NOT NULL CHECK (place IN ('file', 'row'))
) STRICT;

-- Contents up to the limit of `place = 'row'`; larger ones are files. A table of its own, so that listing and changing
-- messages does not move contents.
CREATE TABLE content (
    id    INTEGER PRIMARY KEY REFERENCES message (id) ON DELETE CASCADE,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE recipient (
    id           INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
    number       INTEGER NOT NULL,     -- index in the accepted envelope, from 0
    address      TEXT    NOT NULL,
    host         TEXT    NOT NULL,     -- right of the @, for limits per domain
    original     TEXT    NOT NULL,
    notify       INTEGER NOT NULL,     -- 1 success, 2 failure, 4 delay (RFC 3461 §4.1)
    orcpt        TEXT,
    state        TEXT    NOT NULL CHECK (state IN ('delivered', 'expired', 'failed', 'held', 'queued', 'relayed')),
    attempts     INTEGER NOT NULL,
    next_attempt INTEGER NOT NULL,     -- milliseconds since 1970
    delay_said   INTEGER NOT NULL,     -- 1 once a delay was reported to the reverse-path
    changed      INTEGER NOT NULL,     -- of the last outcome, milliseconds since 1970
    outcome      TEXT,                 -- last outcome as JSON
    PRIMARY KEY (id, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX recipient_due ON recipient (next_attempt, host) WHERE state = 'queued';

-- What became of messages that are gone: the memory of `mailgate why`.
CREATE TABLE history (
    id           INTEGER PRIMARY KEY,
    arrived      INTEGER NOT NULL,
    finished     INTEGER NOT NULL,
    reverse_path TEXT    NOT NULL,
    size         INTEGER NOT NULL,
    recipients   TEXT    NOT NULL      -- JSON, as `queue show` prints them
) STRICT;

CREATE INDEX history_finished ON history (finished);
