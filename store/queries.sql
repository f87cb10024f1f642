-- What the store asks, of SQLite and PostgreSQL alike. A name's last character is aiosql's: ^ one row,
-- $ one value, ! the number of rows changed, *! a statement for each of many rows, none a list.

-- name: get_schema_version()$
SELECT max(version) FROM schema_version;

-- name: add_schema_version(version)!
INSERT INTO schema_version (version) VALUES (:version);

-- name: has_users()$
SELECT EXISTS (SELECT 1 FROM users);

-- name: get_user(login)^
SELECT password, admin FROM users WHERE login = :login;

-- name: add_user(login, password, email, admin)!
INSERT INTO users (login, password, email, admin) VALUES (:login, :password, :email, :admin)
ON CONFLICT DO NOTHING;

-- name: get_stuff(name)^
SELECT owner, price FROM stuff WHERE name = :name;

-- name: get_user_stuff(owner, after, limit)
SELECT name, price FROM stuff WHERE owner = :owner AND name > :after ORDER BY name LIMIT :limit;

-- name: add_stuff(name, owner, price)!
INSERT INTO stuff (name, owner, price) VALUES (:name, :owner, :price)
ON CONFLICT DO NOTHING;

-- name: change_stuff(price, name, owner)!
UPDATE stuff SET price = :price
WHERE name = :name AND (owner = :owner OR CAST(:owner AS TEXT) IS NULL);

-- name: delete_stuff(name, owner)!
DELETE FROM stuff
WHERE name = :name AND (owner = :owner OR CAST(:owner AS TEXT) IS NULL);

-- export and import, by pages of keys

-- name: export_users(after, limit)
SELECT login, password, email, admin FROM users WHERE login > :after ORDER BY login LIMIT :limit;

-- name: export_stuff(after, limit)
SELECT name, owner, price FROM stuff WHERE name > :after ORDER BY name LIMIT :limit;

-- name: import_users(login, password, email, admin)*!
INSERT INTO users (login, password, email, admin) VALUES (:login, :password, :email, :admin);

-- name: import_stuff(name, owner, price)*!
INSERT INTO stuff (name, owner, price) VALUES (:name, :owner, :price);

-- name: count_rows()$
SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM stuff);
