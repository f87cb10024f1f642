"""`make mutants-sql`: change the SQL of the stores in one place at a time, and see the tests fail.

Each condition becomes TRUE, each comparison another one, each assignment is left out, and so are
ORDER BY, LIMIT, ON CONFLICT, locks and pragmas. The tests of the stores run on a copy of the
project, on SQLite, or on PostgreSQL for what is PostgreSQL's own. What they do not notice is
printed; the last line is the score. An argument limits the run to queries whose name has it.
"""

import concurrent.futures
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FILES = {  # SQL, and the engine on which its mutants are tested
    "store/queries.sql": "sqlite",
    "store/transfer.sql": "sqlite",
    "store/sqlite/engine.sql": "sqlite",
    "store/postgresql/engine.sql": "postgresql",
}
TESTS = [
    *("tests/test_store.py", "tests/test_sessions.py", "tests/test_session_list.py"),
    *("tests/test_second_factor.py",),
    *("tests/test_accounts.py", "tests/test_stuff.py", "tests/test_transfer.py"),
    *("tests/test_migrations.py", "tests/test_pool.py", "tests/test_unavailable.py"),
    *("tests/test_restore.py", "tests/test_query_errors.py", "tests/test_writers.py"),
]
TIMEOUT_SECONDS = 300  # of the tests of one mutant, which may hang
OTHER = {"<=": "<", ">=": ">", "<": "<=", ">": ">=", "=": "<>", "<>": "="}
OPERATOR = re.compile(r"(?<= )(<=|>=|<>|<|>|=)(?= )")
CONDITION = re.compile(
    r"[\w.]+ (?:<=|>=|<>|<|>|=) (?!ANY)(?:[:\w.]+|'\w*')"
    r"|(?<=AND )(?!NOT EXISTS|EXISTS)(?:NOT )?[\w.]+(?=;|\s|\))(?! (?:[<>=]|IN ))"
)
GROUP = re.compile(
    r"(?:(?<=AND )|(?:NOT )?EXISTS |[\w.]+ (?:= ANY|(?:NOT )?IN) )"
    r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
)
ASSIGNMENT = re.compile(r"\w+ = (?:COALESCE\((?:[^()]|\([^()]*\))*\)|CASE.*?END|[:\w]+)", re.DOTALL)
CLAUSE = re.compile(
    r"ORDER BY [\w., ]+?(?= LIMIT| FOR|;|\n|\))|LIMIT [:\w]+|ON CONFLICT DO NOTHING"
    r"|FOR (?:NO KEY )?UPDATE|FOR SHARE|SKIP LOCKED|ISOLATION LEVEL REPEATABLE READ|IMMEDIATE"
    r"|SET LOCAL [^;]*;|PRAGMA [^;]* = [^;]*;"
)


class Mutant(NamedTuple):
    """A change of one query of a file."""

    file: str
    query: str
    what: str
    text: str  # of the whole file


def mutants(file: str) -> Iterator[Mutant]:
    """All mutants of a file with SQL."""
    text = (ROOT / file).read_text()
    for query in re.finditer(r"-- name: (\w+).*?(?=\n\n|\Z)", text, re.DOTALL):
        for start, end, new in _changes(query[0]):
            start, end = query.start() + start, query.start() + end
            what = " ".join(f"{text[start:end]!r} -> {new!r}".split())
            yield Mutant(file, query[1], what, text[:start] + new + text[end:])


def _changes(query: str) -> Iterator[tuple[int, int, str]]:
    """Where a query is changed, from and to which characters, and into what.

    aiosql would refuse a query without a statement, or without one of its parameters.
    """
    body = re.search(r"\n(?!--)", query)
    begin = body.end() if body else len(query)
    where = query.find("WHERE", begin)
    where = len(query) if where < 0 else where
    if (assignments := query.find("SET", begin)) >= 0 and "UPDATE" in query[begin:assignments]:
        for found in ASSIGNMENT.finditer(query, assignments, where):
            column, _, value = found[0].partition(" = ")
            new = f"{column} = CASE WHEN TRUE THEN {column} ELSE {value} END"
            yield found.start(), found.end(), new
    for pattern in CONDITION, GROUP:
        for found in pattern.finditer(query, where):
            yield found.start(), found.end(), f"({found[0]} OR TRUE)"
    for found in OPERATOR.finditer(query, where):
        yield found.start(), found.end(), OTHER[found[0]]
    for found in CLAUSE.finditer(query, begin):
        new = "LIMIT 9999 + :limit" if ":limit" in found[0] else "SELECT 1;" * (";" in found[0])
        yield found.start(), found.end(), new


def _copy(folder: Path) -> Path:
    """A copy of what git knows of the project."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True)  # noqa: S607
    for name in listed.stdout.decode().splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


def survives(mutant: Mutant, folder: Path) -> bool:
    """Whether all tests pass in spite of a mutant in a copy of the project."""
    path = folder / mutant.file
    original = path.read_text()
    path.write_text(mutant.text)
    # not the name of the engine: some tests for one engine only do not have it
    other = {"sqlite": "postgresql", "postgresql": "sqlite"}[FILES[mutant.file]]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, "-k", f"not http and not memory and not {other}", *TESTS],
            cwd=folder,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return False
    finally:
        path.write_text(original)
    return done.returncode == 0


def main() -> None:
    """Test all mutants, as many at a time as there are processors."""
    words = sys.argv[1:] or [""]
    found = [m for file in FILES for m in mutants(file) if any(w in m.query for w in words)]
    cores = len(os.sched_getaffinity(0))
    folders: queue.Queue[Path] = queue.Queue()
    survivors = 0
    with tempfile.TemporaryDirectory() as place:
        for number in range(cores):
            folders.put(_copy(Path(place, str(number))))

        def test(mutant: Mutant) -> bool:
            folder = folders.get()
            try:
                return survives(mutant, folder)
            finally:
                folders.put(folder)

        with concurrent.futures.ThreadPoolExecutor(cores) as pool:
            for mutant, alive in zip(found, pool.map(test, found), strict=True):
                survivors += alive
                if alive:
                    print(f"{mutant.file}: {mutant.query}: {mutant.what}", flush=True)
    killed = len(found) - survivors
    print(f"{killed} of {len(found)} mutants killed: {killed / max(1, len(found)):.0%}")


if __name__ == "__main__":
    main()
