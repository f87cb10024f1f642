"""The experiments of `make ha`: what happens to the cluster, and how it is undone."""

import dataclasses
import itertools
import os
import signal
import time
from collections.abc import Callable

from bench.ha.cluster import Cluster, until
from bench.ha.hosts import Host
from bench.ha.load import UNAVAILABLE, Answer, Load

QUIET_SECONDS = 4.0  # of load before an experiment, and at least after it
RESUMED_WRITES = 5  # in a second
HEAL_SECONDS = 90.0
MAX_REQUEST_SECONDS = 6.0
MAX_GAP_SECONDS = 30.0
# the reset, 15 s, may take the leader of etcd with it, and then the ttl, 20 s, begins again
MAX_GAP_WITH_RESET_SECONDS = 45.0

Undo = Callable[[], None]


@dataclasses.dataclass
class Experiment:
    """Something that happens, and whether another host becomes the primary."""

    title: str
    act: Callable[[Cluster], Undo]
    is_failover: bool = False
    max_gap: float = MAX_GAP_SECONDS


@dataclasses.dataclass
class Result:
    """What an experiment has shown."""

    title: str
    at: str  # when it happened, as in the logs
    moved: str  # the primary before and after
    acknowledged: int  # changes
    unavailable: int  # answers of 503
    gap: float  # the longest time without an acknowledged change, seconds
    slowest: float  # request, seconds
    missing: int
    failures: list[str]
    load: float  # the load average of a minute
    curve: list[tuple[float, int]]  # acknowledged changes in each second around it


def nothing() -> None:
    """Undo what mends itself."""


def kill_postgresql(cluster: Cluster) -> Undo:
    primary(cluster).signal("postgres", signal.SIGKILL)
    return nothing


def power_loss(cluster: Cluster) -> Undo:
    host = primary(cluster)
    host.power_off()
    return host.power_on


def cut_from_all(cluster: Cluster) -> Undo:
    host = primary(cluster)
    host.cut(cluster.hosts)
    return lambda: host.heal(cluster.hosts)


def cut_from_peers(cluster: Cluster) -> Undo:
    host = primary(cluster)
    host.cut(cluster.databases)
    return lambda: host.heal(cluster.databases)


def switchover(cluster: Cluster) -> Undo:
    before = primary(cluster)

    def has_moved() -> bool:
        if cluster.is_replicated():
            cluster.switchover(before, cluster.standby(synchronous=True))
        return cluster.leader() not in (before, None)

    until(has_moved, "a switchover", HEAL_SECONDS)
    return nothing


def freeze(cluster: Cluster) -> Undo:
    """Its watchdog resets the machine, since Patroni waits for PostgreSQL."""
    host = primary(cluster)
    host.signal("postgres", signal.SIGSTOP)

    def boot() -> None:
        until(lambda: not host.is_on, "a reset by the watchdog", MAX_GAP_SECONDS)
        host.power_on()

    return boot


def lose_only_standby(cluster: Cluster) -> Undo:
    """Stop PostgreSQL on both other hosts, but not etcd, which needs two of three."""
    standbys = [cluster.standby(synchronous=False), cluster.standby(synchronous=True)]
    for host in standbys:
        host.stop("patroni")
        host.signal("patroni", signal.SIGKILL)
        host.signal("postgres", signal.SIGKILL)

    def start() -> None:
        for host in standbys:
            host.start("patroni")

    return start


def kill_acme(cluster: Cluster) -> Undo:
    cluster.servers[0].signal("serve.py", signal.SIGKILL)
    return nothing


def stop_acme(cluster: Cluster) -> Undo:
    cluster.servers[1].signal("serve.py", signal.SIGTERM, first=True)
    return nothing


def upgrade_acme(cluster: Cluster) -> Undo:
    """Restart one after the other, and then reload them, as for a new version."""
    for number in signal.SIGTERM, signal.SIGHUP:
        for server in cluster.servers:
            (before, *_) = server.processes("serve.py")[1:]
            server.signal("serve.py", number, first=True)

            def is_new(server: Host = server, before: int = before) -> bool:
                return before not in server.processes("serve.py") and cluster.is_ready(server)

            until(is_new, f"the restart of {server.name}", 60)
            time.sleep(2)  # in which HAProxy notices
    return nothing


