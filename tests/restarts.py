"""Stopping, reloading and restarting servers under load: what the tests of it share."""

import contextlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import threading

import psutil

import test as tutorial
from tests.conftest import ROOT, SECRET, opened, until

MANY = "RELOADS" in os.environ
RELOADS = int(os.environ.get("RELOADS", "2"))  # of each test
CLIENTS = 4
SERVE = (sys.executable, "serve.py")


@contextlib.contextmanager
def main_process(*command, cwd=ROOT, **environ):
    """The main process of a server; its standard output and errors are in `lines`."""
    environ = {"ACME_TOKEN_SECRET": SECRET} | environ
    process = subprocess.Popen(
        command or SERVE,
        cwd=cwd,
        env=os.environ | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        close_fds=False,
        start_new_session=True,
        text=True,
    )
    process.lines = []
    reader = threading.Thread(target=lambda: process.lines.extend(process.stdout))
    reader.start()
    try:
        until(lambda: "  stop        Ctrl-C\n" in process.lines or process.poll() is not None)
        assert process.poll() is None, process.lines
        yield process
        if process.poll() is None:
            process.terminate()
        assert process.wait(timeout=30) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join()
        process.stdout.close()


def workers_of(process):
    return {child.pid for child in psutil.Process(process.pid).children()}


def reload(process):
    """Send SIGHUP, and wait until the new workers serve."""

    def number():
        return sum(line.endswith(" reloaded\n") for line in process.lines)

    before, reloads = workers_of(process), number()
    process.send_signal(signal.SIGHUP)
    until(lambda: number() > reloads)
    until(lambda: workers_of(process) - before)


def connect(port, place=None):
    """A connection that is kept alive, over TLS if the place of the certificate is given."""
    if not place:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    context = ssl.create_default_context(cafile=place / "cert.pem")
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)


def proxied(port, path, **headers):
    """The status of a request as the proxy passes it on."""
    with contextlib.closing(connect(port)) as connection:
        connection.request("GET", path, headers={"X-Forwarded-Proto": "https"} | headers)
        return connection.getresponse().status


class Load:
    """Clients that add stuff with names of their own, as long as the `with` block runs."""

    def __init__(self, port, place=None):
        self.port, self.place = port, place
        self.sent, self.lost, self.added = 0, [], set()
        self.end = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(CLIENTS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        for thread in self.threads:
            thread.join()

    def run(self, client):
        with contextlib.closing(connect(self.port, self.place)) as connection:
            self.add(client, connection)

    def add(self, client, connection):
        headers = tutorial.basic_auth("acme", os.environ["ACME_PASS"])
        connection.request("GET", "/token", headers=headers)
        token = json.loads(connection.getresponse().read())["token"]
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        number = 0
        while not self.end.is_set():
            number += 1
            name = f"thing{client}x{number}"
            try:
                body = json.dumps({"stuff": name, "price": 1})
                connection.request("POST", "/stuff", body, headers)
                response = connection.getresponse()
                response.read()
                if response.status == 201:
                    self.added.add(name)
                else:
                    self.lost.append((name, response.status))
            except (OSError, http.client.HTTPException) as e:
                self.lost.append((name, repr(e)))
                connection.close()
            self.sent += 1

    def until_more(self, number=200 if MANY else 50):
        """Wait for so many more requests."""
        before = self.sent
        until(lambda: self.sent >= before + number)


def check_stored(url, load):
    """What was acknowledged is stored, and nothing else."""
    print(f"{load.sent} requests, {len(load.lost)} lost")  # shown by pytest -s
    assert load.lost == []
    with contextlib.closing(opened(url)) as store:
        names, after = set(), None
        while page := store.get_user_stuff("acme", after=after):
            names |= {name for name, _ in page}
            after = page[-1][0]
    assert names == load.added
