"""The lowest versions declared are those that the adapters' tests run on (`make test-lowest`)."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = [
    requirement
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for requirement in map(Requirement, group)
    # Old releases of torch come for CUDA alone; the extra `all` names the project's own.
    if requirement.name not in ("torch", "tryage")
]


def pinned(file):
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in pairs}


@pytest.mark.parametrize("requirement", DECLARED, ids=lambda requirement: requirement.name)
def test_the_lowest_version_declared_is_one_that_was_tested(requirement):
    (lowest,) = [s.version for s in requirement.specifier if s.operator == ">="]
    name = canonicalize_name(requirement.name)
    assert pinned("constraints-lowest.txt")[name] == Version(lowest)
    assert pinned("constraints.txt")[name] in requirement.specifier