def lose_redis(cluster: Cluster) -> Undo:
    cluster.balancer.stop("redis-server")
    cluster.balancer.signal("redis-server", signal.SIGKILL)
    return lambda: cluster.balancer.start("redis-server")


EXPERIMENTS = [
    Experiment("PostgreSQL killed on the primary", kill_postgresql),
    Experiment("power loss of the primary", power_loss, True),
    Experiment("primary cut off from all", cut_from_all, True),
    Experiment("primary cut off from its peers", cut_from_peers, True),
    Experiment("switchover", switchover, True),
    Experiment("PostgreSQL frozen on the primary", freeze, True, MAX_GAP_WITH_RESET_SECONDS),
    Experiment("both standbys lost", lose_only_standby),
    Experiment("an Acme killed", kill_acme),
    Experiment("an Acme stopped", stop_acme),
    Experiment("Acme upgraded, one after the other", upgrade_acme),
    Experiment("Redis gone", lose_redis),
]


def primary(cluster: Cluster) -> Host:
    leader = cluster.leader()
    assert leader, "there is no primary"
    return leader


def conduct(experiment: Experiment, cluster: Cluster, load: Load) -> Result:
    """Let an experiment happen under load, wait until the cluster has healed, and check it."""
    first, known = len(load.answers), len(load.failures)
    before = primary(cluster).name
    start = time.monotonic()
    load.goes.set()
    time.sleep(QUIET_SECONDS)
    until(cluster.is_healthy, "health", HEAL_SECONDS)  # etcd may settle for some seconds
    happened, at = time.monotonic(), time.strftime("%H:%M:%S")
    undo = experiment.act(cluster)
    acted = time.monotonic()

    def has_resumed() -> bool:
        now = time.monotonic()
        recent = [a for a in load.answers[-400:] if a.is_acknowledged_change and a.end > now - 1]
        return now > acted + QUIET_SECONDS and len(recent) >= RESUMED_WRITES

    try:
        until(has_resumed, "writes", 2 * MAX_GAP_SECONDS)
        time.sleep(2)
    except TimeoutError as e:
        load.wrong(str(e))
    try:
        undo()
        until(cluster.is_healthy, "healing", HEAL_SECONDS)
    except TimeoutError as e:
        load.wrong(f"{e}: {cluster.members()}")
    time.sleep(1)
    end = time.monotonic()
    load.pause()
    after = primary(cluster).name
    if experiment.is_failover and after == before:
        load.wrong(f"the primary is still on {before}")
    answers = load.answers[first:]
    missing = cluster.balancer.connects(lambda: load.check(cluster.stuff()))
    times = [a.end for a in answers if a.is_acknowledged_change]
    result = Result(
        title=experiment.title,
        at=at,
        moved=f"{before} → {after}" if before != after else before,
        acknowledged=len(times),
        unavailable=sum(a.status == UNAVAILABLE for a in answers),
        gap=longest_gap([start, *(t for t in times if t < end), end]),
        slowest=max((a.seconds for a in answers), default=0.0),
        missing=missing,
        failures=load.failures[known:],
        load=os.getloadavg()[0],
        curve=curve(times, happened, end),
    )
    result.failures += late(answers, result.gap, experiment.max_gap)
    return result


def late(answers: list[Answer], gap: float, max_gap: float) -> list[str]:
    """What took too long."""
    slow = [a for a in answers if a.seconds > MAX_REQUEST_SECONDS]
    found = [f"{a.method} {a.path} ({a.status}) took {a.seconds:.1f} s" for a in slow]
    if gap > max_gap:
        found.append(f"no change was acknowledged for {gap:.1f} s")
    return found


def longest_gap(times: list[float]) -> float:
    """The longest time between two of them."""
    return max(b - a for a, b in itertools.pairwise(times))


def curve(times: list[float], happened: float, end: float) -> list[tuple[float, int]]:
    """How many times there are in each second, relative to when it happened."""
    found = []
    for second in range(-int(QUIET_SECONDS), int(end - happened)):
        at = happened + second
        found.append((float(second), sum(at <= t < at + 1 for t in times)))
    return found
