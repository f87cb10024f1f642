-- What the doctor asks PostgreSQL: also a role without privileges gets these.

-- name: get_server()^
SELECT
    current_setting('server_version'),
    pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on',
    current_setting('is_superuser') = 'on',
    current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on',
    current_setting('synchronous_commit'),
    current_setting('synchronous_standby_names') <> '',
    CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION);

-- name: get_connections()^
-- in use, and how many there may be
SELECT
    (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL),
    CAST(current_setting('max_connections') AS INTEGER)
    - CAST(current_setting('superuser_reserved_connections') AS INTEGER);

-- name: get_standbys()^
-- how many, and how many are synchronous: NULL for a role that may not know
SELECT
    count(*),
    CASE WHEN pg_has_role('pg_read_all_stats', 'USAGE')
        THEN count(*) FILTER (WHERE sync_state IN ('sync', 'quorum'))
    END
FROM pg_stat_replication;

-- name: get_archiver()^
-- whether it is on, how many seconds ago it last succeeded, and whether it fails since
SELECT
    current_setting('archive_mode') <> 'off',
    CAST(EXTRACT(EPOCH FROM clock_timestamp() - last_archived_time) AS DOUBLE PRECISION),
    COALESCE(last_failed_time > COALESCE(last_archived_time, '-infinity'), false)
FROM pg_stat_archiver;

-- name: get_idle_slots()$
-- the names of replication slots without a reader
SELECT string_agg(slot_name, ', ' ORDER BY slot_name) FROM pg_replication_slots WHERE NOT active;
