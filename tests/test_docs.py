"""The documentation: settings, links, the changelog and the commands agree with the code."""

import re
import shutil
import subprocess
import sys

import dotenv
import pytest

import acme
from openapi.document import Document
from test import app
from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md")])
CODE = [ROOT / "acme.conf", *ROOT.glob("*.py"), *ROOT.glob("[!.tbd]*/**/*.py")]


def settings_of_the_code():
    """The environment variables that the application and `make run` read."""
    read = r'(?:os\.environ(?:\.\w+)?[\[(]|\binteger\()\s*"([A-Z_]+)"'
    return {name for file in CODE if file.name != "test.py" for name in settings(read, file)}


def settings(pattern, file):
    return re.findall(pattern, file.read_text())


def settings_of_the_readme():
    """The variables in the table of README.md."""
    _, _, section = (ROOT / "README.md").read_text().partition("| variable |")
    table = section.partition("\n\n")[0]
    names = [row.split("|")[1] for row in table.splitlines()[2:]]
    return set(re.findall(r"`([A-Z_]+)`", " ".join(names)))


def test_every_setting_is_in_the_readme_and_every_row_is_read():
    assert settings_of_the_code() >= {"ACME_PASS", "ACME_CONFIG", "HOST", "PORT", "CERT"}
    assert settings_of_the_readme() == settings_of_the_code()


def test_env_example_names_every_setting_and_sets_none():
    """Copied to `.env` as it is, it changes nothing."""
    text = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"(?m)^#?([A-Z_]+)=", text)) == settings_of_the_code()
    assert dotenv.dotenv_values(ROOT / ".env.example") == {}


def anchors(page):
    """The anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?s)```.*?```", "", page.read_text()))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue  # another site
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_commands_in_code_style_exist(page):
    """A file in backticks exists, from the root or beside the page, and `make x` is a target."""
    text = page.read_text()
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    named = set(re.findall(r"`make ([a-z-]+)[^`\n]*`", text))
    assert named <= targets, f"{page.name}: {named - targets}"
    for name in re.findall(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|sql|md|js|toml|in|conf))`", text):
        places = [ROOT, page.parent, *(ROOT / place for place in ("tests", "store", "www", "web"))]
        assert any((place / name).exists() for place in places), f"{page.name}: {name}"


def test_each_concept_leads_to_its_file():
    """A search for the usual name finds the file, in the code and in docs/architecture.md."""
    _, _, section = (ROOT / "docs/architecture.md").read_text().partition("## Where to look")
    table = section.partition("\n## ")[0].lower()
    for term, file in {
        "brute force": "security/rate_limit.py",
        "rate limit": "security/rate_limit.py",
        "connection pool": "store/pool.py",
        "CORS": "web/cors.py",
        "CSRF": "web/csrf.py",
        "keyset pagination": "openapi/returns.py",
        "MFA": "security/totp.py",
        "TOTP": "security/totp.py",
        "refresh token rotation": "security/sessions.py",
        "slowloris": "web/slow_clients.py",
    }.items():
        assert term.lower() in (ROOT / file).read_text().lower(), f"{file} does not name {term}"
        rows = [row for row in table.splitlines() if term.lower() in row and file in row]
        assert rows, f"docs/architecture.md, Where to look: {term} in {file}"


def test_version_is_the_newest_in_the_changelog():
    versions = re.findall(r"(?m)^## ([\d.]+) - ", (ROOT / "CHANGELOG.md").read_text())
    assert versions[0] == acme.__version__
    assert Document(app).document()["info"]["version"] == acme.__version__


def test_ci_template_calls_the_same_script():
    assert "run: .ci/run" in (ROOT / ".github/workflows/ci.yml").read_text()
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


@pytest.fixture
def copy(tmp_path):
    """A copy of the project as a fresh repository, without what .gitignore leaves out."""
    copied = tmp_path / "project"
    patterns = ["__pycache__", "*.db*", "*.backup", "*.jsonl", "screenshots", "test-results"]
    hidden = ["node_modules", ".git", ".env", ".venv*", ".*_cache", ".hypothesis"]
    shutil.copytree(ROOT, copied, ignore=shutil.ignore_patterns(*patterns, *hidden))
    for command in ["git init -q", "git add -A"]:
        subprocess.run(command.split(), cwd=copied, check=True)
    return copied


def python(folder, *arguments):
    """Run Python in a folder, where it must succeed, however busy the machine is."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


def blocks(page, language):
    """The blocks of code of a page."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", (ROOT / page).read_text())


def test_rename_leaves_no_trace_and_the_tutorial_passes(copy):
    """The commands of docs/rename.md, as they stand there; in a project that is renamed, none."""
    (script,) = blocks("docs/rename.md", "bash")
    old, new = re.search(r"s/(\w+)/(\w+)/g", script).groups()
    if old == new:
        return
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=copy, check=True)
    left = subprocess.run(["git", "grep", "-i", "acme"], cwd=copy, capture_output=True, text=True)
    assert left.stdout == ""
    assert not [file for file in copy.rglob("*") if "acme" in file.name.lower()]
    python(copy, "-m", "pytest", "-q", "test.py")


def follow(page, copy, *tests):
    """Apply the diffs of a guide to a copy of the project, and run tests there.

    False where there is nothing to apply: in a project that has done it, has migrations of its own
    that are numbered like those of the guide, or has removed the page.
    """
    if not (ROOT / page).exists():
        return False
    text = (ROOT / page).read_text()
    if any((ROOT / new).exists() for new in re.findall(r"(?m)^--- /dev/null\n\+\+\+ b/(.*)", text)):
        return False
    (script,) = blocks(page, "bash")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=copy, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{page}: change what does not apply: {done.stderr}"
    python(copy, "-m", "docs.routes")
    python(copy, "-m", "ruff", "check", "--quiet", "--no-cache")
    python(copy, "-m", "ruff", "format", "--quiet", "--no-cache", "--check")
    tests = [*tests, "tests/test_authorization.py::test_declarations"]
    tests = [*tests, "tests/test_layout.py::test_files_and_functions_are_short"]
    python(copy, "-m", "pytest", "-q", *tests)
    return True


def test_add_a_role_works_as_it_stands(copy):
    """In process; on PostgreSQL it is as on SQLite."""
    follow("docs/add-a-role.md", copy, "tests/test_auditor.py", "-k", "not http and not postgresql")


def test_add_a_resource_works_as_it_stands_and_is_short(copy):
    """On each store, in process, and with what each new route and table needs."""
    page = "docs/add-a-resource.md"
    needed = [
        *("tests/test_notes.py", "tests/test_migrations.py", "tests/test_openapi.py"),
        *("tests/test_authorization.py::test_table_is_complete",),
        *("tests/test_authorization.py::test_routes_document_is_up_to_date",),
    ]
    words = "notes or complete or up_to_date or declarations or fits or carries or deleted_with"
    words = f"({words} or client_has or has_a_docstring or are_short) and not http"
    if not follow(page, copy, *needed, "-k", words):
        return
    subprocess.run(["git", "add", "-N", "."], cwd=copy, check=True)
    stat = subprocess.check_output(["git", "diff", "--shortstat"], cwd=copy, text=True)
    files, added, *_ = map(int, re.findall(r"\d+", stat))
    assert files <= 8 and added <= 150
    assert f"{files} files and {added} lines" in (ROOT / page).read_text()
