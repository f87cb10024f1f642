-- Queries for SQLite only.

-- name: open_connection()#
PRAGMA foreign_keys = ON;
PRAGMA synchronous = FULL;

-- name: distrust_schema()#
PRAGMA trusted_schema = OFF;

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

-- name: get_columns()
-- without generated ones, and those of Litestream
SELECT t.name, c.name FROM sqlite_schema AS t, pragma_table_xinfo(t.name) AS c
WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND c.hidden = 0
    AND t.name NOT IN ('_litestream_seq', '_litestream_lock')
ORDER BY t.name, c.cid;

-- name: get_references()
SELECT t.name, f."table" FROM sqlite_schema AS t, pragma_foreign_key_list(t.name) AS f
WHERE t.type = 'table';

-- name: get_schema_objects()
-- without the tables of ANALYZE and of Litestream
SELECT type || ' ' || name || ': ' || COALESCE(sql, '') FROM sqlite_schema
WHERE NOT (type = 'table' AND (
    name LIKE 'sqlite\_stat%' ESCAPE '\' OR name IN ('_litestream_seq', '_litestream_lock')
));

-- name: begin()!
BEGIN;

-- name: begin_alone()#
PRAGMA busy_timeout = 60000; -- ms: another process may be at it
BEGIN IMMEDIATE;

-- name: begin_migration()#
PRAGMA busy_timeout = 60000; -- ms: another process may be at it
BEGIN IMMEDIATE;

-- name: commit()!
COMMIT;

-- name: rollback()!
ROLLBACK;

-- name: begin_change()!
BEGIN IMMEDIATE;

-- name: begin_isolated()!
BEGIN IMMEDIATE;

-- BEGIN IMMEDIATE has locked the whole database: these three need no lock

-- name: lock_key(login, key)$
SELECT :login IS NOT NULL AND :key IS NOT NULL;

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

-- name: delete_expired_keys(since, limit)!
DELETE FROM idempotency_keys WHERE (login, key) IN (
    SELECT login, key FROM idempotency_keys WHERE created <= :since ORDER BY created LIMIT :limit
);

-- name: delete_expired_events(before, limit)!
DELETE FROM events WHERE id IN (
    SELECT id FROM events WHERE id < :before ORDER BY id LIMIT :limit
);

-- name: claim_mail(now, until)^
UPDATE mails SET due = :until, tries = tries + 1 WHERE id = (
    SELECT id FROM mails WHERE due <= :now ORDER BY due, id LIMIT 1
)
RETURNING id, kind, login, email, origin, created, due, expires, tries, hash;

-- name: lock_link(hash, now)^
SELECT id, kind, login, email, origin, created, due, expires, tries, hash FROM mails
WHERE hash = :hash AND expires > :now;

-- name: get_database_size()$
SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size();
