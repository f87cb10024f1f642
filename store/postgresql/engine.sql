-- Queries for PostgreSQL only.

-- name: schema_is_there()$
-- not to_regclass(): after the wait for the lock of begin_alone it would return an older result
SELECT EXISTS (
    SELECT 1 FROM pg_catalog.pg_tables
    WHERE tablename = 'schema_version' AND schemaname = ANY (current_schemas(false))
);

-- name: is_standby()$
SELECT pg_catalog.pg_is_in_recovery();

-- name: get_columns()
-- without generated ones, and those of extensions
SELECT c.relname, a.attname FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
WHERE n.nspname = ANY (current_schemas(false)) AND c.relkind IN ('r', 'p')
    AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend WHERE objid = c.oid AND deptype = 'e')
ORDER BY c.relname, a.attnum;

-- name: get_references()
SELECT c.relname, r.relname FROM pg_catalog.pg_constraint AS f
JOIN pg_catalog.pg_class AS c ON c.oid = f.conrelid
JOIN pg_catalog.pg_class AS r ON r.oid = f.confrelid
WHERE f.contype = 'f';

-- name: get_schema_objects()
-- named as by `pg_restore --list`; without those of extensions
WITH objects (oid, namespace, kind, name) AS (
    SELECT c.oid, c.relnamespace,
        CASE c.relkind
            WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
            WHEN 'i' THEN 'INDEX' ELSE 'TABLE'
        END,
        CAST(c.relname AS TEXT)
    FROM pg_catalog.pg_class AS c
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'i') AND NOT EXISTS (
        SELECT 1 FROM pg_catalog.pg_constraint
        WHERE conindid = c.oid AND contype IN ('p', 'u', 'x')
    )
    UNION ALL
    SELECT f.oid, c.relnamespace,
        CASE f.contype WHEN 'f' THEN 'FK CONSTRAINT' ELSE 'CONSTRAINT' END,
        c.relname || ' ' || f.conname
    FROM pg_catalog.pg_constraint AS f JOIN pg_catalog.pg_class AS c ON c.oid = f.conrelid
    WHERE f.contype IN ('p', 'u', 'x', 'f')
    UNION ALL
    SELECT t.oid, c.relnamespace, 'TRIGGER', c.relname || ' ' || t.tgname
    FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
    WHERE NOT t.tgisinternal
    UNION ALL
    SELECT p.oid, p.pronamespace,
        CASE p.prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END,
        p.proname || '(' || pg_catalog.oidvectortypes(p.proargtypes) || ')'
    FROM pg_catalog.pg_proc AS p
    UNION ALL
    SELECT t.oid, t.typnamespace, CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END,
        CAST(t.typname AS TEXT)
    FROM pg_catalog.pg_type AS t
    WHERE t.typtype IN ('d', 'e', 'r')
)
SELECT o.kind || ' ' || o.name FROM objects AS o
JOIN pg_catalog.pg_namespace AS n ON n.oid = o.namespace
WHERE n.nspname = ANY (current_schemas(false))
    AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend WHERE objid = o.oid AND deptype = 'e');

-- name: set_sequence(name, value, used)$
SELECT pg_catalog.setval(CAST(:name AS regclass), CAST(:value AS BIGINT), CAST(:used AS BOOLEAN));

-- name: lock_drill()$
-- the number is "drill" in ASCII
SELECT pg_try_advisory_lock(431416241260);

-- name: unlock_drill()$
SELECT pg_advisory_unlock(431416241260);

-- name: create_drill()#
-- one is left behind if a drill is killed
DROP SCHEMA IF EXISTS drill CASCADE;
CREATE SCHEMA drill;

-- name: drop_drill()#
DROP SCHEMA drill CASCADE;

-- name: begin()#
BEGIN ISOLATION LEVEL REPEATABLE READ;
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;

-- name: begin_alone()#
BEGIN;
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
-- until the end of the transaction; the number is "acme" in ASCII
SELECT pg_advisory_xact_lock(1633906021);

-- name: begin_migration()#
BEGIN;
SET LOCAL statement_timeout = 0;
SELECT pg_advisory_xact_lock(1633906021);
-- ms: ALTER TABLE waits for the queries of a table, and all later ones wait for it
SET LOCAL lock_timeout = 500;

-- name: commit()!
COMMIT;

-- name: rollback()!
ROLLBACK;

-- name: begin_change()!
BEGIN;

-- name: begin_isolated()!
BEGIN ISOLATION LEVEL REPEATABLE READ;

-- name: lock_key(login, key)$
-- false if another transaction has it, without waiting
SELECT pg_try_advisory_xact_lock(
    hashtextextended(CAST(:login AS TEXT) || ' ' || CAST(:key AS TEXT), 0)
);

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
-- skipping the rows that another transaction deletes prevents deadlock
DELETE FROM sessions WHERE id IN (
    SELECT id FROM sessions WHERE expires <= :now LIMIT 1000 FOR UPDATE SKIP LOCKED
);

-- name: delete_expired_keys(since, limit)!
-- skipping the rows that another transaction deletes prevents deadlock
DELETE FROM idempotency_keys WHERE (login, key) IN (
    SELECT login, key FROM idempotency_keys WHERE created <= :since
    ORDER BY created LIMIT :limit FOR UPDATE SKIP LOCKED
);

-- name: delete_expired_events(before, limit)!
-- skipping the rows that another transaction deletes prevents deadlock
DELETE FROM events WHERE id IN (
    SELECT id FROM events WHERE id < :before ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
);

-- name: claim_mail(now, until)^
UPDATE mails SET due = :until, tries = tries + 1 WHERE id = (
    SELECT id FROM mails WHERE due <= :now ORDER BY due, id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id, kind, login, email, origin, created, due, expires, tries, hash;

-- name: lock_link(hash, now)^
SELECT id, kind, login, email, origin, created, due, expires, tries, hash FROM mails
WHERE hash = :hash AND expires > :now
FOR UPDATE;

-- name: get_database_size()$
SELECT pg_catalog.pg_database_size(pg_catalog.current_database());
