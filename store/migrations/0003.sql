-- Answers to writes with an Idempotency-Key; code from schema 2 on works with it. Times are seconds
-- since 1970. The login is no foreign key, whose lock of the user would meet those of other changes;
-- delete_user removes the rows.
CREATE TABLE idempotency_keys (
    login TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    number BIGINT NOT NULL,
    answer TEXT NOT NULL,
    PRIMARY KEY (login, key)
);

CREATE INDEX idempotency_keys_created ON idempotency_keys (created);
CREATE INDEX idempotency_keys_login_created ON idempotency_keys (login, created);

-- the schema of the oldest code that works with this version, by default the version itself
ALTER TABLE schema_version ADD COLUMN oldest INTEGER;
