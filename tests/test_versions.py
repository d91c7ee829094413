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


WITHOUT_KNOWN_HOLES = {
    "filelock": "3.20.3",  # CVE-2026-22701
    "httpcore": "1.0.9",  # CVE-2025-43859, of h11
    "jinja2": "3.1.6",  # CVE-2024-56326, CVE-2025-27516
    "langchain-core": "1.2.5",  # CVE-2025-68664
    "numpy": "1.22",  # CVE-2021-41496
    "psutil": "5.6.7",  # CVE-2019-18874
    "pyarrow": "14.0.1",  # CVE-2023-47248
    "pydantic": "2.4",  # CVE-2024-3772
    "pyyaml": "5.4",  # CVE-2020-14343
    "torch": "2.6",  # CVE-2025-32434
    "transformers": "4.53",  # CVE-2025-5197
}
"""Package → the first version without the holes known of it."""


def test_no_lower_bound_admits_a_version_with_a_known_hole():
    lowest = {
        canonicalize_name(requirement.name): Version(specifier.version)
        for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
        for requirement in map(Requirement, group)
        for specifier in requirement.specifier
        if specifier.operator == ">="
    }
    assert WITHOUT_KNOWN_HOLES.keys() <= lowest.keys()
    for name, safe in WITHOUT_KNOWN_HOLES.items():
        assert lowest[name] >= Version(safe), name
