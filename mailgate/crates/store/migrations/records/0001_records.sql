CREATE TABLE domain (
    name TEXT PRIMARY KEY,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- `local` is compared without case (RFC 5321 §2.4 leaves that to the owner of the domain).
CREATE TABLE account (
    domain TEXT NOT NULL REFERENCES domain (name) ON DELETE RESTRICT,
    local TEXT NOT NULL COLLATE NOCASE,
    password TEXT NOT NULL,
    active INTEGER NOT NULL DEFAULT 1,
    maildir TEXT,
    created INTEGER NOT NULL,
    PRIMARY KEY (domain, local)
) STRICT, WITHOUT ROWID;

-- The empty `local` is the catch-all of a domain.
CREATE TABLE alias (
    domain TEXT NOT NULL REFERENCES domain (name) ON DELETE RESTRICT,
    local TEXT NOT NULL COLLATE NOCASE,
    target TEXT NOT NULL,
    PRIMARY KEY (domain, local, target)
) STRICT, WITHOUT ROWID;

CREATE TABLE dkim_key (
    domain TEXT NOT NULL,
    selector TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    private_key BLOB NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (domain, selector)
) STRICT, WITHOUT ROWID;
