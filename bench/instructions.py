"""`make bench-check`: count the instructions of requests, and compare them with the committed ones.

valgrind counts what a request takes in process, which any machine with the same Python and the same
packages repeats to 0.5 %. Fails where a request takes 3 % more than in `instructions.json`;
`UPDATE=1` writes that file. The last line is an empty route of plain Flask, for comparison.

`METRICS=1` counts requests without and with metrics instead, and shows what these take.
"""

import base64
import concurrent.futures
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FIGURES = Path(__file__).with_suffix(".json")
REQUESTS = 100  # counted of each kind
WARM_UP = 10  # before these
LIMIT = 1.03  # times the committed figure
JSON = {"content_type": "application/json"}
KINDS: dict[str, dict[str, Any]] = {
    "GET /hello-me": {},
    "GET /stuff": {},
    "PATCH /stuff/<sid>": {"data": b'{"price": 3.5}', **JSON},
    "PATCH /stuff/<sid>, a form": {"data": {"price": "3.5"}},
    "POST /stuff": {"data": b'{"stuff": "new-%d", "price": 3.5}', **JSON},
}
FLASK = "plain Flask"

Application = Callable[[dict[str, Any], Callable[..., Any]], Any]


def _acme() -> tuple[Application, str]:
    """The application, with ten things of its administrator's, and the Authorization of a token."""
    if os.environ.get("METRICS"):
        from monitoring import metrics

        metrics.prepare(1)

    import app

    for n in range(10):
        app.db.add_stuff(f"thing-{n}", "acme", n)
    basic = base64.b64encode(f"acme:{os.environ['ACME_PASS']}".encode()).decode()
    response = app.app.test_client().get("/token", headers={"Authorization": f"Basic {basic}"})
    return app.app, f"Bearer {response.json['token']}"


def _flask() -> tuple[Application, str]:
    import flask

    plain = flask.Flask("plain")
    plain.add_url_rule("/hello-me", "hello", lambda: {"msg": "hello"})
    return plain, ""


def _environs(kind: str, authorization: str) -> list[dict[str, Any]]:
    """The requests of a kind, as a server hands them over."""
    from werkzeug.test import EnvironBuilder

    method, path = ("GET", "/hello-me") if kind == FLASK else kind.split(",")[0].split()
    options = KINDS.get(kind, {})
    made = []
    for n in range(2 * WARM_UP + REQUESTS):
        data = options.get("data")
        if isinstance(data, bytes) and b"%d" in data:
            data = data % n
        builder = EnvironBuilder(
            path=path.replace("<sid>", "thing-1"),
            method=method,
            headers={"Authorization": authorization},
            **{**options, "data": data},
        )
        made.append(builder.get_environ())
    return made


def _serve(application: Application, environs: list[dict[str, Any]]) -> None:
    statuses: list[str] = []
    for environ in environs:
        list(application(environ, lambda status, *_: statuses.append(status)))
    bad = [status for status in statuses if not status.startswith("2")]
    assert not bad, bad[:3]


def serve(where: str) -> None:
    """Serve each kind of request in forked processes, and print which process served how many."""
    application, authorization = _flask() if where == FLASK else _acme()
    kinds = [FLASK] if where == FLASK else [*KINDS]
    made = {kind: _environs(kind, authorization) for kind in kinds}
    for kind in kinds:
        warm_up, counted = made[kind][:WARM_UP], made[kind][WARM_UP:]
        for number, environs in (0, warm_up), (REQUESTS, counted):
            if child := os.fork():
                assert os.waitpid(child, 0)[1] == 0, kind
                print(child, number, kind, flush=True)
            else:
                _serve(application, environs)
                os._exit(0)


def count(where: str, metrics: str = "") -> dict[str, int]:
    """The instructions of a request of each kind, in thousands; `metrics` is true or empty."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            **os.environ,
            "ACME_DATABASE": f"sqlite:///{folder}/acme.db" if where == "SQLite" else "memory:",
            "ACME_MODE": "prod",
            "ACME_PASS": "Bench-Pass-1",
            "ACME_TOKEN_SECRET": "0" * 40,
            "METRICS": metrics,
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": str(ROOT),
        }
        valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        command = [*valgrind, sys.executable, __file__, where]
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{where}: {done.stderr}")
    counts = dict(re.findall(r"==(\d+)== Collected : (\d+)", done.stderr))
    found: dict[str, int] = {}
    for line in done.stdout.splitlines():
        child, number, kind = line.split(maxsplit=2)
        sign = 1 if int(number) else -1
        found[kind] = found.get(kind, 0) + sign * int(counts[child])
    suffix = " on SQLite" if where == "SQLite" else ""
    return {f"{kind}{suffix}": round(n / REQUESTS / 1000) for kind, n in found.items()}


def main() -> None:
    """Count, print, and compare or write."""
    committed = json.loads(FIGURES.read_text())
    python = platform.python_version()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        counted = pool.map(count, ("memory", "SQLite", FLASK))
    figures = {kind: figure for counts in counted for kind, figure in counts.items()}
    slower = []
    print("instructions of a request, in thousands, and how many times the committed figure")
    for kind, figure in figures.items():
        ratio = figure / committed["thousands"].get(kind, figure)
        print(f"{kind:<30} {figure:>6} {ratio:>6.3f}")
        if ratio > LIMIT and kind != FLASK:
            slower.append(kind)
    if os.environ.get("UPDATE"):
        FIGURES.write_text(json.dumps({"python": python, "thousands": figures}, indent=2) + "\n")
    elif python != committed["python"]:
        print(f"not compared: the committed figures are of Python {committed['python']}")
    elif slower:
        sys.exit(f"slower: {', '.join(slower)}; UPDATE=1 make bench-check commits to that")


def compare_metrics() -> None:
    """Count with and without metrics, and print what they take."""
    runs = [(where, metrics) for where in ("memory", "SQLite") for metrics in ("", "1")]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        counted = list(pool.map(lambda run: count(*run), runs))
    print("instructions of a request, in thousands: without metrics, with them, the ratio")
    for without, with_metrics in zip(counted[::2], counted[1::2], strict=True):
        for kind, figure in without.items():
            ratio = with_metrics[kind] / figure
            print(f"{kind:<38} {figure:>6} {with_metrics[kind]:>6} {ratio:>6.3f}")


if __name__ == "__main__":
    if not shutil.which("valgrind"):
        sys.exit("make bench-check needs valgrind: apt-get install valgrind")
    if len(sys.argv) > 1:
        serve(sys.argv[1])
    elif os.environ.get("METRICS"):
        compare_metrics()
    else:
        main()
