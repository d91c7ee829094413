"""What ships in the wheel: small, whole, and as good as its card says."""

import json
from pathlib import Path

import pytest

import tryage
from tryage import Goals, Router, ScoreTable
from tryage.checks import Check
from tryage.encoders import StaticEncoder

PRETRAINED = Path(tryage.__file__).parent / "pretrained"
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

PROMPTS = [
    (
        "meta-math/MetaMath-Mistral-7B",
        "Ana has 12 pens and buys 7 more. How many pens has she now?",
    ),
    ("cognitivecomputations/dolphin-2.9-llama3-8b", 'def add(a, b):\n    """Add two numbers."""\n'),
    (
        "meta-llama/Meta-Llama-3-8B",
        "下列哪一项是哺乳动物？\nA. 鲸\nB. 鲨鱼\nC. 海龟\nD. 企鹅\n答案：",
    ),
]


@pytest.fixture(scope="module")
def router():
    return Router.from_pretrained("open7")


@pytest.fixture(scope="module")
def results():
    return json.loads((BENCHMARKS / "results" / "routing.json").read_text(encoding="utf-8"))


def test_what_ships_is_small():
    sizes = {
        folder.name: sum(file.stat().st_size for file in folder.iterdir())
        for folder in PRETRAINED.iterdir()
        if folder.is_dir()
    }
    assert set(sizes) == {"static", "open7", "routerbench11", "coding34"}
    assert sizes["static"] < 2.7e6
    assert max(sizes["open7"], sizes["routerbench11"]) < 2e5
    assert sizes["coding34"] < 4e5
    assert sum(sizes.values()) < 6e6


@pytest.mark.parametrize(("expert", "prompt"), PROMPTS)
def test_open7_knows_the_kind_of_prompt(router, expert, prompt):
    assert router.route(prompt).expert == expert


def test_open7_has_the_facts_that_goals_weigh(router):
    for expert in router.library:
        assert None not in (expert.parameters, expert.released, expert.license)
        assert expert.context_length
        assert expert.security.vendor


def test_bundled_routers_share_the_bundled_encoder_and_copies_of_them_own_it(router, tmp_path):
    assert router.predictors["text-generation"].encoder is StaticEncoder.bundled()
    router.save_pretrained(tmp_path / "own")
    assert (tmp_path / "own" / "encoder.safetensors").is_file()
    copy = Router.from_pretrained(tmp_path / "own")
    for _, prompt in PROMPTS:
        assert copy.route(prompt).order == router.route(prompt).order


ISSUE = """TypeError in separability_matrix for nested CompoundModels

Consider the following model:
```python
cm = m.Linear1D(10) & m.Linear1D(5)
```
It raises a TypeError since version 4.2; expected a matrix."""


def test_coding34_starts_with_cheaper_models_where_a_check_stands_behind_them():
    router = Router.from_pretrained("coding34")
    assert router.predictors["text-generation"].targets_ == ("loss", "cost")
    best = router.route(ISSUE)
    assert best.expert == "claude-fable-5"
    assert not best.out_of_distribution
    check = Check(lambda prompt, answer: True, accepts_right=0.95, accepts_wrong=0.05)
    plan = router.route(ISSUE, goals=Goals(cost=0.3), check=check).plan
    costs = dict(zip(router.library.names, best.values["cost"], strict=True))
    assert len(plan.attempts) > 1
    assert costs[plan.attempts[0].expert] < costs["claude-fable-5"] / 2


def test_routerbench11_predicts_cost_and_length_and_knows_prices():
    router = Router.from_pretrained("routerbench11")
    predictor = router.predictors["text-generation"]
    assert predictor.targets_ == ("loss", "cost", "response_chars")
    assert all(expert.price is not None for expert in router.library)
    code, choice = predictor.predict(
        [
            "Write a function to find the shared elements from the given two lists.",
            "Which gas do plants take in?\nA) oxygen\nB) carbon dioxide\n"
            'Print only a single choice from "A" or "B" without explanation. Answer:',
        ]
    ).mean["response_chars"]
    assert code.min() > 300
    assert choice.max() < 100
    cost = predictor.averages_["cost"]
    assert predictor.experts_[cost.argmax()] == "gpt-4-1106-preview"
    assert predictor.experts_[cost.argmin()] == "mistralai/mistral-7b-chat"


def test_the_card_holds_the_table_of_the_results(results, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import routing

    card = (PRETRAINED / "open7" / "README.md").read_text(encoding="utf-8")
    assert f"{routing.BEGIN}\n{routing.table(results)}\n{routing.END}" in card


def test_open7_does_what_its_card_says(router, results, data_dir):
    table = ScoreTable.read(data_dir / "routing" / "open7_test.jsonl.gz")
    measured = router.evaluate(table).to_dict()["router"]
    claimed = results["test"]["open7_test"]["router"]
    assert measured["score"] == pytest.approx(claimed["score"], abs=1e-3)
    assert measured["score"] > 0.582
