-- What is SQLite's own.

-- name: open_connection()#
PRAGMA foreign_keys = ON;
PRAGMA synchronous = FULL;

-- name: check_integrity()$
PRAGMA quick_check(1);

-- name: get_journal_mode()$
PRAGMA journal_mode;

-- name: set_journal_mode()$
PRAGMA journal_mode = WAL;

-- name: unset_journal_mode()$
PRAGMA journal_mode = DELETE;

-- name: schema_is_there()$
SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_version');

-- name: begin()!
BEGIN;

-- name: begin_alone()#
PRAGMA busy_timeout = 60000; -- ms: another process may be at it
BEGIN IMMEDIATE;

-- name: commit()!
COMMIT;

-- name: rollback()!
ROLLBACK;

-- name: begin_change()!
BEGIN IMMEDIATE;

-- what BEGIN IMMEDIATE has locked: everything

-- name: lock_admins()
SELECT login FROM users WHERE admin AND active;

-- name: lock_user(login)$
SELECT login FROM users WHERE login = :login;

-- name: add_session(id, login, created, used, expires, origin, secret, password, otp)!
INSERT INTO sessions (id, login, created, used, expires, origin, secret)
SELECT :id, login, :created, :used, :expires, :origin, :secret FROM users
WHERE login = :login AND password = :password AND otp = :otp AND active;

-- name: delete_expired_sessions(now)!
DELETE FROM sessions WHERE expires <= :now;
