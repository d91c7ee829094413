import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tryage import Expert, Goals, Library, Policy, Router, ScoreTable, TryageWarning
from tryage.errors import (
    FlagError,
    GoalError,
    LibraryError,
    NoEligibleExpertError,
    PredictorError,
    PromptError,
    ScoreTableError,
)
from tryage.goals import Goal

CODE = "def buffer_item(index, item=3):\n    if index > item:\n        return index - item\n"
PROSE = "The old teacher watches the garden, and the garden answers a quiet letter."


def test_prompts_go_to_the_expert_that_does_best_on_their_kind(router):
    assert router.route(CODE).expert == "coder"
    assert router.route(PROSE).expert == "writer"


def test_experts_are_ranked_by_their_totals(router):
    """By name the coder comes before the giant; on prose it is the worst."""
    decision = router.route(PROSE)
    assert decision.order == ("writer", "giant", "coder")
    assert [ranked.expert for ranked in decision.ranking] == ["writer", "giant", "coder"]
    assert [ranked.total for ranked in decision.ranking] == sorted(decision.totals.tolist())
    assert [row["expert"] for row in decision.to_dict(top=2)["ranking"]] == ["writer", "giant"]
    assert [line.split()[0] for line in decision.explain().splitlines()[-3:]] == [
        "writer",
        "giant",
        "coder",
    ]


def test_a_decision_tells_everything_and_holds_no_prompt(router):
    decision = router.route(f"{PROSE} [Flag: small model]")
    data = decision.to_dict()
    assert set(data) == {"expert", "ranking", "weights", "flags", "out_of_distribution"}
    assert data["weights"] == {"size": 0.3}
    assert data["flags"] == ["small model → size=0.3"]
    first = data["ranking"][0]
    assert first["expert"] == decision.expert == decision.order[0] == "writer"
    assert first["values"] == {"size": 1e9, "recency": 214.0}
    assert first["total"] == pytest.approx(first["loss"])
    assert first["loss"] == pytest.approx(decision.predicted_loss)
    assert json.loads(json.dumps(data)) == data
    assert len(decision.to_dict(top=1)["ranking"]) == 1
    assert "teacher" not in repr(decision) + json.dumps(data)
    assert decision.prompt == PROSE
    assert "writer" in decision.explain()


def test_goals_flags_and_limits_steer(router):
    assert router.route(CODE, goals=Goals(size=3)).expert == "writer"
    assert router.route(f"{CODE} [Flag: newest]").expert == "giant"
    limited = router.route(CODE, goals=Goals(limits={"parameters": "<=3B"}))
    assert limited.expert == "writer"
    assert limited.reasons["giant"] == "parameters is 70B, the limit is <= 3B"
    assert [r.expert for r in limited.ranking] == ["writer", "coder", "giant"]
    assert [r.eligible for r in limited.ranking] == [True, False, False]


def test_a_policy_holds_against_the_prompt(router):
    policy = Policy(limits={"parameters": "<=10B"}, flags=["size"])
    strict = router.with_policy(policy)
    decision = strict.route(f"{CODE} [Flag: parameters<=100B, newest]")
    assert decision.expert == "coder"
    assert "giant" in decision.reasons
    assert router.route(CODE).reasons == {}


def test_no_eligible_expert_lists_each_with_its_limit(router):
    with pytest.raises(NoEligibleExpertError) as caught:
        router.route(CODE, goals=Goals(limits={"parameters": "<=10M"}))
    assert set(caught.value.reasons) == {"coder", "writer", "giant"}
    assert "giant: parameters is 70B, the limit is <= 10M" in str(caught.value)


def test_a_mask_asks_for_fill_mask_and_other_tasks_are_not_eligible(router):
    with pytest.raises(NoEligibleExpertError, match="the prompt asks for fill-mask"):
        router.route("The [MASK] teacher watches the garden.")
    with pytest.raises(NoEligibleExpertError, match="asks for summarization"):
        router.route(PROSE, task="summarization")


