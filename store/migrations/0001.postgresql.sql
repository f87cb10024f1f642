-- Users own stuff at a price. COLLATE "C" is the order of Python and SQLite.
CREATE TABLE schema_version (version INTEGER PRIMARY KEY);

CREATE TABLE users (
    login TEXT COLLATE "C" PRIMARY KEY CHECK (length(login) BETWEEN 2 AND 32),
    password TEXT NOT NULL,
    email TEXT NOT NULL,
    admin BOOLEAN NOT NULL
);

CREATE TABLE stuff (
    name TEXT COLLATE "C" PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 100),
    owner TEXT COLLATE "C" NOT NULL REFERENCES users (login),
    price DOUBLE PRECISION NOT NULL CHECK (price BETWEEN 0 AND 1e12)
);

CREATE INDEX stuff_owner_name ON stuff (owner, name);
