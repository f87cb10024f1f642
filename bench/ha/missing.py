"""What `make ha` needs and this machine lacks; as a program, it says so and fails."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

# the programs, and their packages of Debian
TOOLS = {
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "openssl": "openssl",
    "etcd": "etcd-server",
    "haproxy": "haproxy",
    "pgbouncer": "pgbouncer",
    "redis-server": "redis-server",
}
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def find(tool: str) -> str | None:
    """The path of a program, one for administrators as well."""
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


def programs() -> Path | None:
    """The folder with the programs of the newest PostgreSQL of Debian."""
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(found, key=lambda path: int(path.parts[4]), default=None)
    return newest.parent if newest else None


def missing() -> Iterator[str]:
    """What this machine lacks, and how to get it."""
    if not sys.platform.startswith("linux"):
        yield "Linux, which has network namespaces"
        return
    if os.geteuid() != 0:
        yield "root, who may make network namespaces: sudo make ha"
    packages = {package for tool, package in TOOLS.items() if not find(tool)}
    packages |= set() if programs() else {"postgresql"}
    if packages:
        yield f"packages of Debian: apt-get install {' '.join(sorted(packages))}"


if __name__ == "__main__":
    if lacks := list(missing()):
        sys.exit("\n  ".join(["make ha: this machine lacks", *lacks]))
