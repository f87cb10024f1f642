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
