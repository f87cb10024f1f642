-- Recovery codes of the second factor, as hashes; code from schema 2 on works with it.
CREATE TABLE recovery_codes (
    hash TEXT COLLATE "C" PRIMARY KEY,
    login TEXT COLLATE "C" NOT NULL REFERENCES users (login) ON DELETE CASCADE
);

CREATE INDEX recovery_codes_login ON recovery_codes (login);
