"""The pinned requirements: complete, with hashes, and in step with what the .in files ask for."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
FILES = ["requirements", "requirements-dev", "bench/requirements", "deploy/ha/requirements"]
# name, extras, version, marker and SHA-256 hashes: neither an address nor an option of pip
PINNED = re.compile(
    r"([\w.-]+(?:\[[\w, -]+\])?==[^\s;]+(?: ; [^;]+?)?)(?: --hash=sha256:[0-9a-f]{64})+"
)


def lines(path):
    """The requirements and options in a file, one a string, without comments."""
    text = re.sub(r"(^|\s)#.*", "", (ROOT / path).read_text(), flags=re.MULTILINE)
    joined = text.replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in joined if line.strip()]


def pinned(file):
    """The pins of a compiled file: canonical name -> requirements, one for each marker."""
    pins = {}
    for line in lines(f"{file}.txt"):
        match = PINNED.fullmatch(line)
        assert match, f"{line} has no version or no hash: make requirements"
        requirement = Requirement(match[1])
        pins.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return pins


def versions(pins):
    """Canonical name -> versions."""
    return {name: {str(pin.specifier) for pin in found} for name, found in pins.items()}


@pytest.mark.parametrize("file", FILES)
def test_every_requirement_has_a_version_and_hashes(file):
    compiled = lines(f"{file}.txt")
    assert compiled
    assert [line for line in compiled if not PINNED.fullmatch(line)] == [], "make requirements"


@pytest.mark.parametrize("file", FILES)
def test_every_direct_requirement_is_pinned_as_asked_for(file):
    pins = pinned(file)
    direct = [Requirement(line) for line in lines(f"{file}.in") if not line.startswith("-")]
    assert direct
    for asked in direct:
        found = pins.get(canonicalize_name(asked.name), [])
        assert found, f"{file}.txt lacks {asked}: make requirements"
        for pin in found:
            (version,) = pin.specifier
            assert asked.specifier.contains(version.version), f"{pin} is not {asked}"
            assert asked.extras <= pin.extras, f"{pin} lacks an extra of {asked}"


def test_development_and_benchmarks_use_the_versions_that_run():
    run, development, benchmarks, _ = (versions(pinned(file)) for file in FILES)
    assert {name: development.get(name) for name in run} == run, "make requirements"
    shared = benchmarks.keys() & development.keys()
    assert {n: benchmarks[n] for n in shared} == {n: development[n] for n in shared}
