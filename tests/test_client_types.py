"""The types of www/acme.js: what acme.d.ts says, and that they are those of the API."""

import re

import pytest

from test import app
from tests import typescript
from tests.conftest import ROOT
from tests.node import needs_tools, tsc

CLIENT = ROOT / "www/acme.js"
CHECK = (
    *("--strict", "--noEmit", "--allowJs", "--checkJs", "--types", ""),
    *("--target", "es2022", "--lib", "es2022,dom,dom.iterable", "--module", "nodenext"),
)
# the methods that begin with their request: name of the method, method and path of the request
METHOD = re.compile(
    r'^\t(?:async )?(\w+)\([^\n]*\) {\n\t\treturn this\.request\(\s*"(\w+)",\s*"([^"]+)"', re.M
)
# a call is checked against the operation of its method and path
DOCUMENTED = """
type Listed<T> = { items: T extends (infer I)[] ? I[] : any, next?: string }
type Read<O, T> = O extends { read: (text: string, response: Response) => infer R }
  ? (R extends { items: unknown[] } ? Listed<T> : R) : T
type Of<M extends string, P extends string> = `${M} ${P}` extends keyof Operations
  ? Operations[`${M} ${P}`] : { takes: any, gives: any }
declare function documented<const M extends string, const P extends string, O extends object>(
  method: M, path: P, parameters?: Of<M, P>["takes"], options?: O,
): Promise<Read<O, Of<M, P>["gives"]>>
"""
RESULTS = """
import type { Acme } from "./acme.js"
type Items<T> = T extends { items: (infer I)[] } ? I[] : T
type Same<A, B> = [A, B] extends [B, A] ? true : [A, "differs from", B]
type Gives<M extends keyof Acme> =
  Acme[M] extends (...a: any[]) => Promise<infer R> ? Items<R> : never
"""


@pytest.fixture
def check(tmp_path):
    """Returns the errors where the calls of clients are checked against the operations."""

    def run(**sources):
        needs_tools()
        with app.test_client() as client:
            document = client.get("/openapi.json").json
        (tmp_path / "document.d.ts").write_text(typescript.operations(document) + DOCUMENTED)
        for name, source in sources.items():
            (folder := tmp_path / name).mkdir()
            (folder / "acme.js").write_text(source.replace("this.request(", "documented("))
            methods = METHOD.findall(source)
            assert len(methods) > 25
            same = (
                f'const {name}: Same<Gives<"{name}">, Operations["{call} {path}"]["gives"]> = true'
                for name, call, path in methods
                # primes converts what it gets
                if path not in ("/openapi.json", "/primes")
            )
            (folder / "results.ts").write_text(RESULTS + "\n".join(same))
        return tsc(
            *CHECK, *(f"{name}/results.ts" for name in sources), "document.d.ts", cwd=tmp_path
        )

    return run


def test_types_agree_with_the_document(check):
    """Each method sends what its operation takes, and declares what it gives."""
    assert check(client=CLIENT.read_text()) == ""


def test_other_types_are_noticed(check):
    source = CLIENT.read_text()
    changes = [
        ("{string} sid  its name @param {number} price", "{string} sid @param {string} price"),
        ("{boolean} otp", "{string} otp"),
        (" * @property {boolean} active  false for a disabled user\n", ""),
        ("{string} from", "{string} [from]"),
        ('{"read" | "write"} Scope', '{"read" | "all"} Scope'),
        ("[name: string, price: number]} Stuff", "[name: string, price: string]} Stuff"),
        ("{Promise<{id: string, key: string}>}", "{Promise<{id: string}>}"),
        ("{Promise<ApiKey[]>}", "{Promise<ApiKey>}"),
        ("login, name, scope, current, days }", "login, name, scope, current, weeks: days }"),
    ]
    mutants = {}
    for number, (right, wrong) in enumerate(changes):
        assert source.count(right) == 1, right
        mutants[f"mutant{number}"] = source.replace(right, wrong)
    found = check(**mutants)
    assert set(re.findall(r"(?m)^(\w+)/", found)) == set(mutants), found


def test_declarations_are_those_of_the_client(tmp_path):
    """acme.d.ts is what `make client` writes now, and the client has no error of type."""
    needs_tools()
    assert tsc("--project", ROOT, "--outDir", tmp_path) == ""
    assert (tmp_path / "acme.d.ts").read_text() == (ROOT / "acme.d.ts").read_text(), (
        "www/acme.js has changed: make client"
    )
