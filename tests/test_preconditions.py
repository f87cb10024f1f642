"""ETag and If-Match: no update is lost, on each store, in process and over HTTP."""

from concurrent.futures import ThreadPoolExecutor

import FlaskSimpleAuth as fsa
import pytest

import database
from openapi.returns import Created, Done, Message, Ok
from tests.accounts import new_user
from tests.conftest import SQL, STORES, new_name, opened
from tests.fork import forked


def add(target, price=1):
    name = new_name()
    added = target.send_json("POST", "/stuff", {"stuff": name, "price": price}, "acme")
    assert added.status == 201
    return f"/stuff/{name}"


def tag(target, path):
    return target.send("GET", path, who="acme").headers["ETag"]


def patch(target, path, price, match):
    headers = {} if match is None else {"If-Match": match}
    return target.send_json("PATCH", path, {"price": price}, "acme", headers)


def price(target, path):
    return target.send("GET", path, who="acme").json["price"]


def test_tags_are_strong_and_follow_the_content(target):
    path = add(target)
    first = tag(target, path)
    assert first[0] == first[-1] == '"' and tag(target, path) == first
    patch(target, path, 2, None)
    second = tag(target, path)
    assert second != first
    patch(target, path, 1, None)
    assert tag(target, path) == first
    # a list has none
    assert "ETag" not in target.send("GET", "/stuff", who="acme").headers


# If-Match, where {} is the current tag and {old} one from before, and the status
MATCHES = [
    ("{}", 200),
    ("*", 200),
    (" * ", 200),
    ("{old}", 412),
    ("{old}, {}", 200),
    ("{old},{}", 200),
    (',{},, "x"', 200),
    ('{old}, "x"', 412),
    ("W/{}", 412),  # a weak tag never matches strongly
    ("W/{}, {}", 200),
    ('""', 412),
    ('"x,{}"', 400),
    ("", 400),
    ("x", 400),
    ("{}x", 400),
    ("*, {}", 400),
    ("{}, *", 400),
    ('"', 400),
    ("w/{}", 400),
]


def test_if_match_is_that_of_rfc_9110(target):
    path = add(target, 0)
    old = tag(target, path)
    for number, (header, status) in enumerate(MATCHES, 1):
        now = price(target, path) + 1
        patch(target, path, now, None)
        match = header.replace("{}", tag(target, path)).replace("{old}", old)
        response = patch(target, path, 1000 + number, match)
        assert response.status == status, (header, response)
        if status == 200:
            assert price(target, path) == 1000 + number
            assert response.headers["ETag"] == tag(target, path)
        else:
            assert price(target, path) == now
            assert "If-Match must be" in response.error or "precondition failed" in response.error


def test_delete_takes_if_match(target):
    path = add(target)
    old = tag(target, path)
    patch(target, path, 2, None)

    def delete(match):
        return target.send("DELETE", path, who="acme", headers={"If-Match": match}).status

    assert [delete(match) for match in (old, tag(target, path), "*")] == [412, 204, 404]


def test_profiles_have_tags_as_well(target):
    login = target.person(new_name("u"))
    path = f"/user/{login}"
    old = tag(target, path)
    for match, status in (old, 200), (old, 412):
        value = {"email": f"{status}@acme.org"}
        found = target.send_json("PATCH", path, value, "acme", {"If-Match": match})
        assert found.status == status
    assert target.send("GET", path, who="acme").json["email"] == "200@acme.org"


def test_permissions_come_before_preconditions(target):
    """Another user does not learn whether a tag is right; 400 for parameters comes before 412."""
    path, other = add(target), target.person(new_name("u"))
    for match in tag(target, path), '"x"':
        for method, value in ("PATCH", {"price": 2}), ("DELETE", {}):
            headers = {"If-Match": match}
            assert target.send_json(method, path, value, other, headers).status == 403
            assert target.send_json(method, path, value, None, headers).status == 401
    assert patch(target, path, -1, '"x"').status == 400
    assert price(target, path) == 1


@pytest.mark.parametrize(
    ("method", "path", "value"),
    [
        ("POST", "/stuff", {"stuff": "{}", "price": 1}),
        ("POST", "/len", {"p": 1}),
        # it checks a password, for which other writers must not wait
        ("POST", "/user/acme/keys", {"name": "x", "scope": "read", "current": "x"}),
    ],
)
def test_if_match_where_there_are_no_tags_fails(target, method, path, value):
    """Rather than to make a change that the client has excluded."""
    value = {k: new_name() if v == "{}" else v for k, v in value.items()}
    response = target.send_json(method, path, value, "acme", {"If-Match": "*"})
    assert (response.status, "no ETag" in response.error) == (412, True)


