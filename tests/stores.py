"""What the tests of stores share."""

import sys
from concurrent.futures import ThreadPoolExecutor

# of no password
HASH = (
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZS1zYWx0LTE2LWJ5dA$"
    "3WiG5i2ZzMcU0p1cQUqWO+cuRa0TDk6R3vdwKAr2iXM"
)
DB = (sys.executable, "-m", "flask", "--app", "./app.py", "db")


def post(target, name):
    return target.send_json("POST", "/stuff", {"stuff": name, "price": 1}, who="acme")


def statuses(target, count=8):
    """The statuses of so many reads, all at the same time."""
    with ThreadPoolExecutor(count) as pool:
        sent = [pool.submit(target.send, "GET", "/stuff", who="acme") for _ in range(count)]
        return {response.result().status for response in sent}


def stuff_of(target):
    """The names of all that acme owns."""
    names, after = set(), ""
    while page := target.send("GET", f"/stuff{after}", who="acme").json:
        names |= {name for name, _ in page}
        after = f"?after={page[-1][0]}"
    return names
