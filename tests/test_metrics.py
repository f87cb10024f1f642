"""Metrics: what is counted, over all workers, with few labels; and the endpoint of Prometheus."""

import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import psutil
import pytest

from monitoring import exporter, logs, metrics
from tests.application import new_application
from tests.conftest import ROOT, SECRET, Target, free_port, until, wait_for


@pytest.fixture
def measured(monkeypatch):
    """This process measures, as a worker of `make run` does; returns a function that reads."""
    state = dict(vars(metrics))
    names = ("_numbers", "own_slot", "_main_pid", "_next", "_rows", "_requests", "_sampled")
    for name in names:
        monkeypatch.setattr(metrics, name, state[name])
    metrics._rows, metrics._requests, metrics._sampled = {}, {}, 0.0
    metrics.prepare(2)
    metrics.take(0)
    return metrics.read


def values(read, name):
    """The first value of each row of a metric: its labels -> value."""
    return {key[1:]: row[0] for key, row in read().items() if key[0] == name}


def counts(read):
    """How many requests there were of each route, method and status."""
    rows = {key[1:]: row for key, row in read().items() if key[0] == "acme_request_seconds"}
    return {labels: sum(row[1 : len(metrics.BUCKETS) + 2]) for labels, row in rows.items()}


def test_requests_are_counted_by_route_method_and_status(measured):
    with new_application() as app:
        client = app.test_client()
        for path in "/hello", "/stuff/susie-secret", "/stuff/other", "/none", "/x/%0a\u2028y":
            client.get(path)
        client.open("/hello", method="INVENTED")
        client.head("/hello")
    assert counts(measured) == {
        ("/hello", "GET", "200"): 1,
        ("/stuff/<sid>", "GET", "401"): 2,
        ("unmatched", "GET", "404"): 2,
        ("unmatched", "other", "405"): 1,
        ("/hello", "HEAD", "200"): 1,
    }


def test_labels_do_not_grow_with_what_clients_send(measured):
    with new_application() as app:
        client = app.test_client()
        for n in range(50):
            client.get(f"/stuff/{n}", headers={"X-Request-ID": str(n), "User-Agent": str(n)})
            client.get(f"/{n}?{n}={n}")
            client.open("/hello", method=f"M{n}")
            client.get("/token", headers={"Authorization": f"Bearer {n}"})
    assert len(measured()) < 50  # with those of tests before
    assert len(metrics._requests) < 50


def test_full_slot_loses_rows_and_nothing_else(measured, monkeypatch):
    """A fork with thousands of routes: what has a row is counted on."""
    metrics.add("acme_audit_events", "first")
    for n in range(metrics.ROWS + 10):
        metrics.add("acme_audit_events", f"event {n}")
    metrics.add("acme_audit_events", "x" * 200)
    metrics.add("acme_audit_events", "first")
    rows = values(measured, "acme_audit_events")
    assert len(measured()) == metrics.ROWS - 1
    assert rows["first",] == 2
    assert metrics.workers() == 1


def test_sign_ins_are_counted_by_result(measured):
    with new_application(ACME_RATE_LIMIT="2/hour, 9/hour") as app:
        client = app.test_client()
        for password in (os.environ["ACME_PASS"], "Wrong-1", "Wrong-1", "Wrong-1"):
            client.post("/token", json={"username": "acme", "password": password})
    expected = {("right",): 1, ("wrong",): 2, ("limited",): 1}
    assert values(measured, "acme_sign_ins") == expected
    assert values(measured, "acme_audit_events") == {("sign-in",): 1, ("failed attempt",): 2}


def test_lost_lines_of_the_log_are_counted(measured, monkeypatch):
    """Nobody else can tell: the log itself is what fails."""
    with new_application():
        with (ROOT / "README.md").open() as read_only, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", read_only)
            for _ in range(3):
                logs.handler.handle(logging.makeLogRecord({"name": "acme", "msg": "lost"}))
        lost = logs.handler.lost
        logs.handler.lost = 0  # not to be reported in the log of the tests
    assert lost == 3
    assert values(measured, "acme_log_lines_lost") == {(): 3}


