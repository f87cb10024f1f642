-- What is PostgreSQL's own.

-- name: schema_is_there()$
-- not to_regclass(): after waiting for begin_alone's lock it still says what it said before
SELECT EXISTS (
    SELECT 1 FROM pg_catalog.pg_tables
    WHERE tablename = 'schema_version' AND schemaname = ANY (current_schemas(false))
);

-- name: begin()!
BEGIN ISOLATION LEVEL REPEATABLE READ;

-- name: begin_alone()#
BEGIN;
SET LOCAL statement_timeout = 0;
-- until the end of the transaction; the number is "acme" in ASCII
SELECT pg_advisory_xact_lock(1633906021);

-- name: commit()!
COMMIT;

-- name: rollback()!
ROLLBACK;

-- name: begin_change()!
BEGIN;

-- name: lock_admins()
SELECT login FROM users WHERE admin AND active ORDER BY login FOR UPDATE;

-- name: lock_user(login)$
SELECT login FROM users WHERE login = :login FOR UPDATE;

-- name: add_session(id, login, created, used, expires, origin, secret, password, otp)!
-- locks the user: until the commit, the password is not changed, the user is not disabled, and no
-- other session of the user begins
INSERT INTO sessions (id, login, created, used, expires, origin, secret)
SELECT :id, login, :created, :used, :expires, :origin, :secret FROM users
WHERE login = :login AND password = :password AND otp = :otp AND active
FOR NO KEY UPDATE;

-- name: delete_expired_sessions(now)!
-- not those that somebody else is about to delete: two who wait for each other
DELETE FROM sessions WHERE id IN (
    SELECT id FROM sessions WHERE expires <= :now LIMIT 1000 FOR UPDATE SKIP LOCKED
);
