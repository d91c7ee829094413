"""The folder tree is the design: data flows one way, and the core cannot see its integrations."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ORDER = (
    "errors",
    "near_misses",
    "characters",
    "pydantic_forms",
    "masking",
    "tracing",
    "units",
    "tokens",
    "scripts",
    "yaml_text",
    "paths",
    "files",
    "json_lines",
    "drawing",
    "parquet_files",
    "opened_folder",
    "appending",
    "resumable",
    "progress",
    "ray_session",
    "steps",
    "folders",
    "retries",
    "checkpoints",
    "experts",
    "consent",
    "hub",
    "attributes",
    "hub_search",
    "hub_entries",
    "library_rows",
    "library_lines",
    "library",
    "library_root",
    "hub_library",
    "ties",
    "limits",
    "goals",
    "flags",
    "policy",
    "occurrences",
    "prompts",
    "scores",
    "encoders",
    "predictors",
    "eligibility",
    "objective",
    "checks",
    "plans",
    "decision_json",
    "deferred",
    "ranking",
    "chances",
    "decision",
    "decision_log",
    "runner_up",
    "questions",
    "forecast",
    "searching",
    "deciding",
    "budgets",
    "evaluation",
    "kinds",
    "similar",
    "fingerprints",
    "distilled",
    "assessment",
    "plan_assessment",
    "plan_budgets",
    "check_rates",
    "report",
    "training",
    "persistence",
    "hub_routers",
    "cards",
    "publishing",
    "sources",
    "fitting",
    "router_parts",
    "distilling",
    "router_summary",
    "described",
    "growth",
    "assessed",
    "router",
    "dispatch",
    "runtime",
    "labeling",
    "binding",
    "testing",
    "quickstart",
    "cotraining",
    "cli",
)
"""The modules and packages of the core; each may import only from those before it."""

DATA_ONLY = {"pretrained"}


def imports(path, everywhere=True):
    """Yield what a file imports, with full names.

    ``everywhere`` includes imports inside functions and those for type checkers; without it, only
    those that run when the file itself is imported.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_of_the_core():
    for path in sorted((ROOT / "tryage").rglob("*.py")):
        part = path.relative_to(ROOT / "tryage").parts[0].removesuffix(".py")
        yield part, path


def test_every_part_of_the_core_is_in_the_order():
    names = {part for part, _ in parts_of_the_core()} - {"__init__", "__main__"} - DATA_ONLY
    assert names == set(ORDER)


@pytest.mark.parametrize(
    ("part", "path"),
    [pytest.param(*pair, id=str(pair[1].relative_to(ROOT))) for pair in parts_of_the_core()],
)
def test_a_part_imports_only_from_those_before_it(part, path):
    if part in ("__init__", "__main__"):
        return
    allowed = set(ORDER[: ORDER.index(part) + 1])
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "tryage" and len(parts) > 1 and parts[1] in ORDER:
            assert parts[1] in allowed, f"{path.relative_to(ROOT)} imports {name}"


PACKAGES = ("tryage", "langchain_tryage", "llama_index_tryage")


def files_of(package):
    """Module name → file of a package; a package's `__init__` has the name of the package."""
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports_between_files():
    """Module → modules of the three packages that it imports anywhere, inside functions included.

    A name that is imported from a package leads to every file whose names the package's
    `__init__` exports.
    """
    files = {name: path for package in PACKAGES for name, path in files_of(package)}
    facades = {name for name, path in files.items() if path.name == "__init__.py"}

    def reached(imported):
        module = imported if imported in files else imported.rpartition(".")[0]
        if module not in files:
            return set()
        if module not in facades:
            return {module}
        names = imports(files[module])
        return {other.rpartition(".")[0] for other in names if other.startswith(f"{module}.")}

    return {
        name: {other for imported in imports(path) for other in reached(imported)} & files.keys()
        for name, path in files.items()
        if name not in facades
    }


def circles(graph):
    """Return the modules of a graph that import each other in a circle, or stand above one."""
    while leaves := {name for name, imported in graph.items() if not imported & graph.keys()}:
        graph = {name: imported for name, imported in graph.items() if name not in leaves}
    return sorted(graph)


def test_no_files_import_each_other_in_a_circle():
    assert circles(imports_between_files()) == []


