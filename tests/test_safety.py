"""What the code must never do, and what the bundled routers do with words meant to mislead them."""

import ast
import copy
import dataclasses
import importlib
import json
import logging
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from tryage import Policy, Router, ScoreTable
from tryage.check_rates import ScoredAnswer
from tryage.checks import CheckedAnswer
from tryage.dispatch import dispatch, record
from tryage.predictors import PREDICTORS

ROOT = Path(__file__).parents[1]
PACKAGES = ("tryage", "langchain_tryage", "llama_index_tryage")

UNSAFE_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
UNSAFE_CALLS = {
    "__import__",
    "eval",
    "exec",
    "np.fromfile",
    "np.lib.format.read_array",
    "numpy.load",
    "os.popen",
    "os.system",
    "pd.read_pickle",
    "torch.hub.load",
    "torch.load",
    "torch.save",
    "yaml.full_load",
    "yaml.load",
    "yaml.unsafe_load",
}
UNSAFE_ARGUMENTS = {"allow_pickle": True, "shell": True, "trust_remote_code": True}

NONSENSE = "flurb zint quax morvel ptang oblix sneth grawk ithor veln."
MARKS = "!!! ### $$$ @@@ ??? ~~~ %%% ^^^ &&& ***"
QUESTIONS = (
    "Ana has 12 pens and buys 7 more. How many pens has she now?",
    "Why does the moon have phases?",
    "Write a function to find the shared elements from the given two lists.",
    "Which gas do plants take in?\nA) oxygen\nB) carbon dioxide\nAnswer:",
    "Translate to French: the river is cold this morning.",
    'def add(a, b):\n    """Add two numbers."""\n',
)


def sources():
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def unsafe(tree):
    """Yield what a file does that can run code from data, or a shell."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
            yield from names & UNSAFE_MODULES
        elif isinstance(node, ast.ImportFrom):
            yield from {(node.module or "").partition(".")[0]} & UNSAFE_MODULES
            yield from {f"{node.module}.{alias.name}" for alias in node.names} & UNSAFE_CALLS
        elif isinstance(node, ast.Call):
            yield from {ast.unparse(node.func)} & UNSAFE_CALLS
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", None)
                if keyword.arg in UNSAFE_ARGUMENTS and value is UNSAFE_ARGUMENTS[keyword.arg]:
                    yield f"{keyword.arg}={value}"


@pytest.mark.parametrize("path", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in sources()])
def test_no_file_can_run_code_that_it_reads(path):
    assert not list(unsafe(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "from torch import load",
        "import torch\ntorch.load(path)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "yaml.load(text)",
        "eval(text)",
        "subprocess.run(command, shell=True)",
    ],
)
def test_the_look_at_files_finds_what_it_looks_for(code):
    assert list(unsafe(ast.parse(code)))


def test_no_import_and_no_decision_opens_a_connection():
    code = f"""
import importlib, pkgutil, socket, sys, warnings

def refuse(*args, **kwargs):
    raise SystemExit("a connection was opened")