class Request:
    """What is counted of one."""

    method, url_rule = "GET", None

    def __init__(self, seconds):
        self.started = time.perf_counter() - seconds


def test_times_are_in_their_buckets(measured):
    for seconds in 0.0011, 0.3, 99.0:
        metrics.count_request(Request(seconds), 404)
        metrics.observe("acme_store_seconds", seconds, "x")
    row = measured()["acme_request_seconds", "unmatched", "GET", "404"]
    assert row[0] == pytest.approx(99.3011, abs=0.5)
    assert row[1:14] == [0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert measured()["acme_store_seconds", "x"][:2] == [pytest.approx(99.3011), 3]


def test_nothing_is_measured_without_the_setting():
    assert metrics.own_slot is None
    metrics.add("acme_sign_ins", "right")
    metrics.observe("acme_store_seconds", 1.0, "x")
    metrics.sample()
    with new_application() as app:
        assert app.test_client().get("/hello").status_code == 200
    assert metrics._rows == {}


def test_counters_outlive_a_worker_and_gauges_do_not(monkeypatch, measured):
    """Each worker is a fork; the next one continues the counters."""
    monkeypatch.setattr(metrics, "own_slot", None)
    for n in range(8):  # more than there are slots
        if not (pid := os.fork()):
            metrics.add("acme_sign_ins", "right")
            metrics.add("acme_connections", number=5.0)
            os._exit(0)
        os.waitpid(pid, 0)
        assert values(metrics.read, "acme_sign_ins") == {("right",): n + 1}
    assert not any(values(metrics.read, "acme_connections").values())
    assert metrics.workers() == 1  # this process


def test_process_that_a_worker_forks_does_not_write_to_its_slot(measured):
    metrics._main_pid = os.getppid()
    if not (pid := os.fork()):
        metrics.add("acme_sign_ins", "right")
        os._exit(metrics.own_slot is not None)
    assert os.waitpid(pid, 0)[1] == 0
    assert values(measured, "acme_sign_ins") == {}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9100", ("127.0.0.1", 9100)),
        ("9100", ("127.0.0.1", 9100)),
        ("[::1]:1", ("::1", 1)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
    ],
)
def test_address_of_the_endpoint(text, address):
    assert metrics.parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["x", ":9100", "localhost:9100", "1.2.3:9100", "0", "65536", "127.0.0.1", "::1:9"],
)
def test_wrong_address_of_the_endpoint_is_refused(text):
    with pytest.raises(ValueError, match="METRICS="):
        metrics.parse_address(text)


# the endpoint of a server


