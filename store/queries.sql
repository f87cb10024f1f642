-- Queries for both SQLite and PostgreSQL. The suffix of a name says what aiosql returns: ^ one row,
-- $ one value, ! the number of rows changed, *! a statement for each of many rows, none a list.

-- name: get_schema_version()$
SELECT max(version) FROM schema_version;

-- name: add_schema_version(version)!
INSERT INTO schema_version (version) VALUES (:version);

-- name: set_oldest_code(version, oldest)!
UPDATE schema_version SET oldest = :oldest WHERE version = :version;

-- name: get_oldest_code()$
SELECT max(COALESCE(oldest, version)) FROM schema_version;

-- name: count_sessions(now)$
SELECT count(*) FROM sessions WHERE expires > :now;

-- name: has_users()$
SELECT EXISTS (SELECT 1 FROM users);

-- users

-- name: get_credentials(login)^
SELECT password, active, otp, admin FROM users WHERE login = :login;

-- name: get_profile(login)^
SELECT login, email, admin, active, otp,
    (SELECT count(*) FROM recovery_codes AS r WHERE r.login = users.login)
FROM users WHERE login = :login;

-- name: get_profiles(after, limit)
SELECT login, email, admin, active, otp,
    (SELECT count(*) FROM recovery_codes AS r WHERE r.login = users.login)
FROM users
WHERE login > :after ORDER BY login LIMIT :limit;

-- name: add_user(login, password, email, admin, now)!
INSERT INTO users (login, password, email, admin, created)
VALUES (:login, :password, :email, :admin, :now)
ON CONFLICT DO NOTHING;

-- name: change_user(login, email, admin, active)^
UPDATE users SET
    email = COALESCE(:email, email),
    admin = COALESCE(CAST(:admin AS BOOLEAN), admin),
    active = COALESCE(CAST(:active AS BOOLEAN), active)
WHERE login = :login
RETURNING login, email, admin, active, otp,
    (SELECT count(*) FROM recovery_codes AS r WHERE r.login = users.login);

-- name: get_created(login)$
SELECT created FROM users WHERE login = :login;

-- name: delete_user(login)!
DELETE FROM users WHERE login = :login;

-- name: set_user_pass(login, password, old)!
UPDATE users SET password = :password
WHERE login = :login AND (CAST(:old AS TEXT) IS NULL OR (password = :old AND active));

-- name: renew_user_pass(login, old, new)!
UPDATE users SET password = :new WHERE login = :login AND password = :old;

-- name: set_otp(login, secret, checked)!
UPDATE users SET otp_secret = :secret, otp_step = 0
WHERE login = :login AND NOT otp
    AND (CAST(:checked AS TEXT) IS NULL OR (password = :checked AND active));

-- name: get_otp(login)$
SELECT otp_secret FROM users WHERE login = :login;

-- name: use_otp(login, secret, step, active)!
UPDATE users SET otp_step = :step, otp = COALESCE(CAST(:active AS BOOLEAN), otp)
WHERE login = :login AND otp_secret = :secret AND otp_step < :step;

-- name: reset_otp(login)!
UPDATE users SET otp = FALSE, otp_secret = NULL WHERE login = :login;

-- name: add_recovery_code(login, hash)!
INSERT INTO recovery_codes (hash, login) SELECT :hash, login FROM users
WHERE login = :login AND otp;

-- name: delete_recovery_code(login, hash)!
DELETE FROM recovery_codes WHERE hash = :hash AND login = :login
    AND EXISTS (SELECT 1 FROM users WHERE login = :login AND otp);

-- name: delete_recovery_codes(login)!
DELETE FROM recovery_codes WHERE login = :login;

-- sessions: add_session and delete_expired_sessions are in engine.sql

-- name: get_session_user(session, now)$
SELECT users.login FROM sessions JOIN users ON users.login = sessions.login
WHERE sessions.id = :session AND sessions.expires > :now AND users.active;

-- name: get_sessions(login, now, created, id, limit)
SELECT id, login, created, used, expires, origin FROM sessions
WHERE login = :login AND expires > :now AND (created, id) > (:created, :id)
ORDER BY created, id LIMIT :limit;

-- name: end_oldest_sessions(login, but, now, keep)!
-- in the transaction of add_session, which has locked the user: sign-ins of one user take turns
DELETE FROM sessions
WHERE login = :login AND id <> :but AND expires > :now AND (created, id) <= (
    SELECT created, id FROM sessions WHERE login = :login AND id <> :but AND expires > :now
    ORDER BY created DESC, id DESC LIMIT 1 OFFSET :keep
);

