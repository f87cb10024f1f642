-- What the doctor asks SQLite.

-- name: get_journal_mode()$
PRAGMA journal_mode;

-- name: check_integrity()$
PRAGMA quick_check(1);
