"""Whatever the readers are given, they read it or raise Tryage's own error.

Texts and files are made at random from a seed: parts that mean something, joined and damaged. Each
function returns how many cases it tried; `kit.cases` says how many that are.
"""

import copy
import gzip
import hashlib
import json
import math
import random
import shutil
import warnings

import pytest
from kit import cases

from tryage import Goals, Library, Policy, Router, ScoreTable
from tryage.budgets import parse_budget
from tryage.errors import TryageError, TryageWarning
from tryage.flags import parse
from tryage.goals import Security
from tryage.limits import parse_limit
from tryage.prompts import read_prompts
from tryage.scores.feedback import FeedbackFile
from tryage.units import parse_count, parse_money, parse_seconds

PARTS = (
    *"[](){}<>`'\"\\,;:=!%$#&*|-+._/~^@?\n\r\t \0\x7f",
    *("flag: ", "[flag: ", "small", "smallest", "not", "in [", "<=", ">=", "!=", "parameters"),
    *("license", "vendor", "cost", "mean ", "share(", "score", "of best", "3B", "0.5", "1e999"),
    *("9" * 400, "-1", "nan", "inf", "true", "null", "2024-02-30", "1:1:1", "0x10", "1_000", "٣"),
    *("\ud83d", "\ude00", "\u0301" * 40, "\u2028", "\ufeff", "字", "ﬁ", "İ", "＜", "：", "“"),
    *(
        "name: ",
        "experts:\n- ",
        "model: m\n",
        "&a ",
        "*a",
        "<<: ",
        "? ",
        "!!python/object:x ",
        "- ",
    ),
    *(
        '{"prompt": "p"',
        '"scores": {"a": 1}',
        '{"a":',
        "[" * 200,
        "prompt,expert,score\n",
        "p,a,1\n",
    ),
)


def text_of(chance, most=14):
    """Return parts at random."""
    return "".join(chance.choice(PARTS) for _ in range(chance.randrange(most)))


def fuzz_texts(count, seed=0):
    """Read texts as flags, limits, budgets and numbers."""
    chance = random.Random(seed)
    readers = (parse_limit, parse_budget, parse_count, parse_money, parse_seconds)
    numbers = (parse_count, parse_money, parse_seconds)
    for _ in range(count):
        text = text_of(chance)
        flags = parse(text)
        assert parse(flags.prompt) == type(flags)(flags.prompt)
        flags.error()
        for reader in readers:
            try:
                reader(text)
            except TryageError:
                pass
            except ValueError as error:
                # Units raise a plain one, which their readers turn into Tryage's own.
                assert reader in numbers, (text, error)  # noqa: PT017
    return count * (len(readers) + 1)


VALUES = (
    *(None, True, False, 0, -1, 3, 10**400, 0.5, math.inf, math.nan, b"mit", "", " ", "mit"),
    *("<= 3B", "\ud83d", "a, b", [], ["mit", None], [["mit"]], {"a": 1}, {"mit"}, object(), ()),
)
NAMES = ("parameters", "license", "vendor", "cost", "size", "xyzzy", "", None, 3, "\ud83d", ("a",))


def fuzz_values(count, seed=0):
    """Make goals and policies of values of every type."""
    chance = random.Random(seed)

    def pick():
        return chance.choice(VALUES)

    for _ in range(count):
        mapping = {chance.choice(NAMES): pick() for _ in range(chance.randrange(3))}
        limits = chance.choice([mapping, [pick(), pick()], pick()])
        weights = chance.choice([mapping, pick()])
        for make in (
            lambda limits=limits: Goals(limits=limits),
            lambda: Goals(size=pick()),
            lambda limits=limits: Policy(limits=limits),
            lambda weights=weights: Policy(weights=weights, max_weights=weights),
            lambda: Policy(flags=pick()),
            lambda mapping=mapping: Policy.from_dict({"limits": mapping, "weights": mapping}),
            lambda: Policy.from_dict(pick()),
        ):
            try:
                made = make()
            except TryageError:
                continue
            if isinstance(made, Policy):
                assert Policy.from_dict(made.to_dict()) == made
    return count * 7


def damaged(chance, data):
    """Return bytes that were changed, cut, doubled or added to somewhere."""
    data = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(5)
        if kind == 0 and at < len(data):
            data[at] = chance.randrange(256)
        elif kind == 1:
            del data[at : at + chance.randrange(1, 30)]
        elif kind == 2:
            data[at:at] = data[at : at + chance.randrange(1, 60)]
        elif kind == 3:
            data[at:at] = text_of(chance, 4).encode("utf-8", "surrogatepass")
        else:
            del data[at:]
    return bytes(data)


