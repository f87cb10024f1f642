-- The queries of export, import and restore, made for each table: {table} and so on are its names.

-- name: count_{table}()$
SELECT count(*) FROM "{table}";

-- name: export_{table}(after, limit)
SELECT {columns} FROM "{table}" WHERE "{key}" > :after ORDER BY "{key}" LIMIT :limit;

-- name: import_{table}({parameters})*!
INSERT INTO "{table}" ({columns}) VALUES ({values});

-- name: select_{table}()
SELECT {columns} FROM "{table}";
