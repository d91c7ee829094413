"""What a release says of itself: licences of all bundled files, citation, version."""

import re
import subprocess
import tomllib
from pathlib import Path

import yaml

from tryage import Library, Router
from tryage.persistence import bundled_routers

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LICENSES = (ROOT / "LICENSES.md").read_text(encoding="utf-8")


def section(title):
    return LICENSES.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_licence_of_every_bundled_file_is_stated():
    data = {
        path.relative_to(ROOT / package).as_posix()
        for package in ("tryage", "langchain_tryage", "llama_index_tryage")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.name != "py.typed"
    }
    lines = section("Bundled files").splitlines()
    rows = [line.split("|") for line in lines if line.startswith("| `")]
    assert sorted(data) == sorted(name for row in rows for name in re.findall(r"`([^`]+)`", row[1]))
    assert all("Apache-2.0" in row[3] for row in rows)


def test_every_bundled_expert_is_named_among_the_facts_that_were_looked_for():
    rows = [line.split("|") for line in section("Facts about the experts").splitlines()]
    named = {name.strip() for row in rows if len(row) > 3 for name in row[1].split(",")}
    short = {name.rpartition("/")[2] for name in named}
    for name in bundled_routers():
        library = Router.from_pretrained(name).library
        experts = [expert.name for expert in library if expert.released or expert.license]
        assert set(experts) <= named | {e for e in experts if e.rpartition("/")[2] in short}


def test_bundled_routers_say_the_licences_of_their_libraries():
    for name in bundled_routers():
        made_of = Library.read(ROOT / "benchmarks" / f"{name}.yaml")
        bundled = Router.from_pretrained(name).library
        for expert in made_of:
            other = bundled[expert.name]
            assert (other.license, other.released) == (expert.license, expert.released)


def test_the_citation_is_of_this_version_and_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]
    [paper] = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Hari", "Thomson"]
    assert paper["url"].endswith("2308.11601")
    assert paper["title"] in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_sdist_holds_the_packages_and_what_a_reader_needs():
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    documents = set(included) - {f"/{package}" for package in packages}
    assert set(PROJECT["project"]["license-files"]) <= {name[1:] for name in documents}
    assert all((ROOT / name[1:]).is_file() for name in documents)
    assert {"/SECURITY.md", "/CITATION.cff", "/README.md", "/CHANGELOG.md"} <= documents


def test_the_scripts_of_the_checks_are_whole():
    for name in ("contents", "newest", "run", "wheel"):
        path = ROOT / ".ci" / name
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        if first.endswith("bash"):
            subprocess.run(["bash", "-n", str(path)], check=True)
        else:
            compile(path.read_text(encoding="utf-8"), str(path), "exec")