@pytest.mark.parametrize("prompt", ["", " \n\t", "[Flag: smallest]"])
def test_an_empty_prompt_is_refused(router, prompt):
    with pytest.raises(PromptError):
        router.route(prompt)


def test_a_prompt_that_is_no_text_is_refused(router):
    with pytest.raises(PromptError, match="found int"):
        router.route(7)


def test_unknown_flags_are_an_error_a_warning_or_text(router):
    prompt = f"{PROSE} [Flag: fluffy]"
    with pytest.raises(FlagError, match="fluffy"):
        router.route(prompt)
    with pytest.warns(TryageWarning, match="fluffy"):
        assert router.route(prompt, flags="warn").prompt == PROSE
    assert router.route(prompt, flags=False).prompt == prompt


def test_far_prompts_fall_back_to_the_best_on_average(router):
    far = router.route("量子力学中的波函数坍缩是什么？ " * 3)
    assert far.out_of_distribution
    average = router.predictors["text-generation"].average_loss_
    np.testing.assert_allclose(far.losses, average)
    assert far.expert == router.library.names[int(np.argmin(average))] == "giant"
    assert "unlike the training prompts" in far.explain()
    assert not router.route(PROSE).out_of_distribution


def test_far_prompts_have_the_averages_of_every_target(table, table_library):
    """Costs, lengths and latencies differ between code and prose, and so do predicted ones."""
    is_code = np.array([group == "code" for group in table.groups])[:, None]
    factor = np.where(is_code, 1.0, 3.0)
    values = {"cost": (2e-4, 1e-4, 9e-4), "response_chars": (300, 900, 600), "latency": (1, 2, 3)}
    targets = {name: factor * np.array(row, dtype=float) for name, row in values.items()}
    fitted = Router.fit(
        replace(table, targets=targets), library=table_library, predictor="clusters"
    )
    shown = {"cost": "cost", "verbosity": "response_chars", "latency": "latency"}
    near, far = fitted.route(PROSE), fitted.route("量子力学中的波函数坍缩是什么？ " * 3)
    assert far.out_of_distribution
    for goal, target in shown.items():
        np.testing.assert_allclose(far.values[goal], 2 * np.array(values[target]))
        np.testing.assert_allclose(near.values[goal], 3 * np.array(values[target]), rtol=0.05)


AWKWARD = ["\x00\x01", "\ud800 lone surrogate", "日本語のテキスト", "🙂" * 50, "a" * 200_000, "?"]


@pytest.mark.parametrize("prompt", AWKWARD)
def test_awkward_prompts_get_a_finite_decision(router, prompt):
    decision = router.route(prompt)
    assert decision.expert in router.library
    assert np.isfinite(decision.losses).all()


# The router has no expert for fill-mask, so the mark must not come up.
words = st.text(min_size=1, max_size=80).filter(lambda t: t.strip() and "[MASK]" not in t)


@given(st.lists(words, min_size=1, max_size=6))
@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_prompt_in_any_batch_gets_the_expert_it_gets_alone(router, prompts):
    batch = router.route_batch(prompts, flags=False)
    for prompt, decision in zip(prompts, batch, strict=True):
        alone = router.route(prompt, flags=False)
        np.testing.assert_allclose(decision.losses, alone.losses, atol=1e-4)
        best = np.sort(alone.totals)[:2]
        if best[1] - best[0] > 1e-5:
            assert decision.expert == alone.expert


def test_an_empty_batch(router):
    assert router.route_batch([]) == []


