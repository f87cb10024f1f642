"""`make ha`: run the experiments under load; writes bench/HA.md, and fails if anything is lost.

Two rounds of all experiments, or as many as `ROUNDS` says; one with `QUICK=1`. The logs of all
programs are copied to the folder `LOGS`, if that is given.
"""

import os
import shutil
import signal
import sys
import time

from bench.ha import report
from bench.ha.cluster import PATRONI, Cluster, running
from bench.ha.experiments import EXPERIMENTS, Result, conduct
from bench.ha.hosts import run
from bench.ha.load import Load
from bench.ha.missing import find, programs


def conduct_all(cluster: Cluster, load: Load, rounds: int) -> list[Result]:
    """The results of all experiments, each in each round."""
    results = []
    for number in range(rounds):
        for experiment in EXPERIMENTS:
            result = conduct(experiment, cluster, load)
            results.append(result)
            print(report.line(number + 1, result), flush=True)
            for failure in result.failures[:5]:
                print(f"    {failure[:200]}", flush=True)
    load.stop()
    return results


def speeds(cluster: Cluster, load: Load) -> list[str]:
    """How many writes a second there are, in sentences."""
    posts = cluster.balancer.connects(load.posts_per_second)
    inserts = cluster.inserts_per_second()
    return [
        f"Without experiments: {posts:.0f} `POST /stuff` a second by {load.size} clients, which "
        f"have the same cores, and {inserts:.0f} inserts a second by pgbench with 16 connections "
        "from a host of Acme, each on the synchronous standby when it is confirmed."
    ]


def versions() -> list[str]:
    """The programs of the cluster."""
    asked = {
        "PostgreSQL": (f"{programs()}/postgres", "--version", 2),
        "Patroni": (f"{PATRONI}/bin/patroni", "--version", 1),
        "etcd": (find("etcd") or "", "--version", 2),
        "HAProxy": (find("haproxy") or "", "-v", 2),
    }
    return [f"{name} {run(*command).split()[word]}" for name, (*command, word) in asked.items()]


def copy_logs(cluster: Cluster, folder: str) -> None:
    for host in cluster.hosts:
        shutil.copytree(host.place / "log", f"{folder}/{host.name}", dirs_exist_ok=True)


def main() -> None:
    for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, lambda *_: sys.exit("make ha: stopped"))
    rounds = 1 if os.environ.get("QUICK") else int(os.environ.get("ROUNDS", "2"))
    start = time.monotonic()
    with running() as cluster:
        print(f"the cluster runs after {time.monotonic() - start:.0f} s", flush=True)
        load = Load(cluster.balancer.address, cluster.certificate)
        cluster.balancer.connects(lambda: load.start(cluster.secrets["pass"]))
        try:
            speed = speeds(cluster, load)
            print(*speed, sep="\n", flush=True)
            results = conduct_all(cluster, load, rounds)
        finally:
            if folder := os.environ.get("LOGS"):
                copy_logs(cluster, folder)
    report.write(results, time.monotonic() - start, versions(), speed)
    if failures := sum(len(result.failures) for result in results):
        sys.exit(f"make ha: {failures} failures: see bench/HA.md")
    print("make ha: nothing lost: see bench/HA.md")


if __name__ == "__main__":
    main()
