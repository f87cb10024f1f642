"""The tutorial, against whatever serves it: its tests, and its `curl` lines."""

import os
import shutil
import subprocess
import sys

import pytest

import test as tutorial
from tests.conftest import free_port, serving

TESTS = [test for name, test in vars(tutorial).items() if name.startswith("test_")]


@pytest.mark.parametrize("test", [t for t in TESTS if t is not tutorial.test_acmedata])
def test_tests_of_the_tutorial_pass_on_each_target(test, target):
    """`test.py` passes on every target, not only in process; `make run` takes longer passwords."""
    if test is not tutorial.test_weak_password or target.url is None:
        test(target.client())


# section by section: the arguments of curl, and the status that the tutorial says
CURL = [
    ("-X GET /hello", 200),
    ("-X GET /hello-me", 401),
    ("-X GET -u 'meca:Mec0!' /hello-me", 401),
    ('-X GET -u "acme:$ACME_PASS" /hello-me', 200),
    ('-X POST -u "acme:$ACME_PASS" -d stuff=pinte -d price=6.5 /stuff', 201),
    ('-X POST -u "acme:$ACME_PASS" -d stuff=pinte -d price=6.5 /stuff', 409),
    ('-X GET -u "acme:$ACME_PASS" /stuff', 200),
    ('-X GET -d username=acme -d password="$ACME_PASS" /hello-me', 200),
    ('-X GET -u "acme:$ACME_PASS" /token', 200),
    ('-X POST -d username=acme -d password="$ACME_PASS" /token', 201),
    ('-X GET -H "Authorization: Bearer $TOKEN" /hello-me', 200),
    ('-X GET -d who=\'{"name":"Hobbes","born":"2020-07-29"}\' /days', 200),
    (
        '-X GET -H "Content-Type: application/json" '
        '-d \'{"who":{"name":"Calvin","born":"1970-03-20"}}\' /days',
        200,
    ),
    ('-X GET -d who=\'{"name":"Calvin","born":"unknown"}\' /days', 400),
    ("-X GET -d li=1 -d li=10 -d li=11 /primes", 200),
    (
        '-X GET -H "Content-Type: application/json" -d \'{"li":[1,10,11,20,21,23]}\' /primes',
        200,
    ),
    ("-X GET -d li=prime -d li=time /primes", 400),
    ('-d \'p={"hi":"w!"}\' /len', 200),
    ("-d 'p=[1,2]' /len", 200),
    ("-d 'p=\"hi!\"' /len", 200),
    ("-d 'p=3.14' /len", 200),
    ("-d 'p=null' /len", 200),
    ("-d 'p=not-json' /len", 400),
    ("/len", 400),
    (
        '-X POST -u "acme:$ACME_PASS" -d login="came" -d email="came@acme.org" '
        '-d password="C@me" /user',
        400,
    ),
    (
        '-X POST -u "acme:$ACME_PASS" -d login="came" -d email="came@acme.org" '
        '-d password="Cameleon" /user',
        400,
    ),
]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is missing: apt-get install curl")
def test_curl_lines_of_the_tutorial_get_their_status():
    """Each `curl` line of the tutorial, against `flask run` with the shipped configuration."""
    port = str(free_port())
    flask = [sys.executable, "-m", "flask", "--app", "./app.py", "run", "--port", port]

    def curl(arguments: str, token: str = "", options: str = "-so /dev/null -w %{http_code}"):
        options_, _, path = arguments.rpartition(" ")
        command = f"curl {options} {options_} http://localhost:{port}{path}"
        env = os.environ | {"TOKEN": token}
        return subprocess.run(command, shell=True, env=env, capture_output=True, text=True).stdout

    with serving(*flask, ready="Running on", ACME_CONFIG="acme.conf", ACME_MODE="debug1"):
        token = curl('-u "acme:$ACME_PASS" /token', options="-s").split('"')[3]
        assert [(line, int(curl(line, token))) for line, _ in CURL] == CURL