-- name: rotate_session(session, old, new, now, grace)^
-- one statement decides, because browser tabs use a cookie at the same time: the secret before the
-- last rotation is accepted and changes nothing; abs(), because the clocks of machines differ
UPDATE sessions SET
    secret = CASE WHEN secret = :old THEN :new ELSE secret END,
    traded = CASE WHEN secret = :old THEN :now ELSE traded END,
    previous = :old,
    used = :now
WHERE id = :session AND expires > :now
    AND (secret = :old OR (previous = :old AND abs(traded - :now) <= :grace))
RETURNING login, expires;

-- name: end_session(session, now)$
DELETE FROM sessions WHERE id = :session AND expires > :now RETURNING login;

-- name: delete_session(login, session)!
DELETE FROM sessions WHERE id = :session AND login = :login;

-- name: delete_sessions(login, but)!
DELETE FROM sessions WHERE login = :login AND id <> :but;

-- idempotency keys: lock_key is in engine.sql

-- name: get_answer(login, key, since)^
SELECT fingerprint, answer FROM idempotency_keys
WHERE login = :login AND key = :key AND created > :since;

-- name: confirm_answer(login, key)!
UPDATE idempotency_keys SET created = created WHERE login = :login AND key = :key;

-- name: check_key(login, key, since)^
-- whether there is an answer, and how many the user has, by the numbers of the newest and oldest
SELECT
    EXISTS (
        SELECT 1 FROM idempotency_keys
        WHERE login = :login AND key = :key AND created > :since
    ),
    COALESCE((
        SELECT number FROM idempotency_keys
        WHERE login = :login ORDER BY created DESC LIMIT 1
    ) - (
        SELECT number FROM idempotency_keys
        WHERE login = :login AND created > :since ORDER BY created LIMIT 1
    ) + 1, 0);

-- name: delete_key(login, key, since)!
DELETE FROM idempotency_keys WHERE login = :login AND key = :key AND created <= :since;

-- name: add_answer(login, key, fingerprint, now, answer)!
-- nothing for a user that the same transaction has deleted
INSERT INTO idempotency_keys (login, key, fingerprint, created, number, answer)
SELECT login, :key, :fingerprint, :now, COALESCE((
    SELECT number FROM idempotency_keys WHERE login = :login ORDER BY created DESC LIMIT 1
), 0) + 1, :answer
FROM users WHERE login = :login
ON CONFLICT DO NOTHING;

-- name: delete_user_keys(login)!
DELETE FROM idempotency_keys WHERE login = :login;

-- name: savepoint()!
SAVEPOINT part;

-- name: release_savepoint()!
RELEASE SAVEPOINT part;

-- name: rollback_to_savepoint()!
ROLLBACK TO SAVEPOINT part;

-- API keys

-- name: get_api_key(hash, now)^
SELECT k.id, k.login, k.name, k.scope, k.created, k.expires, k.used
FROM api_keys AS k JOIN users ON users.login = k.login
WHERE k.hash = :hash AND k.expires > :now AND users.active;

-- name: get_api_keys(login)
SELECT id, login, name, scope, created, expires, used FROM api_keys
WHERE login = :login ORDER BY created, id;

-- name: count_api_keys(login)$
SELECT count(*) FROM api_keys WHERE login = :login;

-- name: add_api_key(id, login, name, scope, created, expires, used, hash)!
INSERT INTO api_keys (id, login, name, scope, created, expires, used, hash)
VALUES (:id, :login, :name, :scope, :created, :expires, :used, :hash);

-- name: use_api_key(hash, day)!
UPDATE api_keys SET used = :day WHERE hash = :hash AND used < :day;

-- name: delete_api_key(login, id)!
DELETE FROM api_keys WHERE id = :id AND login = :login;

-- name: delete_expired_api_keys(login, now)!
DELETE FROM api_keys WHERE login = :login AND expires <= :now;

-- the audit trail: delete_expired_events is in engine.sql

-- name: add_event(id, time, event, login, who, origin, session, key, times)!
INSERT INTO events (id, time, event, login, who, origin, session, key, times)
VALUES (:id, :time, :event, :login, :who, :origin, :session, :key, :times);

