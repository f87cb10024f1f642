-- The outbox of mails, and confirmed addresses; code from schema 2 on works with it. Times are seconds
-- since 1970. The login of a mail is no foreign key: it may be one that nobody has.
CREATE TABLE mails (
    id TEXT COLLATE "C" PRIMARY KEY,
    kind TEXT NOT NULL,
    login TEXT COLLATE "C" NOT NULL,
    email TEXT COLLATE "C" NOT NULL,
    origin TEXT COLLATE "C" NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    due DOUBLE PRECISION,
    expires DOUBLE PRECISION NOT NULL,
    tries BIGINT NOT NULL,
    hash TEXT COLLATE "C" UNIQUE
);

CREATE INDEX mails_due ON mails (due) WHERE due IS NOT NULL;
CREATE INDEX mails_created ON mails (created);
CREATE INDEX mails_origin_created ON mails (origin, created);
CREATE INDEX mails_login ON mails (login);
CREATE INDEX mails_email ON mails (email);

CREATE TABLE addresses (
    email TEXT COLLATE "C" PRIMARY KEY,
    login TEXT COLLATE "C" NOT NULL UNIQUE REFERENCES users (login) ON DELETE CASCADE
);
