-- Accounts: users may be disabled, have one-time passwords, and sessions. Times are seconds since 1970.
ALTER TABLE users
    ADD COLUMN active BOOLEAN NOT NULL DEFAULT TRUE,
    ADD COLUMN otp_secret TEXT,
    ADD COLUMN otp BOOLEAN NOT NULL DEFAULT FALSE,
    ADD COLUMN otp_step BIGINT NOT NULL DEFAULT 0;

CREATE INDEX users_admin ON users (login) WHERE admin AND active;

CREATE TABLE sessions (
    id TEXT COLLATE "C" PRIMARY KEY,
    login TEXT COLLATE "C" NOT NULL REFERENCES users (login) ON DELETE CASCADE,
    created DOUBLE PRECISION NOT NULL,
    used DOUBLE PRECISION NOT NULL,
    expires DOUBLE PRECISION NOT NULL,
    origin TEXT NOT NULL,
    secret TEXT,
    previous TEXT,
    traded DOUBLE PRECISION
);

CREATE INDEX sessions_login ON sessions (login);
CREATE INDEX sessions_expires ON sessions (expires);
