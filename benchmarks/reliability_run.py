"""The long form of `tests/reliability`: many times as many cases; what was tried, and what failed.

    python benchmarks/reliability_run.py --cases 20

writes `benchmarks/results/reliability.json` and the table of `docs/security.md`. It needs no
benchmark data, and takes about a minute times the number of cases.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from data import fill_in, provenance
from reliability_table import MARKS, PAGE, table

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests" / "reliability"
RESULTS = Path(__file__).parent / "results" / "reliability.json"


def main() -> None:
    parser = argparse.ArgumentParser(description="Try what can go wrong, many times.")
    parser.add_argument("--cases", type=float, default=20.0, help="times the tests' own number")
    parser.add_argument("--only", help="run the tests whose names hold this, and write nothing")
    args = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS)]
        command += ["-o", "timeout=0", "-o", "junit_family=legacy", f"--junitxml={report}"]
        command += ["-k", args.only] if args.only else []
        env = os.environ | {"TRYAGE_RELIABILITY": str(args.cases)}
        code = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
        parts = counted(report)
    results = provenance(f"python benchmarks/reliability_run.py --cases {args.cases:g}")
    results |= {"times": args.cases, "minutes": round((time.monotonic() - started) / 60, 1)}
    results["parts"] = parts
    print(table(results))
    if not args.only:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        fill_in(PAGE, table(results), MARKS)
    sys.exit(code)


def counted(report: Path) -> list[dict[str, Any]]:
    """Return for each file of tests what it tries, how many cases there were, and what failed."""
    parts: dict[str, dict[str, Any]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = next(part for part in case.attrib["classname"].split(".") if part[:5] == "test_")
        row = parts.setdefault(
            name, {"part": what(name), "tests": 0, "cases": 0, "failed": 0, "skipped": 0}
        )
        row["tests"] += 1
        row["failed"] += any(case.find(kind) is not None for kind in ("failure", "error"))
        row["skipped"] += case.find("skipped") is not None
        for entry in case.iter("property"):
            if entry.attrib["name"] == "cases":
                row["cases"] += int(entry.attrib["value"])
    return [parts[name] for name in sorted(parts)]


def what(name: str) -> str:
    """Return the first sentence of a file of tests."""
    tree = ast.parse((TESTS / f"{name}.py").read_text(encoding="utf-8"))
    return " ".join((ast.get_docstring(tree) or name).split("\n\n")[0].split())


if __name__ == "__main__":
    main()
