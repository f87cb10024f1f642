-- Users own stuff at a price.
CREATE TABLE schema_version (version INTEGER PRIMARY KEY) STRICT;

CREATE TABLE users (
    login TEXT PRIMARY KEY CHECK (length(login) BETWEEN 2 AND 32),
    password TEXT NOT NULL,
    email TEXT NOT NULL,
    admin INTEGER NOT NULL CHECK (admin IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE TABLE stuff (
    name TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 100),
    owner TEXT NOT NULL REFERENCES users (login),
    price REAL NOT NULL CHECK (price BETWEEN 0 AND 1e12)
) STRICT, WITHOUT ROWID;

CREATE INDEX stuff_owner_name ON stuff (owner, name);
