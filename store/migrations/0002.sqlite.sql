-- Accounts: users may be disabled, have one-time passwords, and sessions. Times are seconds since 1970.
ALTER TABLE users ADD COLUMN active INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1));
ALTER TABLE users ADD COLUMN otp_secret TEXT;
ALTER TABLE users ADD COLUMN otp INTEGER NOT NULL DEFAULT 0 CHECK (otp IN (0, 1));
ALTER TABLE users ADD COLUMN otp_step INTEGER NOT NULL DEFAULT 0;

CREATE INDEX users_admin ON users (login) WHERE admin AND active;

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    login TEXT NOT NULL REFERENCES users (login) ON DELETE CASCADE,
    created REAL NOT NULL,
    used REAL NOT NULL,
    expires REAL NOT NULL,
    origin TEXT NOT NULL,
    secret TEXT,
    previous TEXT,
    traded REAL
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_login ON sessions (login);
CREATE INDEX sessions_expires ON sessions (expires);
