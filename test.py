"""The tutorial's tests: what a reader of it runs first, with `pytest test.py`.

They need nothing but requirements.txt, bring their own password, and keep their data in memory.
docs/tutorial.md says what had to be corrected in them.
"""

import base64
import os

# before the application is imported, which reads them; whatever is set already is not for tests
for name in [name for name in os.environ if name.startswith("ACME_")]:
    del os.environ[name]
os.environ["ACME_PASS"] = "Acme-Pass-1"
os.environ["ACME_DATABASE"] = "memory:"

import FlaskSimpleAuth as fsa
import pytest

import acme
from app import app


@pytest.fixture
def client():
    with app.test_client() as client:
        yield client


def test_hello(client):
    res = client.get("/hello")  # GET /hello
    assert res.status_code == 200
    assert res.json["msg"] == "hello"


def test_acmedata():
    db = acme.AcmeData()
    # users
    assert not db.user_exists("susie")
    db.add_user("susie", "susie-pass", "susie@acme.org", True)
    db.add_user("calvin", "calvin-pass", "calvin@acme.org", False)
    assert db.user_exists("susie") and db.user_exists("calvin")
    assert db.get_user_pass("susie") == "susie-pass"
    assert db.get_user_pass("calvin") == "calvin-pass"
    assert db.user_is_admin("susie") and not db.user_is_admin("calvin")
    # stuff
    db.add_stuff("pencil", "susie", 3.12)
    db.add_stuff("toy", "calvin", 2.72)
    assert db.get_user_stuff("calvin") == [("toy", 2.72)]
    db.change_stuff("pencil", 3.14)
    assert db.get_user_stuff("susie") == [("pencil", 3.14)]
    # errors, each of which changes nothing
    for status, call in [
        (409, lambda: db.add_user("susie", "other-pass", "susie@acme.org", False)),
        (400, lambda: db.add_user("Susie", "susie-pass", "susie@acme.org", False)),
        (409, lambda: db.add_stuff("toy", "susie", 1.0)),
        (404, lambda: db.add_stuff("ball", "hobbes", 1.0)),
        (404, lambda: db.get_user_stuff("hobbes")),
        (404, lambda: db.change_stuff("ball", 1.0)),
    ]:
        with pytest.raises(fsa.ErrorResponse) as error:
            call()
        assert error.value.status == status
    assert db.get_user_pass("susie") == "susie-pass"
    assert db.get_user_stuff("calvin") == [("toy", 2.72)]


# NOTE basic auth should be managed by the test client…
# see https://pypi.org/project/FlaskTester/ for instance
def basic_auth(login: str, passwd: str) -> dict[str, str]:
    encoded = base64.b64encode(f"{login}:{passwd}".encode("UTF8"))
    return {"Authorization": f"Basic {encoded.decode('ascii')}"}


ACME_BASIC = basic_auth("acme", os.environ["ACME_PASS"])

MECA_PASS = "Mec0!"
MECA_BASIC = basic_auth("meca", MECA_PASS)


def test_basic_authn(client):
    res = client.get("/hello-me")
    assert res.status_code == 401
    res = client.get("/hello-me", headers=MECA_BASIC)
    assert res.status_code == 401
    res = client.get("/hello-me", headers=ACME_BASIC)
    assert res.status_code == 200
    assert res.json["user"] == "acme"
    res = client.post("/stuff", headers=ACME_BASIC, json={"stuff": "pinte", "price": 6.5})
    assert res.status_code == 201
    res = client.post("/stuff", headers=ACME_BASIC, json={"stuff": "pinte", "price": 6.5})
    assert res.status_code == 409
    res = client.get("/stuff", headers=ACME_BASIC)
    assert res.status_code == 200 and res.json[0][0] == "pinte"
    # cleanup data
    res = client.delete("/stuff/pinte", headers=ACME_BASIC)
    assert res.status_code == 204