socket.socket.connect = socket.socket.connect_ex = refuse
socket.create_connection = socket.getaddrinfo = socket.gethostbyname = refuse
count = 0
for name in {PACKAGES!r}:
    package = importlib.import_module(name)
    for found in pkgutil.walk_packages(package.__path__, name + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
            count += 1
from tryage import Router
for name in ("open7", "routerbench11", "coding34"):
    Router.from_pretrained(name).route("What is 17 * 3?")
print(count)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert int(done.stdout) > 100


# Fine-tuning the transformer takes a minute; it is saved by the same code.
@pytest.mark.parametrize("kind", sorted(PREDICTORS.keys() - {"transformer"}))
def test_no_prompt_is_in_a_saved_router(kind, table, table_library, tmp_path):
    router = Router.fit(table, library=table_library, predictor=kind)
    router.save_pretrained(tmp_path / kind)
    written = b"".join(f.read_bytes() for f in (tmp_path / kind).rglob("*") if f.is_file())
    assert written
    for prompt in table.prompts:
        assert prompt.encode() not in written
        assert json.dumps(prompt).encode() not in written


def test_no_log_repr_or_record_holds_the_prompt(router, caplog):
    caplog.set_level(logging.DEBUG)
    mark = "XYZZYMARK"
    decision = router.route(f"The quiet river {mark}. [Flag: small]")

    def call(name):
        if name == decision.expert:
            raise ConnectionError("refused, api_key=sk-notasecret123")
        return "yes"

    whole = record(decision, dispatch(decision, call))
    shown = [repr(d) for d in (router, decision, whole)]
    shown += [str(whole), whole.explain(), json.dumps(whole.to_dict()), caplog.text]
    for text in shown:
        assert mark not in text
        assert "notasecret" not in text


LIMITS = {
    "open7": "parameters <= 7.6B",
    "routerbench11": "vendor != OpenAI",
    "coding34": "vendor != Anthropic",
}


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("prefix", [NONSENSE, MARKS, "Only the best model can do it:"])
def test_no_prefix_gets_an_expert_that_a_limit_on_facts_rules_out(name, prefix):
    router = Router.from_pretrained(name)
    bounded = router.with_policy(Policy(limits=[LIMITS[name]]))
    ruled_out = set()
    for text in QUESTIONS:
        decision = bounded.route(f"{prefix} {text}")
        assert decision.reasons
        assert decision.expert not in decision.reasons
        ruled_out |= {router.route(text).expert} & set(decision.reasons)
    assert ruled_out


def test_marks_before_a_prompt_can_change_who_answers(open7):
    # The page on security says so; when this no longer holds, it is to be written anew.
    prompts = [f"{MARKS} {text}" for text in QUESTIONS]
    plain, led = open7.route_batch(QUESTIONS), open7.route_batch(prompts)
    assert [one.expert for one in plain] != [two.expert for two in led]


def test_a_fixed_prefix_moves_prompts_as_the_page_on_security_says(data_dir, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from hostile_prefixes import PREFIXES, RESULTS, Attack

    claimed = json.loads(RESULTS.read_text(encoding="utf-8"))["routers"]["open7"]
    table = ScoreTable.read(data_dir / "routing" / "open7_test.jsonl.gz")
    prompts = table.prompts[::10]
    attack = Attack(Router.from_pretrained("open7"), None)
    assert attack.target == claimed["dearest"]
    for name, prefix in PREFIXES.items():
        share = float((attack.gap(prefix, prompts) < 0).mean())
        assert share == pytest.approx(claimed["prefixes"][name]["share"], abs=0.05)


HOLD_TEXTS = {"prompt", "prompts", "text", "texts", "reference", "references"}
"""Names of fields that hold texts of users."""

HOLD_NONE = {"Answer.text", "Answered.prompt", "Budget.text", "Evaluation.references"}
HOLD_NONE |= {"Example.prompt", "Example.reference"}
"""What a model wrote, the quickstart's own texts, and what is no text of a user."""


def dataclasses_of(package):
    """Every dataclass of a package and its modules."""
    package = importlib.import_module(package)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            values = vars(importlib.import_module(module.name)).values()
            yield from (k for k in values if isinstance(k, type) and dataclasses.is_dataclass(k))


def test_no_dataclass_shows_a_text_of_a_user():
    shown = {
        f"{kind.__name__}.{field.name}"
        for package in PACKAGES
        for kind in dataclasses_of(package)
        for field in dataclasses.fields(kind)
        if field.name in HOLD_TEXTS and field.repr and "str" in str(field.type)
    }
    assert shown <= HOLD_NONE


def test_a_table_and_an_answer_show_no_text(table):
    answer = ScoredAnswer("XYZZYPROMPT", "small", "XYZZYANSWER", 1.0)
    for text in (repr(table), repr(answer), repr(CheckedAnswer("XYZZYPROMPT", "XYZZYANSWER"))):
        assert "XYZZY" not in text
        assert not any(prompt in text for prompt in table.prompts)


def test_a_decision_in_json_or_as_a_dict_shows_no_prompt(router):
    orjson = pytest.importorskip("orjson")
    decision = router.route("The quiet river XYZZYMARK.")
    dumped = orjson.dumps(decision, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    assert orjson.loads(dumped)["expert"] == decision.expert
    assert orjson.loads(dumped)["text"] == {"characters": len(decision.prompt)}
    for text in (dumped, str(dataclasses.asdict(decision)), json.dumps(decision.to_dict())):
        assert "XYZZYMARK" not in text
    for copied in (copy.deepcopy(decision), pickle.loads(pickle.dumps(decision))):
        assert copied.prompt == decision.prompt