def scrape(port, path="/metrics"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as response:
        return response.read().decode()


def sample(port, name):
    """A sample of the endpoint, 0 if it is missing."""
    found = re.search(rf"(?m)^{re.escape(name)} (.*)$", scrape(port))
    return float(found[1]) if found else 0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`make run` with two workers: its process, a target, and the port of its metrics."""
    place, port, endpoint = tmp_path_factory.mktemp("metrics"), free_port(), free_port()
    environ = {
        "ACME_DATABASE": f"sqlite:///{place}/acme.db",
        "ACME_TOKEN_SECRET": SECRET,
        "METRICS": f"127.0.0.1:{endpoint}",
        "PORT": str(port),
        "WORKERS": "2",
    }
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "serve.py"], cwd=ROOT, env=os.environ | environ, stdout=log, stderr=log
        )
    try:
        wait_for(port)
        wait_for(endpoint)
        process.log = place / "log"
        yield process, Target(f"http://127.0.0.1:{port}"), endpoint
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


HELLO = 'acme_request_seconds_count{method="GET",route="/hello",status="200"}'


def test_endpoint_sums_all_workers_and_forgets_dead_ones(server):
    process, target, port = server
    for _ in range(20):
        assert target.send("GET", "/hello").status == 200
    before = sample(port, HELLO)
    assert before >= 20
    until(lambda: sample(port, "acme_workers") == 2)
    psutil.Process(process.pid).children()[0].kill()
    until(lambda: sample(port, "acme_worker_starts_total") == 3)
    until(lambda: sample(port, "acme_workers") == 2)
    assert sample(port, HELLO) == before
    assert target.send("GET", "/hello").status == 200
    assert sample(port, HELLO) == before + 1


def test_endpoint_tells_of_the_database_and_the_build(server):
    _, target, port = server
    target.person("susie")
    text = scrape(port)
    for name in (
        'acme_store_seconds_count{call="transaction"}',
        "acme_database_bytes",
        "acme_sessions",
        'acme_build_info{flask_simple_auth="',
        'acme_audit_events_total{event="user added"}',
    ):
        assert name in text
    assert "susie" not in text
    connection = socket.create_connection(("127.0.0.1", int(target.url.rpartition(":")[2])))
    with connection:
        until(lambda: sample(port, "acme_connections") == 1)
    until(lambda: sample(port, 'acme_queue_requests{queue="sign-ins"}') == 0)


def test_endpoint_has_nothing_else(server):
    _, _, port = server
    for path in "/", "/hello", "/metrics/x":
        with pytest.raises(urllib.error.HTTPError, match="404"):
            scrape(port, path)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics?x=1") as response:
        assert response.headers["Server"].strip() == "Acme"


def test_connections_that_send_nothing_do_not_keep_others_out(server):
    _, _, port = server
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    try:

        def responds():
            try:
                return "acme_workers" in scrape(port)
            except (OSError, urllib.error.URLError):
                return False

        until(responds)
    finally:
        for connection in silent:
            connection.close()


def test_reload_keeps_the_endpoint(server):
    """The new main process has the port at once: no worker of the old one keeps it."""
    process, target, port = server
    process.send_signal(signal.SIGHUP)

    def is_reloaded():
        try:
            return (
                "reloaded" in process.log.read_text()
                and target.send("GET", "/hello").status == 200
                and sample(port, HELLO)
            )
        except (OSError, urllib.error.URLError):
            return False

    until(is_reloaded)
    assert not any("cannot listen" in line for line in process.log.read_text().splitlines())


def test_port_that_is_taken_does_not_stop_the_server(tmp_path):
    """It is tried again until it is free."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken, port = other.getsockname()[1], free_port()
        environ = {
            "ACME_DATABASE": "memory:",
            "METRICS": f"127.0.0.1:{taken}",
            "PORT": str(port),
            "WORKERS": "1",
        }
        log = (tmp_path / "log").open("w")
        process = subprocess.Popen(
            [sys.executable, "serve.py"], cwd=ROOT, env=os.environ | environ, stdout=log, stderr=log
        )
        try:
            wait_for(port)
            assert Target(f"http://127.0.0.1:{port}").send("GET", "/hello").status == 200
            assert (tmp_path / "log").read_text().count("METRICS: cannot listen") == 1
            other.close()
            wait_for(taken)
            assert sample(taken, HELLO) == 1
        finally:
            process.terminate()
            assert process.wait(timeout=30) == 0
            log.close()


# the files for Prometheus and Grafana


def test_alert_rules_and_dashboard_name_metrics_that_exist():
    dashboard = json.loads((ROOT / "deploy/grafana.json").read_text())
    texts = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    texts.append((ROOT / "deploy/alerts.yml").read_text())
    named = set(re.findall(r"\bacme_\w+", " ".join(texts)))
    suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}
    suffixes["summary"] = ["_count", "_sum"]
    known = {name + end for name, m in metrics.METRICS.items() for end in suffixes[m.kind]}
    assert named <= known | set(exporter.STATISTICS) | {"acme_workers", "acme_build_info"}
    assert len(named) > 10


@pytest.fixture
def promtool():
    """Prometheus's own checker."""
    program = shutil.which("promtool")
    if not program:
        pytest.skip("sudo apt-get install prometheus")

    def check(*arguments, text=None):
        done = subprocess.run([program, *arguments], input=text, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return done.stdout

    return check


def test_promtool_accepts_the_alert_rules(promtool):
    assert "SUCCESS" in promtool("check", "rules", str(ROOT / "deploy/alerts.yml"))


def test_promtool_accepts_the_endpoint(promtool, server):
    promtool("check", "metrics", text=scrape(server[2]))
