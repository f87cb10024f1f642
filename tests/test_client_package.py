"""The JavaScript client as a package, which a TypeScript project compiles against."""

import json
import subprocess
import tarfile

import pytest

import acme
from tests.conftest import ROOT
from tests.node import needs_tools, tsc

PROJECT = """
import { Acme, AcmeError, NetworkError, type Page, type Profile, type Stuff } from "acme-client"

interface Note { id: string, text: string }
const acme = new Acme("https://acme.example.org", { cookie: false })
const isComplete: boolean = await acme.signIn("susie", "Some-Pass-1")
if (!isComplete) await acme.secondStep("123456")
const page: Page<Stuff> = await acme.stuff({ limit: 10 })
for (const [name, price] of page.items) console.log(name.length, price.toFixed(2))
if (page.next) await acme.stuff({ after: page.next })
const me: Profile = await acme.changeUser("susie", { email: "susie@acme.org" })
const note: Note = await acme.resource<Note>("/note").get("n1")
await acme.resource<Note>("/note").add(note)
await acme.primes([2, 3n])
try {
  await new Acme("", { key: "acme_1" }).deleteStuff(me.login)
} catch (error) {
  if (error instanceof NetworkError) console.log(error.status)
  else if (error instanceof AcmeError) setTimeout(() => {}, (error.retryAfter ?? 0) * 1000)
}
// @ts-expect-error
await acme.addStuff("pinte", "6.5")
// @ts-expect-error
await acme.addKey("susie", "backup", "all", "Some-Pass-1")
// @ts-expect-error
console.log(page.items[0]!.price)
// @ts-expect-error
new Acme("", { cookies: false })
"""
OPTIONS = {
    "strict": True,
    "noEmit": True,
    "exactOptionalPropertyTypes": True,
    "noUncheckedIndexedAccess": True,
    "target": "es2022",
    "lib": ["es2022", "dom"],
    "types": [],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in which the package that `npm pack` makes is installed."""
    needs_tools()
    folder = tmp_path_factory.mktemp("project")
    package = folder / "node_modules/acme-client"
    command = ["npm", "pack", "--silent", "--offline", "--pack-destination", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with tarfile.open(folder / f"acme-client-{acme.__version__}.tgz") as archive:
        archive.extractall(folder, filter="data")
    package.parent.mkdir()
    (folder / "package").rename(package)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "project.ts").write_text(PROJECT)
    return folder


def test_package_has_no_dependency_and_the_version_of_acme(project):
    package = project / "node_modules/acme-client"
    described = json.loads((package / "package.json").read_text())
    assert described["version"] == acme.__version__
    assert not {key for key in described if "ependencies" in key} - {"devDependencies"}
    files = {str(file.relative_to(package)) for file in package.rglob("*") if file.is_file()}
    assert files == {"LICENSE", "README.md", "acme.d.ts", "package.json", "www/acme.js"}


@pytest.mark.parametrize(
    ("module", "resolution"), [("nodenext", "nodenext"), ("esnext", "bundler")]
)
def test_strict_typescript_project_compiles_against_the_package(project, module, resolution):
    options = OPTIONS | {"module": module, "moduleResolution": resolution}
    config = {"compilerOptions": options, "files": ["project.ts"]}
    path = project / f"{resolution}.json"
    path.write_text(json.dumps(config))
    assert tsc("--project", path, cwd=project) == ""
