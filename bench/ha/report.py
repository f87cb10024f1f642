"""The report of `make ha`: bench/HA.md, and the pictures in bench/ha.svg."""

import html
import os
import platform
import time
from pathlib import Path

from bench.ha.experiments import (
    MAX_GAP_SECONDS,
    MAX_GAP_WITH_RESET_SECONDS,
    MAX_REQUEST_SECONDS,
    Result,
)

HERE = Path(__file__).parent.parent
DRAWN = ("power loss of the primary", "PostgreSQL killed on the primary", "switchover")
SECONDS = 45  # of each picture, from five before the experiment
WIDTH, HEIGHT = 760, 150  # of each picture, pixels


def line(number: int, result: Result) -> str:
    """A result, as printed while they are made."""
    return (
        f"{number}  {result.at}  {result.title:34}  {result.moved:10}  gap {result.gap:4.1f} s  "
        f"slowest {result.slowest:4.1f} s  {result.acknowledged} acknowledged  "
        f"{result.unavailable} x 503  {result.missing} missing  {len(result.failures)} failures"
    )


def table(results: list[Result]) -> str:
    head = (
        "experiment",
        "primary",
        "acknowledged changes",
        "of them missing",
        "longest time without one, s",
        "slowest request, s",
        "503",
        "failures",
        "load average",
    )
    lines = [f"| {' | '.join(head)} |", f"|---|---|{'--:|' * (len(head) - 2)}"]
    for r in results:
        cells = (
            *(r.title, r.moved, r.acknowledged, r.missing, f"{r.gap:.1f}", f"{r.slowest:.1f}"),
            *(r.unavailable, len(r.failures), f"{r.load:.1f}"),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def draw(results: list[Result]) -> str:
    """Acknowledged changes in each second around an experiment, one picture below the other."""
    last = {result.title: result for result in results}
    shown = [last[title] for title in DRAWN if title in last]
    height = HEIGHT * len(shown) + 30
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    step = (WIDTH - 60) / SECONDS
    for row, result in enumerate(shown):
        base = HEIGHT * (row + 1) - 20
        most = max((count for _, count in result.curve), default=0) or 1
        first = result.curve[0][0] if result.curve else 0
        zero = 40 - first * step
        title = f"{html.escape(result.title)}: {result.gap:.1f} s without an acknowledged change"
        drawn.append(f'<text x="40" y="{base - HEIGHT + 36}" font-weight="bold">{title}</text>')
        drawn.append(f'<text x="4" y="{base - HEIGHT + 56}">{most}/s</text>')
        for second, count in result.curve:
            if second - first < SECONDS:
                x, bar = 40 + (second - first) * step, (HEIGHT - 60) * count / most
                drawn.append(
                    f'<rect x="{x:.1f}" y="{base - bar:.1f}" width="{step - 1:.1f}" '
                    f'height="{bar:.1f}" fill="#0b6b57"/>'
                )
        drawn.append(
            f'<line x1="{zero:.1f}" y1="{base - HEIGHT + 44}" x2="{zero:.1f}" y2="{base}" '
            'stroke="#b3261e" stroke-width="2"/>'
        )
        for second in range(0, SECONDS, 10):
            x = zero + second * step
            drawn.append(f'<text x="{x:.1f}" y="{base + 14}" fill="#555">{second} s</text>')
    drawn.append(f'<text x="40" y="{height - 8}" fill="#555">acknowledged changes a second</text>')
    return "\n".join([*drawn, "</svg>"]) + "\n"


def write(results: list[Result], took: float, versions: list[str], speeds: list[str]) -> None:
    """Write HA.md and ha.svg."""
    failures = [(r.title, failure) for r in results for failure in r.failures]
    moved = sum("→" in r.moved for r in results)
    parts = [
        "# What happens when machines of the cluster die\n",
        f"`make ha` wrote this page on {time.strftime('%Y-%m-%d')}, in {took / 60:.0f} minutes, on "
        f"{os.cpu_count()} cores which other programs used as well, with {', '.join(versions)} and "
        f"Python {platform.python_version()}. [docs/cluster.md](../docs/cluster.md) describes the "
        "cluster.\n",
        f"{len(results)} experiments, of which {moved} moved the primary to another host: "
        f"{sum(r.acknowledged for r in results)} changes were acknowledged, "
        f"{sum(r.missing for r in results)} of them were missing later.\n",
        "![Acknowledged changes a second around three experiments](ha.svg)\n",
        table(results) + "\n",
        "Eight clients add things, change prices, sign in and out and change passwords through "
        "HAProxy, from its own host, and repeat what gets a 503, with an `Idempotency-Key` where "
        "there may be one; a ninth one tries tokens and passwords that have ended. One host of "
        "Acme connects to PostgreSQL, the other one to PgBouncer in the mode `transaction`. "
        "*Missing* is looked for in the lists of the API and on the primary. A *failure* is an "
        "acknowledged change that is missing, an ended session or an old password that is "
        "accepted, a status other than 2xx, 503, a 409 while the same change is in progress, or a "
        "401 that follows from a 503, a request of more than "
        f"{MAX_REQUEST_SECONDS:.0f} s, more than {MAX_GAP_SECONDS:.0f} s "
        f"without an acknowledged change ({MAX_GAP_WITH_RESET_SECONDS:.0f} s where PostgreSQL is "
        "frozen, since the watchdog resets that machine), or a cluster that does not heal.\n",
        *(f"{speed}\n" for speed in speeds),
    ]
    if failures:
        parts.append("## Failures\n")
        parts += [f"- {title}: {failure[:300]}" for title, failure in failures[:100]]
        parts.append("")
    (HERE / "HA.md").write_text("\n".join(parts))
    (HERE / "ha.svg").write_text(draw(results))