def test_fifty_threads_decide_alike(router):
    expected = [router.route(CODE).expert, router.route(PROSE).expert]
    choices: list[list[str]] = []

    def decide():
        choices.append([router.route(CODE).expert, router.route(PROSE).expert])

    threads = [threading.Thread(target=decide) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert choices == [expected] * 50


def test_excluding_gives_the_reason_and_leaves_the_router_alone(router):
    without = router.excluding({"coder": "it is down"})
    assert without.route(CODE).expert != "coder"
    assert without.route(CODE).reasons == {"coder": "it is down"}
    assert router.route(CODE).expert == "coder"
    with pytest.raises(LibraryError, match="Did you mean 'coder'"):
        router.excluding({"codr": "x"})


def test_exclusions_outlast_other_changes_of_the_router(router, table):
    down = router.excluding({"coder": "it is down", "writer": "it is rude"})
    fewer = down.without("writer")
    assert fewer.route(CODE).reasons == {"coder": "it is down"}
    probes = ScoreTable.from_rows(
        [{"prompt": prompt, "losses": {"new": 0.0}} for prompt in table.prompts[::4]]
    )
    grown = down.add_expert(Expert(name="new", model="org/new", parameters=10), probes)
    assert grown.route(CODE).reasons == {"coder": "it is down", "writer": "it is rude"}
    limited = down.with_policy(Policy(limits={"parameters": ">=2B"}))
    assert limited.route(CODE).reasons["coder"] == "it is down"
    assert down.excluding({"coder": "it was sold"}).route(CODE).reasons == {
        "coder": "it was sold",
        "writer": "it is rude",
    }


@pytest.mark.filterwarnings("ignore:the router was fitted on these very prompts")
def test_a_router_of_two_tasks_serves_both():
    library = Library.from_dict(
        {
            "experts": [
                {"name": "say-a", "model": "a"},
                {"name": "write-a", "model": "b", "task": "fill-mask"},
                {"name": "write-b", "model": "c", "task": "fill-mask"},
            ]
        }
    )
    rows = [
        {"prompt": f"Say {i}", "losses": {"say-a": 1.0 + i}}
        if i % 2
        else {"prompt": f"The [MASK] {i}", "losses": {"write-a": 2.0, "write-b": 1.0}}
        for i in range(20)
    ]
    both = Router.fit(ScoreTable.from_rows(rows), library=library, predictor="best-single")
    assert both.route("Say it").expert == "say-a"
    masked = both.route("The [MASK] is")
    assert masked.expert == "write-b"
    assert masked.to_dict()["ranking"][-1] == {
        "expert": "say-a",
        "loss": None,
        "std": None,
        "total": None,
        "values": {},
        "eligible": False,
        "reason": "its task is text-generation, the prompt asks for fill-mask",
    }
    [only] = both.route_batch(["A [MASK]"])
    assert only.expert == "write-b"
    report = both.evaluate(ScoreTable.from_rows(rows)).to_dict()
    assert set(report["tasks"]) == {"text-generation", "fill-mask"}
    oracle = report["tasks"]["fill-mask"]["references"]["oracle"]
    assert (oracle["regret"], oracle["selection_accuracy"]) == (0, 1)
    assert report["tasks"]["text-generation"]["one_expert"] == 10
    assert report["tasks"]["text-generation"]["router"]["regret"] is None


def test_a_task_whose_last_expert_left_is_routed_no_more(tmp_path):
    library = Library.from_dict(
        {
            "experts": [
                {"name": "say", "model": "a"},
                {"name": "write-a", "model": "b", "task": "fill-mask"},
                {"name": "write-b", "model": "c", "task": "fill-mask"},
            ]
        }
    )
    rows = [{"prompt": f"Say {i}", "losses": {"say": 1.0}} for i in range(4)]
    rows += [
        {"prompt": f"The [MASK] {i}", "losses": {"write-a": 2.0, "write-b": 1.0}} for i in range(4)
    ]
    both = Router.fit(ScoreTable.from_rows(rows), library=library, predictor="best-single")
    without_say = both.without("say")
    assert without_say.tasks == ("fill-mask",)
    assert without_say.route("The [MASK]").expert == "write-b"
    with pytest.raises(NoEligibleExpertError, match="asks for text-generation"):
        without_say.route("Say it")
    without_say.save_pretrained(tmp_path / "r")
    assert Router.from_pretrained(tmp_path / "r").tasks == ("fill-mask",)
    without_write = both.without("write-a", "write-b")
    assert without_write.tasks == ("text-generation",)
    assert without_write.route("Say it").expert == "say"


def test_values_of_a_goal_that_nobody_knows_are_plain_numbers(decide):
    values = {"odd": np.array([1.23456, np.nan])}
    decision = replace(decide("a", "b"), values=values, weights={"odd": 1.0})
    first, second = decision.explain().splitlines()[-2:]
    assert first.endswith("odd 1.235")
    assert second.endswith("odd not stated, counts as worst")


def test_experts_of_a_task_that_nothing_was_measured_on_are_not_eligible():
    library = Library.from_dict(
        {
            "experts": [
                {"name": "a", "model": "a"},
                {"name": "m", "model": "m", "task": "fill-mask"},
            ]
        }
    )
    table = ScoreTable.from_rows([{"prompt": "x", "losses": {"a": 1.0}}])
    router = Router.fit(table, library=library, predictor="best-single")
    with pytest.raises(NoEligibleExpertError, match="nothing was measured on its task fill-mask"):
        router.route("The [MASK]")


@pytest.mark.parametrize("kind", ["clusters", "nearest", "linear", "best-single", "random"])
def test_every_predictor_decides(table, table_library, kind):
    router = Router.fit(table, library=table_library, predictor=kind)
    decision = router.route(CODE)
    assert np.isfinite(decision.losses).all()
    assert set(router.provenance["validation"]) == {"text-generation"}
    if kind in ("clusters", "nearest", "linear"):
        assert decision.expert == "coder"


def test_unknown_predictors_are_named(table, table_library):
    with pytest.raises(PredictorError, match="Did you mean 'clusters'"):
        Router.fit(table, library=table_library, predictor="cluster")


def test_the_default_predictor_is_the_one_that_auto_chooses(table, table_library):
    router = Router.fit(table, library=table_library)
    (choice,) = router.provenance["choice"].values()
    (predictor,) = router.predictors.values()
    assert router.provenance["predictor"] == "auto"
    assert choice["chosen"].startswith(predictor.kind)


def test_table_and_library_must_name_the_same_experts(table, table_library):
    fewer = Library([e for e in table_library if e.name != "giant"])
    with pytest.raises(ScoreTableError, match="giant"):
        Router.fit(table, library=fewer)
    more = Library.from_dict(
        {"experts": [*table_library.to_dict()["experts"], {"name": "new", "model": "n"}]}
    )
    with pytest.raises(ScoreTableError, match="new"):
        Router.fit(table, library=more)


def test_a_limit_that_cannot_be_checked_is_an_error(router):
    with pytest.raises(GoalError, match="'coder' states no license"):
        router.route(CODE, goals=Goals(limits={"license": ["mit"]}))


def test_evaluation_sees_what_the_router_gains(router, table, held_out_table):
    report = router.evaluate(held_out_table, train=table).to_dict()
    assert report["router"]["selection_accuracy"] > 0.95
    assert report["router"]["regret"] < report["references"]["best_single"]["regret"] / 4
    assert report["references"]["oracle"]["regret"] == 0
    assert set(report["groups"]) == {"code", "prose"}


def test_what_the_policy_excludes_is_no_choice_for_the_references(router, held_out_table):
    limited = router.with_policy(Policy(limits={"parameters": "<=10B"}))
    rows = limited.evaluate(held_out_table).to_dict()["references"]
    free = router.evaluate(held_out_table).to_dict()["references"]
    assert rows["best_single"]["loss"] > free["best_single"]["loss"]
    with pytest.raises(NoEligibleExpertError):
        router.with_policy(Policy(limits={"parameters": "<=1K"})).evaluate(held_out_table)


def test_an_evaluated_policy_pays_for_its_goals(router, held_out_table):
    small = router.with_policy(Policy(weights={"size": 5.0})).evaluate(held_out_table).to_dict()
    assert small["router"]["loss"] > router.evaluate(held_out_table).to_dict()["router"]["loss"]
    assert small["router"]["regret"] == pytest.approx(0, abs=1e-9)


PRICES = {"coder": (1, 2), "writer": (0.1, 0.2), "giant": (10, 30)}


@pytest.fixture(scope="module")
def priced(table, table_library):
    experts = [
        {**expert, "price": dict(zip(("input", "output"), PRICES[expert["name"]], strict=True))}
        for expert in table_library.to_dict()["experts"]
    ]
    return Router.fit(table, library=Library.from_dict({"experts": experts}))


def test_a_cost_goal_and_a_cost_limit(priced):
    decision = priced.route(CODE)
    assert decision.expert == "coder"
    assert decision.ranking[0].values["cost"] == pytest.approx((len(CODE) / 4 * 1 + 250 * 2) / 1e6)
    assert " USD" in decision.explain()
    assert priced.route(f"{CODE} [Flag: cost=30]").expert == "writer"
    limited = priced.route(f"{CODE} [Flag: cost<=0.0001]")
    assert limited.expert == "writer"
    assert limited.reasons["giant"].startswith("cost is 7.7")


def test_a_cost_goal_without_prices_is_an_error(router):
    with pytest.raises(GoalError, match="'coder', 'writer', 'giant' have none"):
        router.route(f"{CODE} [Flag: cheapest]")


def test_latencies_come_in_as_a_snapshot(router):
    slow = {"coder": 60.0, "writer": 1.0, "giant": 1.0}
    assert router.route(CODE, goals=Goals(latency=0.3)).expert == "coder"
    decision = router.route(CODE, goals=Goals(latency=0.3), observed=slow)
    assert decision.expert != "coder"
    assert decision.values["latency"][0] == 60.0
    assert [d.expert for d in router.route_batch([CODE], observed=slow)] == ["coder"]


class Vowels(Goal):
    name, unit = "vowels", "vowels in the name"

    def value(self, expert):
        return sum(expert.name.count(vowel) for vowel in "aeiou")

    def format(self, value):
        return f"{value:.0f} vowels"


def test_a_goal_of_ones_own_steers_and_is_explained(router):
    decision = router.route(PROSE, goals=Goals(custom=[Vowels(0.1)]))
    assert decision.weights == {"vowels": 0.1}
    assert decision.to_dict()["ranking"][0]["values"]["vowels"] == 2
    assert "2 vowels" in decision.explain()


@pytest.mark.filterwarnings("ignore:the router was fitted on these very prompts")
def test_a_prompt_longer_than_the_context_is_not_sent_there(table, table_library):
    experts = [
        {**expert, "context_length": 100 if expert["name"] == "writer" else 4096}
        for expert in table_library.to_dict()["experts"]
    ]
    router = Router.fit(table, library=Library.from_dict({"experts": experts}))
    assert router.route(PROSE).expert == "writer"
    assert router.route(PROSE * 10).reasons.keys() == {"writer"}
    with pytest.raises(NoEligibleExpertError, match="the prompt has about"):
        router.route(PROSE * 1000)
    assert router.evaluate(table).to_dict()["router"]["measured"] == 1.0


def test_a_router_saved_before_these_goals_still_weighs_them(open7):
    scales = {name: open7.objective.scales[name] for name in ("size", "recency")}
    old = Router(open7.library, open7.predictors, objective=replace(open7.objective, scales=scales))
    decision = old.route("What is 17 * 3? [Flag: most secure]")
    assert decision.weights == {"security": 1.0}
    level = decision.values["security"][decision.names.index(decision.expert)]
    assert level == np.nanmin(decision.values["security"])


def test_measured_targets_are_predicted_and_weighed(targets_table, table_library):
    router = Router.fit(targets_table, library=table_library)
    decision = router.route(CODE)
    assert decision.expert == "coder"
    values = {name: decision.values[name][0] for name in ("cost", "verbosity", "readability")}
    assert values == pytest.approx({"cost": 2e-4, "verbosity": 300, "readability": 12})
    assert router.route(f"{CODE} [Flag: cost=20]").expert == "writer"
    assert router.route(f"{PROSE} [Flag: verbosity=3]").expert == "coder"
    assert router.route(f"{CODE} [Flag: latency<=600ms]").expert == "writer"
    far = router.route("量子力学中的波函数坍缩是什么？ " * 3)
    assert far.out_of_distribution
    assert far.values["cost"] == pytest.approx([2e-4, 1e-4, 9e-4])


@pytest.mark.parametrize("kind", ["clusters", "nearest", "linear", "best-single"])
def test_predicted_targets_survive_saving(targets_table, table_library, tmp_path, kind):
    router = Router.fit(targets_table, library=table_library, predictor=kind)
    router.save_pretrained(tmp_path / "r")
    again = Router.from_pretrained(tmp_path / "r")
    before, after = router.route(CODE), again.route(CODE)
    assert before.to_dict() == after.to_dict()
    assert before.values["cost"] == pytest.approx([2e-4, 1e-4, 9e-4])
    assert again.objective == router.objective


def test_a_library_of_which_nothing_is_measured(table_library, tmp_path):
    router = Router.from_library(table_library)
    decision = router.route(f"{CODE} [Flag: smallest]")
    assert decision.expert == "writer"
    assert np.isnan(decision.predicted_loss)
    assert decision.to_dict()["ranking"][0]["loss"] is None
    assert "Nothing is measured yet" in decision.explain()
    assert router.route(CODE, goals=Goals(limits={"size": ">=10B"})).expert == "giant"
    assert "first by price and name of 3" in router.route(CODE).explain()
    router.save_pretrained(tmp_path / "r")
    again = Router.from_pretrained(tmp_path / "r")
    assert again.route(CODE).to_dict() == router.route(CODE).to_dict()
    rows = [{"prompt": CODE, "scores": dict.fromkeys(table_library.names, 1.0)}]
    with pytest.raises(PredictorError, match="unknown predictor 'unmeasured'"):
        Router.fit(rows, library=table_library, predictor="unmeasured")
    assert router.without("writer").route(f"{CODE} [Flag: smallest]").expert == "coder"
    with pytest.raises(PredictorError, match="nothing is measured"):
        router.add_expert(
            Expert(name="new", model="m"),
            ScoreTable.from_rows([{"prompt": "x", "losses": {"new": 1.0}}]),
        )


def test_an_expert_that_is_gone_is_never_named(router, tmp_path):
    fewer = router.without("coder")
    decision = fewer.route(CODE)
    assert decision.expert == "giant"
    assert decision.names == ("writer", "giant")
    assert "coder" not in json.dumps(decision.to_dict())
    assert router.route(CODE).expert == "coder"
    scaled = dict(zip(router.library.names, router.objective.scaled["size"], strict=True))
    np.testing.assert_allclose(fewer.objective.scaled["size"], [scaled["writer"], scaled["giant"]])
    fewer.save_pretrained(tmp_path / "r")
    again = Router.from_pretrained(tmp_path / "r").route(CODE)
    assert again.order == decision.order
    np.testing.assert_allclose(again.totals, decision.totals, rtol=1e-9)
    with pytest.raises(LibraryError, match="Did you mean 'coder'"):
        router.without("codr")


def test_ages_count_from_the_day_of_the_fit_after_the_newest_expert_left(router, tmp_path):
    fewer = router.without("giant")
    fewer.save_pretrained(tmp_path / "r")
    for changed in (fewer, Router.from_pretrained(tmp_path / "r")):
        assert changed.route(CODE).values["recency"].tolist() == [366.0, 214.0]


@pytest.mark.parametrize("kind", ["clusters", "nearest", "linear", "hybrid", "best-single"])
def test_probes_that_lack_the_new_expert_change_nothing(table, table_library, kind):
    fitted = Router.fit(table, library=table_library, predictor=kind)
    new = Expert(name="new", model="org/new")
    columns = dict(zip(table.experts, table.losses.T.tolist(), strict=True))
    rows = [
        {"prompt": prompt, "losses": {name: columns[name][i] for name in table.experts}}
        for i, prompt in enumerate(table.prompts)
    ]
    for row in rows[:20] + rows[-20:]:
        row["losses"]["new"] = 0.05 if row["prompt"].startswith("def") else 2.0
    measured = [row for row in rows if "new" in row["losses"]]
    from_all = fitted.add_expert(new, ScoreTable.from_rows(rows))
    from_measured = fitted.add_expert(new, ScoreTable.from_rows(measured))
    ours, theirs = (
        grown.predict([CODE, PROSE], task="text-generation") for grown in (from_all, from_measured)
    )
    np.testing.assert_allclose(ours, theirs)


def test_an_expert_joins_from_probes_and_leaves_again(router, table, tmp_path):
    new = Expert(name="new-expert", model="org/new-expert", parameters=5_000_000_000)
    probes = ScoreTable.from_rows(
        [
            {"prompt": prompt, "losses": {"new-expert": 0.05 if prompt.startswith("def") else 2.0}}
            for prompt in table.prompts
        ]
    )
    grown = router.add_expert(new, probes)
    assert "new-expert" not in router.library
    assert grown.route(CODE).expert == "new-expert"
    assert grown.route(PROSE).expert == "writer"
    for name in router.library.names:
        ours = grown.predict([CODE, PROSE], task="text-generation")[:, grown.library.index(name)]
        theirs = router.predict([CODE, PROSE], task="text-generation")[
            :, router.library.index(name)
        ]
        np.testing.assert_allclose(ours, theirs)
    grown.save_pretrained(tmp_path / "grown")
    assert Router.from_pretrained(tmp_path / "grown").route(CODE).expert == "new-expert"
    back = grown.without("new-expert")
    assert back.library.names == router.library.names
    assert back.route(CODE).order == router.route(CODE).order


def test_a_router_that_keeps_its_prompts_knows_the_others_results_on_the_probes(table, tmp_path):
    """Whether the probes hold them or the router does, the new expert is estimated alike."""
    rng = np.random.default_rng(0)
    rows = [
        {"prompt": prompt, "losses": dict(zip(table.experts, losses.tolist(), strict=True))}
        for prompt, losses in zip(
            table.prompts, table.losses + rng.random((len(table), 1)), strict=True
        )
    ]
    probes = [row | {"losses": {"new": row["losses"]["coder"] + 0.1}} for row in rows[::5]]
    beside = [
        row | {"losses": row["losses"] | probe["losses"]}
        for row, probe in zip(rows[::5], probes, strict=True)
    ]
    new = Expert(name="new", model="org/new")
    keeps = Router.fit(rows, predictor="clusters", keep_prompts=True)
    keeps.save_pretrained(tmp_path / "kept")
    loaded = Router.from_pretrained(tmp_path / "kept")
    forgets = Router.fit(rows, predictor="clusters")
    expected, in_memory, loaded_again, alone = (
        router.add_expert(new, source).predict([CODE, PROSE], task="text-generation")
        for router, source in (
            (forgets, beside),
            (keeps, probes),
            (loaded, probes),
            (forgets, probes),
        )
    )
    np.testing.assert_allclose(in_memory, expected)
    np.testing.assert_allclose(loaded_again, expected)
    assert not np.allclose(alone, expected)
    measured_anew = keeps.training_prompts["text-generation"].fill(
        ScoreTable.from_rows([{"prompt": rows[0]["prompt"], "losses": {"coder": 9.0}}])
    )
    losses = dict(zip(measured_anew.experts, measured_anew.losses[0], strict=True))
    assert losses == rows[0]["losses"] | {"coder": 9.0}


def test_who_cannot_join_or_leave_a_router_is_named(router, table):
    with pytest.raises(LibraryError, match="twice"):
        router.add_expert(router.library["coder"], table)
    with pytest.raises(ScoreTableError, match="new-expert"):
        router.add_expert(Expert(name="new-expert", model="m"), table)
    with pytest.raises(PredictorError, match="fill-mask"):
        router.add_expert(Expert(name="new-expert", model="m", task="fill-mask"), table)
    with pytest.raises(LibraryError, match="nobody"):
        router.without("nobody")
    alone = router.without("giant").without("coder")
    assert alone.route(CODE).expert == "writer"
    with pytest.raises(LibraryError, match="at least one"):
        alone.without("writer")