LIBRARY = """\
name: three
experts:
- name: small
  model: org/small
  parameters: 350M
  released: 2024-01-31
  license: mit
  languages: [en, de]
  price: {input: 0.1, output: 0.2, per: 1M}
- name: large
  model: org/large
  security: {safetensors: true, vendor: "Acme, Inc."}
  endpoint: {url: "http://127.0.0.1:1/v1", key_env: A_KEY}
"""
TABLE = "".join(
    json.dumps({"id": str(i), "prompt": f"p {i}", "scores": {"small": i / 4, "large": 1}}) + "\n"
    for i in range(4)
)
ROWS = "prompt_id,prompt,expert,score\n" + "".join(f"{i},p {i},small,{i / 4}\n" for i in range(4))
PROMPTS = "".join(json.dumps({"prompt": f"p {i}", "id": i, "group": "g"}) + "\n" for i in range(4))


def parquet_of(folder):
    """Return the bytes of the table as Parquet."""
    path = folder / "whole.parquet"
    source = folder / "whole.jsonl"
    source.write_text(TABLE)
    ScoreTable.read(source).write(path)
    return path.read_bytes()


def fuzz_files(folder, count, seed=0):
    """Read damaged files of every kind."""
    chance = random.Random(seed)
    kinds = [
        ("library.yaml", LIBRARY.encode(), Library.read),
        ("table.jsonl", TABLE.encode(), ScoreTable.read),
        ("table.jsonl.gz", gzip.compress(TABLE.encode()), ScoreTable.read),
        ("table.csv", ROWS.encode(), ScoreTable.read),
        ("prompts.jsonl", PROMPTS.encode(), lambda path: list(read_prompts(path))),
    ]
    if pytest.importorskip("pyarrow"):
        whole = parquet_of(folder)
        kinds += [
            ("table.parquet", whole, ScoreTable.read),
            ("prompts.parquet", whole, lambda path: list(read_prompts(path))),
        ]
    for name, whole, reader in kinds:
        path = folder / name
        path.write_bytes(whole)
        reader(path)
        for _ in range(count):
            path.write_bytes(damaged(chance, whole))
            try:
                reader(path)
            except TryageError as error:
                assert name in str(error), error  # noqa: PT017
    return count * len(kinds)


def fuzz_feedback(folder, count, seed=0):
    """Append scores of every kind; what was refused leaves nothing."""
    chance = random.Random(seed)
    path = folder / "feedback.jsonl"
    file = FeedbackFile(path)
    written = 0
    for _ in range(count):
        prompt, expert = text_of(chance), chance.choice(["a", "b", text_of(chance, 3)])
        score = chance.choice([*VALUES, 0.25])
        try:
            file.append(prompt, "text-generation", expert, score)
            written += 1
        except TryageError:
            continue
    lines = path.read_text(encoding="utf-8").splitlines() if written else []
    assert len([line for line in lines if line]) >= written
    return count


