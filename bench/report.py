"""The report of bench.py: tables in RESULTS.md, and chart.svg."""

import dataclasses
import html
import statistics
from pathlib import Path

HERE = Path(__file__).parent
ACME = "Acme"
CACHING = "FastAPI, tokens cached"
CEILING = "plain Flask, open to all"
READS = ("GET /hello-me", "GET /stuff")
# the goals: requests a second, as a multiple of the peer's
GOALS = {
    "memory": {
        "FastAPI on uvicorn": 2.0,
        "Litestar on granian": 1.3,
        "Flask-JWT-Extended on granian": 2.0,
    },
    "PostgreSQL": {"FastAPI, SQLModel": 5.0, "FastAPI, asyncpg": 1.25},
}


@dataclasses.dataclass
class Run:
    """The result of one run of wrk."""

    rate: float  # successful requests a second
    cpu: float  # the server's CPU time for each, microseconds
    p99: float  # 99th percentile of the latency, milliseconds
    errors: int


Results = dict[str, dict[str, list[Run]]]  # by server and kind of work


def middle(runs: list[Run], field: str) -> float:
    return statistics.median(getattr(run, field) for run in runs)


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def speeds(results: Results) -> str:
    """Requests a second and CPU time of each request, one row for each server."""
    works = list(next(iter(results.values())))
    rows = [
        [name, *(f"{middle(runs[w], 'rate'):.0f} ({middle(runs[w], 'cpu'):.0f})" for w in works)]
        for name, runs in results.items()
    ]
    return table(["requests/s (CPU µs each)", *(f"`{work}`" for work in works)], rows)


def ratios(store: str, results: Results) -> str:
    """The ratios of Acme to each peer, by requests a second and by CPU time."""
    works = list(results[ACME])
    rows = []
    for peer in results:
        if peer == ACME:
            continue
        line = [peer]
        for work in works:
            mine, theirs = results[ACME][work], results[peer][work]
            rate = middle(mine, "rate") / middle(theirs, "rate")
            cpu = middle(theirs, "cpu") / middle(mine, "cpu")
            line.append(f"{rate:.2f} ({cpu:.2f})")
        goal = GOALS[store].get(peer)
        reads = "" if store == "memory" else ", reads"
        rows.append([*line, f"{goal:g}{reads}" if goal else ""])
    head = ["Acme is so many times as fast as", *(f"`{work}`" for work in works), "goal"]
    return table(head, rows)


def tails(results: Results) -> str:
    rows = []
    for name, runs in results.items():
        errors = sum(run.errors for r in runs.values() for run in r)
        rows.append([name, *(f"{middle(r, 'p99'):.0f}" for r in runs.values()), str(errors)])
    works = [f"`{work}`" for work in next(iter(results.values()))]
    return table(["p99, ms", *works, "errors"], rows)


def chart(results: dict[str, Results], scale: str, work: str = "GET /stuff") -> None:
    """Write chart.svg: requests a second of one kind of work, in memory and on PostgreSQL."""
    bars: list[tuple[str, float | None]] = []
    for store in "memory", "PostgreSQL":
        bars.append((f"{work}, {store}", None))
        rates = {name: middle(runs[work], "rate") for name, runs in results[store].items()}
        bars += sorted(
            ((name, rate) for name, rate in rates.items() if "workers" not in name),
            key=lambda bar: -bar[1],
        )
    most = max(rate or 0 for _, rate in bars)
    height = 24 * len(bars) + 40
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for n, (name, rate) in enumerate(bars):
        y = 24 * n + 30
        if rate is None:
            drawn.append(f'<text x="20" y="{y}" font-weight="bold">{html.escape(name)}</text>')
            continue
        width, color = 420 * rate / most, "#0b6b57" if name == ACME else "#b8c4c0"
        drawn += [
            f'<text x="230" y="{y}" text-anchor="end">{html.escape(name)}</text>',
            f'<rect x="240" y="{y - 14}" width="{width:.0f}" height="18" fill="{color}"/>',
            f'<text x="{246 + width:.0f}" y="{y}">{rate:,.0f}</text>',
        ]
    drawn.append(f'<text x="240" y="{height - 8}" fill="#555">{scale}</text></svg>')
    (HERE / "chart.svg").write_text("\n".join(drawn) + "\n")


def report(results: dict[str, Results], method: str, sizes: list[list[str]], grown: str) -> str:
    """The text of RESULTS.md."""
    gain = [
        middle(results["memory"][CACHING][work], "rate")
        / middle(results["memory"]["FastAPI on uvicorn"][work], "rate")
        for work in READS
    ]
    parts = ["# How fast Acme is\n", method, "![Requests a second of GET /stuff](chart.svg)\n"]
    for store, of_store in results.items():
        parts += [f"## {store}\n", speeds(of_store), tails(of_store)]
        peers = {name: runs for name, runs in of_store.items() if "workers" not in name}
        if len(peers) > 1:
            parts.append(ratios(store, peers))
    parts += [
        "Acme reads the session of each token from the store at every request, so that a sign-out "
        "takes effect at once; the peers read the user. Acme remembers verified signatures; the "
        "peers verify the token each time, as in their documentation. With the same cache, "
        f'FastAPI reads {gain[0]:.2f} and {gain[1]:.2f} times as fast: the row "{CACHING}".\n',
        "Two workers share two cores with wrk and PostgreSQL: they cannot be twice as fast.\n",
        "## Start and size\n",
        table(["one worker, in memory", "first response after, s", "RSS, MiB", "PSS, MiB"], sizes),
        "## As the data grow\n",
        f"```\n{grown}```\n",
    ]
    return "\n".join(parts)
