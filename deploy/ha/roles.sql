-- Once, on the primary, as postgres: psql -v owner=choose-owner -v rows=choose-rows -f roles.sql
-- acme_owner is for make db-upgrade, acme_rows for the servers.
CREATE ROLE acme_owner LOGIN PASSWORD :'owner';
CREATE ROLE acme_rows LOGIN PASSWORD :'rows';
-- for PgBouncer, which refuses the settings of a connection
ALTER ROLE acme_rows SET statement_timeout = '5s';
ALTER ROLE acme_rows SET idle_in_transaction_session_timeout = '10s';
CREATE DATABASE acme OWNER acme_owner;
\connect acme
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT ALL ON SCHEMA public TO acme_owner;
GRANT USAGE ON SCHEMA public TO acme_rows;
ALTER DEFAULT PRIVILEGES FOR ROLE acme_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO acme_rows;