def test_param_authn(client):
    # authentication parameters
    acme_auth_params = {"username": "acme", "password": os.environ["ACME_PASS"]}
    # passed as HTTP parameters
    res = client.get("/hello-me", data=acme_auth_params)
    assert res.status_code == 200 and res.json["user"] == "acme"
    # or as JSON parameters
    res = client.get("/hello-me", json=acme_auth_params)
    assert res.status_code == 200 and res.json["user"] == "acme"


def test_token_authn(client):
    acme_param_auth = {"username": "acme", "password": os.environ["ACME_PASS"]}
    # GET /token basic
    res = client.get("/token", headers=ACME_BASIC)
    assert res.status_code == 200 and "token" in res.json
    ACME_TOKEN = {"Authorization": f"Bearer {res.json['token']}"}
    # GET /hello-me with the token
    res = client.get("/hello-me", headers=ACME_TOKEN)
    assert res.status_code == 200 and res.json["user"] == "acme"
    # GET /token param
    res = client.get("/token", data=acme_param_auth)
    assert res.status_code == 200 and "token" in res.json
    res = client.get("/token", json=acme_param_auth)
    assert res.status_code == 200 and "token" in res.json
    # POST /token param
    res = client.post("/token", data=acme_param_auth)
    assert res.status_code == 201 and "token" in res.json
    res = client.post("/token", json=acme_param_auth)
    assert res.status_code == 201 and "token" in res.json
    res = client.post("/token", headers=ACME_BASIC)
    assert res.status_code == 401  # no basic auth


def test_days(client):
    # a form field must be the JSON text: the test client would send a dict as a file
    res = client.get("/days", data={"who": '{"name":"Calvin","born":"1970-03-20"}'})
    assert res.status_code == 200
    assert res.json["name"] == "Calvin" and isinstance(res.json["days"], int)
    res = client.get("/days", json={"who": {"name": "Susie", "born": "1970-10-14"}})
    assert res.status_code == 200
    assert res.json["name"] == "Susie" and isinstance(res.json["days"], int)
    # invalid data should lead to 400
    res = client.get("/days", json={"who": {"name": "Hobbes", "born": "not yesterday"}})
    assert res.status_code == 400


def test_primes(client):
    res = client.get("/primes?li=7&li=8")
    assert res.status_code == 200 and res.json == [7]
    res = client.get("/primes", json={"li": [1, 2, 3, 4, 5, 6, 7, 8, 9]})
    assert res.status_code == 200 and res.json == [2, 3, 5, 7]
    res = client.get("/primes", json={"li": ["odd", "even"]})
    assert res.status_code == 400


def test_len(client):
    # working
    res = client.get("len", json={"p": {"hi": "w!"}})
    assert res.status_code == 200 and res.json["len"] == 1
    res = client.get("len", json={"p": ["foo", "bla"]})
    assert res.status_code == 200 and res.json["len"] == 2
    res = client.get("len", json={"p": "hi!"})
    assert res.status_code == 200 and res.json["len"] == 3
    res = client.get("len", data={"p": '"hi!"'})
    assert res.status_code == 200 and res.json["len"] == 3
    res = client.get("len", json={"p": None})
    assert res.status_code == 200 and res.json["len"] == "not available"
    # errors
    res = client.get("len")
    assert res.status_code == 400  # missing parameter
    res = client.get("len", data={"p": "bad-json"})
    assert res.status_code == 400  # invalid parameter value


def test_weak_password(client):
    res = client.post(
        "/user",
        headers=ACME_BASIC,
        data={"login": "came", "password": "C@me", "email": "came@acme.org"},
    )
    assert res.status_code == 400
    assert "too short" in res.json["error"]
    res = client.post(
        "/user",
        headers=ACME_BASIC,
        data={"login": "came", "password": "Cameleon", "email": "came@acme.org"},
    )
    assert res.status_code == 400
    assert "must match" in res.json["error"]
