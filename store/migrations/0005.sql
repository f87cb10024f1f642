-- The audit trail, and when users were added; code from schema 2 on works with it. Times are seconds
-- since 1970. The login of an event is no foreign key: events outlive their users.
CREATE TABLE events (
    id TEXT COLLATE "C" PRIMARY KEY,
    time DOUBLE PRECISION NOT NULL,
    event TEXT NOT NULL,
    login TEXT COLLATE "C" NOT NULL,
    who TEXT NOT NULL,
    origin TEXT NOT NULL,
    session TEXT NOT NULL,
    key TEXT NOT NULL,
    times BIGINT NOT NULL
);

CREATE INDEX events_login_id ON events (login, id);

ALTER TABLE users ADD COLUMN created DOUBLE PRECISION NOT NULL DEFAULT 0;
