-- API keys of users; code from schema 2 on works with it. Times are seconds since 1970.
CREATE TABLE api_keys (
    id TEXT COLLATE "C" PRIMARY KEY,
    login TEXT COLLATE "C" NOT NULL REFERENCES users (login) ON DELETE CASCADE,
    name TEXT NOT NULL,
    scope TEXT NOT NULL CHECK (scope IN ('read', 'write')),
    created DOUBLE PRECISION NOT NULL,
    expires DOUBLE PRECISION NOT NULL,
    used DOUBLE PRECISION NOT NULL,
    hash TEXT COLLATE "C" NOT NULL UNIQUE
);

CREATE INDEX api_keys_login ON api_keys (login);