def test_a_circle_is_found_however_a_file_imports():
    graph = imports_between_files()
    assert "tryage.assessment" in graph["tryage.assessed"]  # inside a function
    assert "tryage.scores.table" in graph["tryage.growth"]  # for type checkers, from a package
    assert "langchain_tryage.runnable" in graph["tryage.quickstart.answers"]  # across packages
    circle = {**graph, "tryage.assessment": {*graph["tryage.assessment"], "tryage.assessed"}}
    assert {"tryage.assessment", "tryage.assessed"} <= set(circles(circle))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_is_longer_than_400_lines(package):
    lengths = {name: len(path.read_text().splitlines()) for name, path in files_of(package)}
    assert {name: n for name, n in lengths.items() if n > 400} == {}


def test_no_block_of_ten_lines_stands_twice():
    places = {}
    for package in PACKAGES:
        for name, path in files_of(package):
            code = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
            numbered = [(number, line) for number, line in enumerate(code, 1) if len(line) > 3]
            for start in range(len(numbered) - 9):
                block = tuple(line for _, line in numbered[start : start + 10])
                if not any(line.startswith(("import ", "from ")) for line in block):
                    places.setdefault(block, []).append(f"{name}:{numbered[start][0]}")
    twice = [where for where in places.values() if len(where) > 1]
    assert twice == []


SAY_NOTHING = {
    "asked",
    "facts",
    "found",
    "given",
    "got",
    "kept",
    "known",
    "said",
    "seen",
    "taken",
    "told",
    "wanted",
}
"""Names that tell of the moment instead of the thing."""

VAGUE_AND_KEPT = {
    "tryage/flags/parser.py": {"found"},  # public: `Flags.found`
    "tryage/labeling/judges.py": {"asked"},  # a judge's public counts
    "tryage/labeling/verdicts.py": {"asked", "found"},  # these counts; and code under fingerprints
    "tryage/labeling/metrics.py": {"_given", "found", "wanted"},  # code under fingerprints
}
"""Names that stay: public ones, and those in code that stored fingerprints cover to the letter."""


def names_in(path):
    """Yield the names that a file assigns to variables, parameters, functions and attributes."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname


@pytest.mark.parametrize("folder", [*PACKAGES, "benchmarks", "examples", "tests"])
def test_names_name_the_thing(folder):
    vague = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        words = {word for word in names_in(path) if word.strip("_").lower() in SAY_NOTHING}
        if words != VAGUE_AND_KEPT.get(name, set()):
            vague[name] = sorted(words)
    assert vague == {}


@pytest.mark.parametrize(("package"), PACKAGES[1:])
def test_modules_of_an_adapter_that_export_nothing_have_a_leading_underscore(package):
    exported = set(__import__(package).__all__)
    for name, path in files_of(package):
        module = name.rpartition(".")[2]
        if module.startswith("_") or path.name == "__init__.py":
            continue
        defined = {
            node.name
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        }
        public_modules = {"pipelines", "testing"}  # imported by their names
        assert defined & exported or module in public_modules, name


def test_only_the_quickstart_knows_the_adapters_and_only_inside_functions():
    for part, path in parts_of_the_core():
        frameworks = {
            name.split(".")[0]
            for name in imports(path)
            if name.startswith(("langchain", "llama_index"))
        }
        if part == "quickstart":
            top = {name.split(".")[0] for name in imports(path, everywhere=False)}
            assert not frameworks & top, path
        else:
            assert not frameworks, path


@pytest.mark.parametrize(
    ("package", "other"),
    [("langchain_tryage", "llama_index"), ("llama_index_tryage", "langchain")],
)
def test_an_adapter_never_imports_the_other_framework(package, other):
    for path in (ROOT / package).rglob("*.py"):
        assert not [name for name in imports(path) if name.startswith(other)], path


def test_importing_and_deciding_load_neither_torch_nor_a_framework():
    code = """
import json, sys
import tryage
after_import = sorted(sys.modules)
tryage.Router.from_pretrained("open7").route("What is 17 * 3? [Flag: smallest model]")
print(json.dumps([after_import, sorted(sys.modules)]))
"""
    run = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "sentence_transformers", "langchain_core", "llama_index"}
    heavy |= {"altair", "jinja2", "sklearn", "vl_convert"}
    for modules in json.loads(done.stdout):
        assert not heavy & set(modules)


@pytest.mark.parametrize("package", ["tryage", "langchain_tryage", "llama_index_tryage"])
def test_public_names_are_a_sorted_list_that_exists(package):
    module = __import__(package)
    assert list(module.__all__) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name).__doc__, name
    assert (ROOT / package / "py.typed").is_file()