-- name: add_attempt(id, time, event, login, who, origin, session, key, times)!
INSERT INTO events (id, time, event, login, who, origin, session, key, times)
SELECT :id, :time, :event, login, :who, :origin, :session, :key, :times
FROM users WHERE login = :login AND created <= :time;

-- name: get_user_events(login, first, last, event, limit)
SELECT id, time, event, login, who, origin, session, key, times FROM events
WHERE login = :login AND id >= :first AND id < :last
    AND (CAST(:event AS TEXT) IS NULL OR event = :event)
ORDER BY id DESC LIMIT :limit;

-- name: get_events(first, last, event, limit)
SELECT id, time, event, login, who, origin, session, key, times FROM events
WHERE id >= :first AND id < :last AND (CAST(:event AS TEXT) IS NULL OR event = :event)
ORDER BY id DESC LIMIT :limit;

-- mails: claim_mail and lock_link are in engine.sql

-- name: add_mail(id, kind, login, email, origin, created, due, expires, tries, hash)!
INSERT INTO mails (id, kind, login, email, origin, created, due, expires, tries, hash)
VALUES (:id, :kind, :login, :email, :origin, :created, :due, :expires, :tries, :hash);

-- name: ask_mail(id, kind, login, email, origin, created, due, expires, tries, hash, since, of_origin, of_all)!
INSERT INTO mails (id, kind, login, email, origin, created, due, expires, tries, hash)
SELECT :id, :kind, :login, :email, :origin, :created, :due, :expires, :tries, :hash
WHERE (SELECT count(*) FROM mails WHERE origin = :origin AND created > :since) < :of_origin
    AND (SELECT count(*) FROM mails WHERE created > :since AND origin <> '') < :of_all;

-- name: next_mail()$
SELECT min(due) FROM mails WHERE due IS NOT NULL;

-- name: count_waiting()$
SELECT count(*) FROM mails WHERE due IS NOT NULL;

-- name: count_mails(kind, email, since)$
SELECT count(*) FROM mails
WHERE kind = :kind AND lower(email) = lower(:email) AND created > :since AND tries > 0;

-- name: save_mail(id, email, due, expires, hash)!
UPDATE mails SET email = :email, due = :due, expires = :expires, hash = :hash
WHERE id = :id AND due IS NOT NULL;

-- name: delete_late_mails(before)
DELETE FROM mails WHERE due IS NOT NULL AND created <= :before
RETURNING id, kind, login, email, origin, created, due, expires, tries, hash;

-- name: delete_expired_mails(now)!
DELETE FROM mails WHERE due IS NULL AND expires <= :now;

-- name: get_link(hash, now)^
SELECT id, kind, login, email, origin, created, due, expires, tries, hash FROM mails
WHERE hash = :hash AND expires > :now;

-- name: void_links(login)!
UPDATE mails SET hash = NULL, due = NULL
WHERE login = :login AND kind IN ('reset', 'invitation', 'confirmation');

-- name: get_mails(login, since, limit)
SELECT id, kind, login, email, origin, created, due, expires, tries, hash FROM mails
WHERE login = :login AND created >= :since ORDER BY created, id LIMIT :limit;

-- name: forget_user_mails(login)!
UPDATE mails SET login = '', email = '', hash = NULL, due = NULL
WHERE login = :login AND origin <> '';

-- name: delete_user_mails(login)!
DELETE FROM mails WHERE login = :login;

-- name: void_registrations(email)!
UPDATE mails SET hash = NULL, due = NULL WHERE email = :email AND kind = 'registration';

-- confirmed addresses: a row counts as long as it is the address of the user

-- name: get_address_user(email)$
SELECT users.login FROM addresses JOIN users ON users.login = addresses.login
WHERE addresses.email = :email AND users.email = :email;

-- name: get_confirmed_address(login)$
SELECT users.email FROM users JOIN addresses ON addresses.login = users.login
WHERE users.login = :login AND addresses.email = users.email AND users.active;

-- name: confirm_address(login, email)!
INSERT INTO addresses (email, login) VALUES (:email, :login)
ON CONFLICT (email) DO UPDATE SET login = excluded.login WHERE addresses.login = excluded.login;

-- name: forget_address(login, email)!
DELETE FROM addresses WHERE login = :login AND email <> :email;

-- name: forget_former_address(email)!
DELETE FROM addresses WHERE email = :email AND login NOT IN (
    SELECT login FROM users WHERE email = :email
);

-- stuff

-- name: delete_user_stuff(login)!
DELETE FROM stuff WHERE owner = :login;

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