def test_of_concurrent_changes_with_one_tag_one_is_made(target):
    """On two processes over HTTP; 503 where a turn does not come in time."""
    target.person("acme")
    for _ in range(3):
        path = add(target)
        match = tag(target, path)
        with ThreadPoolExecutor(6) as pool:
            sent = [pool.submit(patch, target, path, 2 + n, match) for n in range(6)]
            found = [future.result().status for future in sent]
        assert found.count(200) == 1 and found.count(412) == 5, found
        assert price(target, path) == 2 + found.index(200)


def test_repeat_of_a_conditional_change_gets_its_answer(target):
    path = add(target)
    headers = {"If-Match": tag(target, path), "Idempotency-Key": new_name("k")}
    found = [target.send_json("PATCH", path, {"price": 2}, "acme", headers) for _ in range(2)]
    assert [response.status for response in found] == [200, 200]
    assert found[0].headers["ETag"] == found[1].headers["ETag"] == tag(target, path)


@pytest.fixture(params=STORES)
def fork(request, new_database):
    """A request to the application with a resource of a fork, on each store."""
    with forked() as client:
        app, db = client.application, database.db
        hook = [lambda: None]

        @app.get("/item/<name>", authz="AUTH")
        def get_item(name: str, user: fsa.CurrentUser, unit: str = "EUR") -> Ok[dict]:
            """Get an item."""
            return {"price": db.get_stuff(name, user)[1], "unit": unit}, 200

        @app.put("/item/<name>", authz="AUTH")
        def put_item(name: str, price: float, user: fsa.CurrentUser) -> Done:
            """Change an item."""
            hook.pop()() if hook else None
            db.change_stuff(name, price, user)
            return "", 204

        @app.route("/item/<name>/sale", methods=["post"], authz="AUTH")  # Flask takes lower case
        def post_sale(name: str) -> Created[Message]:
            """There is no GET of this path."""
            return {"msg": name}, 201, {"Location": "/"}

        before = database.use(opened(new_database(request.param)))
        try:
            login = new_user()
            with app.test_request_context():
                token = {"Authorization": f"Bearer {app.create_token(login)}"}

            def send(method, path, match=None, **value):
                headers = token | ({"If-Match": match} if match else {})
                one = app.test_client()
                return one.open(path, method=method, json=value or None, headers=headers)

            send.hook, send.login, send.kind = hook, login, request.param
            yield send
            db.close()
        finally:
            database.use(before)


def test_routes_of_a_fork_have_tags_and_take_if_match(fork):
    database.db.add_stuff(name := new_name(), fork.login, 1)
    path = f"/item/{name}"
    old = fork("GET", path).headers["ETag"]
    changed = fork("PUT", path, old, price=2.0)
    assert (changed.status_code, changed.headers["ETag"]) == (
        204,
        fork("GET", path).headers["ETag"],
    )
    assert fork("PUT", path, old, price=3.0).status_code == 412
    assert database.db.get_stuff(name)[1] == 2
    assert fork("PUT", f"{path}x", "*", price=3.0).status_code == 404
    assert fork("POST", f"{path}/sale", "*").status_code == 412
    assert fork("POST", f"{path}/sale").status_code == 201


@pytest.mark.parametrize("fork", SQL, indirect=True)
def test_change_between_the_check_and_the_write_is_412(fork):
    """On SQLite, where one writes at a time, the other one gets no turn."""
    database.db.add_stuff(name := new_name(), fork.login, 1)
    path, found = f"/item/{name}", []
    old = fork("GET", path).headers["ETag"]

    def interfere():
        with ThreadPoolExecutor(1) as pool:
            found.append(pool.submit(fork, "PUT", path, price=9.0).result().status_code)

    fork.hook[:] = [interfere]
    status = fork("PUT", path, old, price=2.0).status_code
    expected = {"postgresql": (412, 204, 9), "sqlite": (204, 503, 2)}[fork.kind]
    assert (status, found[0], database.db.get_stuff(name)[1]) == expected
