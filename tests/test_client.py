"""The JavaScript client, `www/acme.js`, in Node.js."""

import json
import os
import re

import pytest

from tests.conftest import ROOT, granian
from tests.node import node
from tests.resources import rows

# runs expressions in turn, and tells what they gave: a bigint as text, an error as a list
RUNNER = """
import * as module from "./www/acme.js"
const [url, pass, expressions] = JSON.parse(process.argv.at(-1))
const { Acme } = module
const acme = new Acme(url)
const other = new Acme(url + "/")
const third = new Acme(url, { cookie: false })
let script
const found = []
for (const expression of expressions) {
  try {
    found.push((await eval(expression)) ?? null)
  } catch (error) {
    found.push([error.name, error.status, error.message])
  }
}
console.log(JSON.stringify(found, (_, v) => (typeof v === "bigint" ? `${v}n` : v)))
"""
BOTH = {"active": True, "otp": False, "recovery": 0}
ME = {"email": "acme@acme.org", "login": "acme", "admin": True, **BOTH}
SUE = {"email": "s@acme.org", "login": "sue", "admin": False, **BOTH}
TOKEN = "x" * 43  # of a link in a mail
AGE = '{ name: "x", born: "2000-01-01" }'
CALLS = [
    ("acme.login", ""),
    ("acme.helloMe()", ["AcmeError", 401, "missing authentication"]),
    ("acme.hello().then((h) => h.msg)", "hello"),
    ('acme.signIn("acme", "é")', ["AcmeError", 401, "invalid username or password"]),
    ('acme.signIn("acme", pass)', True),
    ("[acme.login, acme.session !== '']", ["acme", True]),
    ("acme.helloMe()", {"msg": "hello", "user": "acme"}),
    # stuff
    ('acme.addStuff("a?b&c #%é", 0.1)', {"msg": "stuff added: a?b&c #%é"}),
    ('acme.addStuff("b", 5)', {"msg": "stuff added: b"}),
    ('acme.addStuff("b", 5)', ["AcmeError", 409, "cannot overwrite existing stuff: b"]),
    ('acme.getStuff("a?b&c #%é")', {"stuff": "a?b&c #%é", "owner": "acme", "price": 0.1}),
    ('acme.changeStuff("a?b&c #%é", 7)', {"stuff": "a?b&c #%é", "price": 7.0}),
    ("acme.stuff({ limit: 1 })", {"items": [["a?b&c #%é", 7.0]], "next": "a?b&c #%é"}),
    ('acme.stuff({ limit: 9, after: "a?b&c #%é" })', {"items": [["b", 5.0]]}),
    ('acme.stuff({ q: "C #%É" })', {"items": [["a?b&c #%é", 7.0]]}),
    ('acme.deleteStuff("a?b&c #%é")', None),
    ("acme.stuff()", {"items": [["b", 5.0]]}),
    ('acme.resource("/stuff").add({ stuff: "a/b", price: 1 }).catch((e) => e.status)', 400),
    ('acme.resource("/stuff").add({ stuff: "{path}?", price: 1 }).then((s) => s.msg.length)', 20),
    ('acme.resource("/stuff").get("{path}?").then((s) => s.price)', 1),
    ('acme.resource("/stuff").change("{path}?", { price: 2 }).then((s) => s.price)', 2),
    ('acme.resource("/stuff").list({ limit: 1 })', {"items": [["b", 5.0]], "next": "b"}),
    ('acme.resource("/stuff").delete("{path}?")', None),
    ('acme.resource("/stuff").list()', {"items": [["b", 5.0]]}),
    ('acme.resource("/stuff").delete("")', ["AcmeError", 404, "nothing has such a name"]),
    ('acme.deleteStuff("..")', ["AcmeError", 404, "nothing has such a name"]),
    # users
    ('acme.addUser("sue", pass, "sue@acme.org")', {"msg": "user added: sue"}),
    ('acme.changeUser("sue", { email: "s@acme.org" })', SUE),
    ('acme.getUser("sue")', SUE),
    ('acme.users({ after: "acme" })', {"items": [SUE]}),
    ('acme.users({ q: "S@ACME" })', {"items": [SUE]}),
    ("acme.users({ limit: 1 })", {"items": [ME], "next": "acme"}),
    ('other.signInBriefly("sue", pass)', True),
    ('other.setPassword("sue", "Other-Pass-1", pass)', None),
    # its sessions are gone, and there is no cookie in node
    ("other.helloMe()", ["AcmeError", 401, "the session has ended: sign in at /token"]),
    ('other.signIn("sue", "Other-Pass-1")', True),
    ('other.newOtp("sue", pass).catch((e) => e.status)', 403),
    (
        'other.newOtp("sue", "Other-Pass-1").then((o) => Object.keys(o).sort())',
        ["qr", "secret", "uri"],
    ),
    ('other.switchOtp("sue", "1", true).catch((e) => e.status)', 400),
    ('acme.resetOtp("sue")', None),
    ('other.addKey("sue", "x", "read", "Other-Pass-1").then((k) => k.key.length)', 77),
    (
        'other.addKey("sue", "y", "write", "Other-Pass-1")'
        ".then(({ key }) => (script = new Acme(url, { key })).helloMe())",
        {"msg": "hello", "user": "sue"},
    ),
    ('script.addStuff("by key", 1).then((s) => s.msg)', "stuff added: by key"),
    ('script.getUser("sue").catch((e) => e.status)', 403),
    (
        'other.keys("sue").then((k) => other.deleteKey("sue", k.find((k) => k.name === "y").id))',
        None,
    ),
    ("script.helloMe().catch((e) => e.status)", 401),
    ('other.keys("sue").then((k) => [k[0].name, k[0].scope, k[0].used])', ["x", "read", 0]),
    ('other.keys("sue").then((k) => other.deleteKey("sue", k[0].id))', None),
    ('acme.sessions("sue").then((s) => s.items.length)', 1),
    ('acme.endSession("sue", other.session)', None),
    ('acme.deleteUser("sue", true)', None),
    # without a cookie; the token has ended, the session has not
    ("third.helloMe()", ["AcmeError", 401, "missing authentication"]),
    ('third.signIn("acme", pass)', True),
    ("third.refresh().then(() => third.refresh())", None),
    ("third.helloMe()", {"msg": "hello", "user": "acme"}),
    ("third.signOut()", None),
    ("third.refresh()", ["AcmeError", 401, "the session has ended: sign in at /token"]),
    # everybody
    ("acme.openapi().then((d) => d.openapi)", "3.1.0"),
    (f"acme.days({AGE}).then((d) => d.days > 9000)", True),
    (f"acme.getDays({AGE}).then((d) => d.name)", "x"),
    ("acme.primes([2, 4, 2n ** 127n - 1n])", [2, f"{2**127 - 1}n"]),
    ("acme.getPrimes([7, 2n ** 127n - 1n])", [7, f"{2**127 - 1}n"]),
    ("acme.len([1, [2]])", {"len": 2}),
    ('acme.getLen("ab")', {"len": 2}),
    ("acme.len(null)", {"len": "not available"}),
    # without a mail server
    *(
        (f"acme.{call}.catch((e) => e.status)", 404)
        for call in (
            'askRegistration("s@acme.org")',
            f'register("{TOKEN}", "calvin", pass)',
            'askReset("sue")',
            f'resetPassword("{TOKEN}", pass)',
            f'confirmAddress("{TOKEN}")',
        )
    ),
    *rows("JAVASCRIPT", __file__),
    # and out
    ("acme.signOut(true)", None),
    ("acme.login", ""),
    ('new Acme("http://127.0.0.1:1").hello()', ["NetworkError", 0, "the server cannot be reached"]),
    ('new module.AcmeError("x", 1) instanceof Error', True),
    ('new module.NetworkError("x", 0) instanceof module.AcmeError', True),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    place = tmp_path_factory.mktemp("client")
    with granian(ACME_DATABASE=f"sqlite:///{place}/acme.db", WORKERS="1") as url:
        yield url


def run_node(code, *arguments):
    """What a module says, which is run where README's reader is."""
    return node("--input-type=module", "-", *arguments, stdin=code)


def test_each_method_calls_its_route(url):
    """Each method does what its route does, and tells errors by their status and message."""
    calls = [url, os.environ["ACME_PASS"], [expression for expression, _ in CALLS]]
    res = run_node(RUNNER, json.dumps(calls))
    assert res.returncode == 0, res.stderr
    found = json.loads(res.stdout)
    for (expression, expected), value in zip(CALLS, found, strict=True):
        assert value == expected, expression


REPEATS = """
import { Acme } from "./www/acme.js"
const [url, pass] = JSON.parse(process.argv.at(-1))
const acme = new Acme(url)
await acme.signIn("acme", pass)
const real = fetch
let keys, fates
globalThis.fetch = async (url, init) => {
  keys.push(init.headers["Idempotency-Key"] ?? "")
  const response = await real(url, init)
  const fate = fates.shift()
  if (fate === "lost") throw new TypeError("fetch failed") // once the change has been made
  const headers = { "Retry-After": fate === "wait" ? "60" : "0" }
  return fate ? new Response('{"error": "later"}', { status: 503, headers }) : response
}
const found = {}
async function call(name, ...happens) {
  keys = []
  fates = happens
  const result = await eval(name).catch((error) => error.status)
  found[`${name} ${happens}`] = [result, keys.length, new Set(keys).size, keys[0] !== ""]
}
await call('acme.addStuff("r1", 1).then((s) => s.msg)', "lost", "503")
await call('acme.addStuff("r2", 1)', "lost", "lost", "lost")
await call('acme.addStuff("r3", 1)', "wait")
await call('acme.addStuff("r1", 1)')
await call('acme.deleteStuff("r1").then((s) => s ?? "gone")', "lost")
await call('acme.stuff().then((s) => s.items.length)', "503")
await call('acme.newOtp("acme", pass)', "503")
await call('acme.request("POST", "/len", { p: [] }, { repeat: false })', "503")
console.log(JSON.stringify(Object.values(found)))
"""
# result or status, requests, different keys, whether there is one
REPEATED = [
    ["stuff added: r1", 3, 1, True],
    [0, 3, 1, True],
    [503, 1, 1, True],
    [409, 1, 1, True],
    ["gone", 2, 1, True],
    [503, 1, 1, False],
    [503, 1, 1, False],
    [503, 1, 1, False],
]


def test_writes_are_repeated_within_bounds_and_made_once(url):
    """After a network error or 503, with one key; neither reads, nor routes that refuse keys."""
    res = run_node(REPEATS, json.dumps([url, os.environ["ACME_PASS"]]))
    assert res.returncode == 0, res.stderr
    assert json.loads(res.stdout) == REPEATED


def test_example_of_the_readme_works(url):
    """README's lines work as they stand."""
    lines = re.search(r"<<'JS'\n(.*?)\n +JS\n", (ROOT / "README.md").read_text(), re.S)[1]
    res = run_node(lines.replace("http://127.0.0.1:5000", url))
    assert res.stdout.splitlines()[0] == "{ msg: 'stuff added: ball' }", res.stderr
    assert res.stdout.splitlines()[-1].startswith("409 ")


def test_each_method_is_tested():
    """No method is left out of the table above but those that are tested elsewhere."""
    code = (ROOT / "www/acme.js").read_text()
    methods = re.findall(r"^\t(?:async )?(\w+)\(.*\) {$", code, re.M)
    assert len(methods) > 30
    elsewhere = {"constructor", "refresh", "secondStep", "forget", "request"}
    for method in set(methods) - elsewhere:
        assert any(f".{method}(" in expression for expression, _ in CALLS), (
            f"CALLS in tests/test_client.py, or JAVASCRIPT in the test file of a resource: "
            f'add a call of {method}, such as ("acme.{method}()", its result in JSON)'
        )