def leaves(value, path=()):
    """Yield the place of every value inside JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from leaves(inner, (*path, key))


ODD = (
    None,
    True,
    -1,
    3,
    10**400,
    0.5,
    "",
    "xyzzy",
    "\ud83d",
    [],
    {},
    [[]],
    {"a": None},
    "a" * 5000,
)


def resign(index):
    """Return an index as text whose own digest is right again, as an attacker would."""
    rest = {key: value for key, value in index.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return json.dumps(rest | {"sha256": hashlib.sha256(text.encode()).hexdigest()})


def fuzz_routers(router, folder, count, seed=0):
    """Load routers whose index or files were damaged and signed again.

    Returns:
        How many were tried, and how many were loaded all the same.
    """
    chance = random.Random(seed)
    router.save_pretrained(folder / "whole")
    # Where the files stand is the saving's own business, so the folder is searched.
    (index_file,) = [p for p in (folder / "whole").resolve().rglob("router.json") if p.is_file()]
    home = index_file.parent
    whole = json.loads(index_file.read_text(encoding="utf-8"))
    places = list(leaves(whole))
    loaded = 0
    for number in range(count):
        broken = folder / f"broken-{number}"
        shutil.copytree(home, broken)
        index = copy.deepcopy(whole)
        if chance.random() < 0.7:
            *path, last = chance.choice(places)
            holder = index
            for key in path:
                holder = holder[key]
            if chance.random() < 0.2:
                del holder[last]
            else:
                holder[last] = chance.choice(ODD)
        else:
            name = chance.choice(sorted(index["files"]))
            data = damaged(chance, (broken / name).read_bytes())
            (broken / name).write_bytes(data)
            index["files"][name] = hashlib.sha256(data).hexdigest()
        (broken / "router.json").write_text(resign(index), encoding="utf-8")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                again = Router.from_pretrained(broken)
                loaded += 1
                decision = again.route("The quiet river.")
            assert decision.expert in again.library
            losses = dict(zip(decision.names, decision.losses.tolist(), strict=True))
            assert math.isfinite(losses[decision.expert]), number
            json.dumps(decision.to_dict())
        except TryageError:
            pass
        shutil.rmtree(broken)
    return count, loaded


def test_texts_at_random():
    assert fuzz_texts(cases(1500)) == cases(1500) * 6


@pytest.mark.filterwarnings("ignore:.*not read")
def test_values_at_random():
    assert fuzz_values(cases(700)) == cases(700) * 7


@pytest.mark.filterwarnings("ignore:.*not read")
def test_damaged_files(tmp_path):
    assert fuzz_files(tmp_path, cases(120)) == cases(120) * 7


def test_feedback_at_random(tmp_path):
    assert fuzz_feedback(tmp_path, cases(300)) == cases(300)


def test_routers_that_were_signed_again(router, tmp_path):
    tried, loaded = fuzz_routers(router, tmp_path, cases(120))
    assert tried == cases(120)
    assert loaded < tried


DEEP_FILES = {
    "t.jsonl": ScoreTable.read,
    "p.jsonl": lambda path: list(read_prompts(path)),
    "library.yaml": Library.read,
    "rules.json": lambda path: Security(rules=path),
    "router.json": lambda path: Router.from_pretrained(path.parent),
}


@pytest.mark.parametrize("depth", [500, 100_000])
@pytest.mark.parametrize(("opening", "end"), [("[", "]"), ('{"a":', "}"), ('{"prompt": [', "]}")])
@pytest.mark.parametrize("name", DEEP_FILES)
def test_what_is_nested_deeply_is_an_error_of_its_file(tmp_path, name, opening, end, depth):
    path = tmp_path / name
    for inside in ("", "1" + end * depth):
        path.write_text(opening * depth + inside)
        with pytest.raises(TryageError, match=name):
            DEEP_FILES[name](path)


def test_a_models_config_that_is_nested_deeply_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text('{"a":' * 100_000)
    with pytest.raises(TryageError, match=r"config\.json: cannot be read"):
        Library.from_models([str(tmp_path)])


def test_a_line_of_feedback_that_is_nested_deeply_costs_itself(tmp_path):
    whole = json.dumps({"prompt": "p", "task": "text-generation", "scores": {"a": 1.0}})
    deep = '{"prompt": "q", "task": "text-generation", "scores": {"a": %s}}'
    for depth in (200, 100_000):
        path = tmp_path / "feedback.jsonl"
        path.write_text("\n".join([whole, deep % ("[" * depth + "]" * depth), whole]) + "\n")
        with pytest.warns(TryageWarning, match="line 2: n"):
            assert ScoreTable.read(path).prompts == ("p", "p")


def test_lines_may_be_nested_to_a_hundred_levels(tmp_path):
    path = tmp_path / "t.jsonl"
    for levels, accepted in ((98, True), (102, False)):
        extra = "[" * levels + "]" * levels
        path.write_text(f'{{"prompt": "[[{{{{", "scores": {{"a": 1}}, "more": {extra}}}\n')
        if accepted:
            assert len(ScoreTable.read(path)) == 1
        else:
            with pytest.raises(TryageError, match=r"line 1: .*nested deeper than 100 levels"):
                ScoreTable.read(path)


@pytest.mark.parametrize("depth", [500, 100_000])
@pytest.mark.parametrize("opening", ["[", '{"a":', '{"prompt": ['])
def test_json_that_is_nested_without_end(tmp_path, opening, depth):
    for name, reader in (
        ("t.jsonl", ScoreTable.read),
        ("p.jsonl", lambda path: list(read_prompts(path))),
    ):
        path = tmp_path / name
        path.write_text(opening * depth)
        with pytest.raises(TryageError, match=f"{name}, line 1"):
            reader(path)


def test_a_column_of_extras_that_is_nested_without_end(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"prompt,expert,score,extras\np,a,1,{'[' * 100_000}\n")
    with pytest.raises(TryageError, match=r"line 2: extras: .* is not a JSON object"):
        ScoreTable.read(path)
