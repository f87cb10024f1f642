"""The structure of the code: sizes, names, and imports that go downwards."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(
    file
    for file in ROOT.rglob("*.py")
    if not any(part.startswith(".") for part in file.relative_to(ROOT).parts)
)
MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 60


def module_of(file):
    """The dotted name of a file: `store/sql.py` is `store.sql`, `web/__init__.py` is `web`."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): file for file in FILES}


def top(module):
    return module.partition(".")[0]


def imports(file):
    """The modules of this project that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: write imports in full"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & MODULES.keys() - {module_of(file)}


def layers():
    """The layers of docs/architecture.md, from the top down."""
    page = (ROOT / "docs/architecture.md").read_text()
    block = re.search(r"(?s)## Imports\n.*?```\n(.*?)```", page)[1]
    return [line.split() for line in block.splitlines()]


LEVELS = {name: level for level, names in enumerate(layers()) for name in names}
APPLICATION = [name for name in MODULES if top(name) in LEVELS]


def test_layers_are_the_whole_application():
    outside = {"bench", "docs", "test", "tests"}
    missing = {top(name) for name in MODULES} - outside - set(LEVELS)
    assert not missing, f"docs/architecture.md, Imports: add {missing} to the line of its layer"
    assert set(LEVELS) <= {top(name) for name in MODULES}, "docs/architecture.md, Imports"


@pytest.mark.parametrize(("tool", "setting"), [("mypy", "files"), ("mutmut", "also_copy")])
def test_tools_get_all_modules(tool, setting):
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][tool][setting]
    for name in sorted(LEVELS):
        file = MODULES[name].relative_to(ROOT).parts[0]
        assert file in listed, f'pyproject.toml, [tool.{tool}]: add "{file}" to {setting}'


@pytest.mark.parametrize("name", APPLICATION)
def test_imports_go_downwards(name):
    for other in imports(MODULES[name]):
        assert top(other) in LEVELS, f"{name} imports {other}, which is no part of the application"
        if top(other) != top(name):
            message = f"{name} imports {other}, upwards: see docs/architecture.md, Imports"
            assert LEVELS[top(other)] > LEVELS[top(name)], message


def test_imports_have_no_cycle():
    graph = {name: imports(MODULES[name]) for name in APPLICATION}
    while graph:
        free = [name for name, others in graph.items() if not others & graph.keys()]
        assert free, f"these modules import each other: {', '.join(sorted(graph))}"
        for name in free:
            del graph[name]


@pytest.mark.parametrize("name", MODULES)
def test_files_and_functions_are_short(name):
    text = MODULES[name].read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{node.name} has {lines} lines"


def test_no_module_hides_a_library():
    """A top-level module named like a library or a standard module would be imported instead."""
    taken = sys.stdlib_module_names | packages_distributions().keys()
    # `test` is the tutorial's name for its tests; it hides Python's own tests, which nobody imports
    assert {top(name) for name in MODULES} & taken <= {"test", "tests", "docs"}


SUFFIXES = {".conf", ".css", ".html", ".in", ".js", ".md", ".py", ".sql", ".toml"}
# each in brackets, so that a search of the project for the words finds nothing
OUTDATED_WORDS = re.compile(r"(?i)\b(who[e]ver|l[e]st|of else[w]here)\b")
TEXTS = sorted(
    file
    for file in ROOT.rglob("*")
    if (file.suffix in SUFFIXES or file.name == "Makefile")
    and not any(part.startswith((".", "node_modules")) for part in file.relative_to(ROOT).parts)
)


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_words_are_plain_english(file):
    found = OUTDATED_WORDS.search(file.read_text())
    assert not found, f"write a plain sentence in place of {found[0]!r}"
