"""`TryageSelector`: tools are experts by name, description or place, else descriptions compare."""

import copy
import pickle

import numpy as np
import pytest
from llama_index.core import QueryBundle
from llama_index.core.tools import ToolMetadata

from llama_index_tryage import TryageDecisionEvent, TryageMultiSelector, TryageSelector
from tryage import Goals, Policy, Router, TryageWarning
from tryage.binding import passing_on
from tryage.errors import (
    GoalError,
    LibraryError,
    NoEligibleExpertError,
    PromptError,
    RouterNotFoundError,
)
from tryage.flags import parse

FLAG = "[Flag: size=2]"
NAMES = ("giant", "writer", "coder")
TOOLS = [ToolMetadata(name=name, description=f"Answers as {name}.") for name in NAMES]


async def test_picks_the_tool_of_the_chosen_expert(router, kit):
    selector = TryageSelector(router)
    for text, name in ((kit.code, "coder"), (kit.prose, "writer")):
        for result in (selector.select(TOOLS, text), await selector.aselect(TOOLS, text)):
            assert result.ind == NAMES.index(name)
            assert name in result.reason
            assert "predicted loss" in result.reason


def test_only_experts_with_a_tool_are_eligible(router, kit):
    result = TryageSelector(router).select(TOOLS[:2], kit.code)
    assert NAMES[result.ind] == "giant"


def test_tools_are_experts_by_name_description_or_place(router, kit):
    selector = TryageSelector(router)
    assert selector.select(["writer", "coder"], kit.code).ind == 1
    odd = [ToolMetadata(name="tool", description=name) for name in NAMES]
    assert selector.select(odd, kit.code).ind == 2
    unnamed = ["about anything", "about code"]
    by_place = TryageSelector(router, experts=["writer", "coder"])
    assert by_place.select(unnamed, kit.code).ind == 1
    aliased = TryageSelector(router, aliases={"about code": "coder", "about anything": "giant"})
    assert aliased.select(unnamed, kit.code).ind == 1


def test_choices_that_are_no_experts(router, kit):
    selector = TryageSelector(router)
    with pytest.raises(LibraryError, match=r"choice 1, 'codr'.* Did you mean 'coder'\?"):
        selector.select(["writer", "codr"], kit.code)
    with pytest.raises(LibraryError, match="choices 0 and 1 are both 'coder'"):
        selector.select(["coder", "coder"], kit.code)
    with pytest.raises(LibraryError, match="no choices"):
        selector.select([], kit.code)
    with pytest.raises(LibraryError, match="names 1, but there are 2 choices"):
        TryageSelector(router, experts=["coder"]).select(["a", "b"], kit.code)
    with pytest.raises(LibraryError, match=r"'codr'\. Did you mean"):
        TryageSelector(router, experts=["codr"]).select(["a"], kit.code)
    with pytest.raises(PromptError):
        selector.select(TOOLS, "  ")


def test_flags_act_only_where_the_query_is_the_user_s_own(router, kit):
    text = f"{kit.code} {FLAG}"
    assert NAMES[TryageSelector(router).select(TOOLS, text).ind] == "coder"
    own = TryageSelector(router, flags_from="last_message")
    query = QueryBundle(text)
    assert NAMES[own.select(TOOLS, query).ind] == "writer"
    assert query.query_str == text
    read = TryageSelector(router, flags_from=lambda bundle: bundle.custom_embedding_strs[0])
    rewritten = QueryBundle("rewritten", custom_embedding_strs=[text])
    assert NAMES[read.select(TOOLS, rewritten).ind] == "writer"
    with pytest.warns(TryageWarning, match="shiniest"):
        own.select(TOOLS, f"{kit.code} [Flag: shiniest]")
    with pytest.raises(ValueError, match="no such key"):
        TryageSelector(router, flags_from="question")


def test_goals_and_policy(router, kit):
    assert NAMES[TryageSelector(router, goals=Goals(size=2)).select(TOOLS, kit.code).ind] == (
        "writer"
    )
    policy = Policy(limits={"parameters": "<=1M"})
    with pytest.raises(NoEligibleExpertError):
        TryageSelector(router, policy=policy).select(TOOLS, kit.code)


def test_a_folder_is_looked_for_at_once_and_loaded_at_first_use(router, kit, tmp_path):
    with pytest.raises(RouterNotFoundError):
        TryageSelector("no/such/folder")
    router.save_pretrained(tmp_path / "r")
    selector = TryageSelector(tmp_path / "r")
    assert selector.select(TOOLS, kit.code).ind == 2
    assert selector.load() is selector.load()


async def test_the_decision_is_told(router, kit, heard):
    selector = TryageSelector(router)
    for result in (selector.select(TOOLS, kit.code), await selector.aselect(TOOLS, kit.code)):
        assert result.decision["expert"] == "coder"
        assert result.similarities is None
        assert sum(result.probabilities) == pytest.approx(1)
        assert max(result.probabilities) == result.probabilities[result.ind]
    assert [type(event) for event in heard] == [TryageDecisionEvent] * 2
    assert heard[0].expert == "coder"


async def test_several_within_a_margin(router, kit):
    def picked(**options):
        result = TryageMultiSelector(router, **options).select(TOOLS, kit.code)
        return [NAMES[index] for index in result.inds]

    # Predicted losses on code are about 0.1, 0.2 and 0.9.
    assert picked() == picked(margin=0.1, top_k=2)
    assert picked(margin=0.15) == ["coder", "giant"]
    assert picked(margin=0.01) == ["coder"]
    assert picked(top_k=3, margin=0.2) == ["coder", "giant"]
    assert picked(top_k=3, margin=1) == ["coder", "giant", "writer"]
    assert picked(top_k=1, margin=1) == ["coder"]
    result = await TryageMultiSelector(router, margin=0.15).aselect(TOOLS, kit.code)
    assert "lowest predicted loss" in result.reasons[0]
    assert "behind the best, margin 0.15; predicted loss" in result.reasons[1]
    with pytest.raises(ValueError, match="top_k is 0"):
        TryageMultiSelector(router, top_k=0)
    with pytest.raises(ValueError, match=r"margin is -0\.1"):
        TryageMultiSelector(router, margin=-0.1)


SUBJECTS = [
    ToolMetadata(name="engine_1", description="Python code examples and programming questions"),
    ToolMetadata(name="engine_2", description="Exact decimal numbers, rounding and money"),
    ToolMetadata(name="engine_3", description="JSON: encoding and decoding of data"),
]
QUESTIONS = (
    "Write a function that sorts a list",
    "How can I round money amounts exactly?",
    "How do I parse a JSON string?",
)


async def test_tools_that_are_no_experts_are_compared_by_description(router, heard):
    selector = TryageSelector(router)
    for place, question in enumerate(QUESTIONS):
        result = selector.select(SUBJECTS, question)
        assert result.ind == place
        assert (await selector.aselect(SUBJECTS, question)).ind == place
        assert result.decision is None
        assert f"cosine {result.similarities[0]:.4f}, number 1 of 3 descriptions" in result.reason
        assert "not every choice is an expert of library 'made-up'" in result.reason
    assert not heard


def test_a_tool_is_named_in_the_reason_by_its_name_or_else_by_its_description(router):
    selector = TryageSelector(router)
    for place, question in enumerate(QUESTIONS):
        described = [ToolMetadata(name=None, description=tool.description) for tool in SUBJECTS]
        result = selector.select(described, question)
        assert result.ind == place
        assert result.reason.startswith(f"{SUBJECTS[place].description} — cosine")
    both = [
        ToolMetadata(name="tool", description="Money."),
        ToolMetadata(name="b", description="B"),
    ]
    assert selector.select(both, QUESTIONS[1]).reason.startswith("tool — cosine")
    long = [
        ToolMetadata(name=None, description="money " * 20),
        ToolMetadata(name="b", description="B"),
    ]
    title = selector.select(long, QUESTIONS[1]).reason.partition(" — ")[0]
    assert (len(title), title[-3:]) == (60, "...")
    nameless = [ToolMetadata(name="round_money_amounts", description=""), *both[1:]]
    assert selector.select(nameless, QUESTIONS[1]).reason.startswith("round_money_amounts — ")


def test_several_by_description(router):
    selector = TryageMultiSelector(router, top_k=2, margin=1)
    result = selector.select(SUBJECTS, QUESTIONS[1])
    assert len(result.inds) == 2
    assert result.inds[0] == 1
    assert result.similarities == sorted(result.similarities, reverse=True)
    near = TryageMultiSelector(router, top_k=3, margin=0.05).select(SUBJECTS, QUESTIONS[1])
    assert near.inds == [1]


def test_descriptions_are_encoded_once_by_the_router_s_own_encoder(table, table_library):
    class Counting:
        name, dim, texts = "counting", 2, ()

        def encode(self, prompts):
            self.texts += tuple(prompts)
            return np.array([[1, 0] if "code" in p else [0, 1] for p in prompts], np.float32)

        def save(self, folder):
            raise NotImplementedError

    encoder = Counting()
    router = Router.fit(table, library=table_library, encoder=encoder, predictor="nearest")
    encoder.texts = ()
    selector = TryageSelector(router)
    for question in ("about code", "about money", "about code"):
        result = selector.select(SUBJECTS, question)
        assert result.ind == (0 if "code" in question else 1)
        assert "encoder 'counting'" in result.reason
    assert sorted(encoder.texts) == sorted(
        [tool.description for tool in SUBJECTS] + ["about code", "about money", "about code"]
    )


def test_a_router_without_encoder_compares_with_the_bundled_one(table, table_library):
    router = Router.fit(table, library=table_library, predictor="best-single")
    assert TryageSelector(router).select(SUBJECTS, QUESTIONS[2]).ind == 2


def test_where_only_some_tools_are_experts_the_fallback_is_declared(router, kit):
    mixed = [*TOOLS[:1], *SUBJECTS]
    with pytest.raises(LibraryError, match="fallback='description'"):
        TryageSelector(router).select(mixed, QUESTIONS[2])
    declared = TryageSelector(router, fallback="description")
    assert declared.select(mixed, QUESTIONS[2]).ind == 3
    assert NAMES[declared.select(TOOLS, kit.code).ind] == "coder"
    with pytest.raises(LibraryError, match="choice 0, 'engine_1'"):
        TryageSelector(router, aliases={"engine_9": "coder"}).select(SUBJECTS, QUESTIONS[0])
    with pytest.raises(ValueError, match="fallback is 'name'"):
        TryageSelector(router, fallback="name")


def test_goals_limits_and_flags_beside_descriptions(router):
    weighed = TryageSelector(router, goals=Goals(size=2)).select(SUBJECTS, QUESTIONS[0])
    assert "goals (size) do not weigh" in weighed.reason
    own = TryageSelector(router, flags_from="last_message")
    flagged = own.select(SUBJECTS, f"{QUESTIONS[0]} {FLAG}")
    assert "goals (size) do not weigh" in flagged.reason
    assert flagged.similarities == own.select(SUBJECTS, QUESTIONS[0]).similarities
    with passing_on(parse(FLAG)):
        passed = TryageSelector(router).select(SUBJECTS, QUESTIONS[0])
    assert passed.reason == flagged.reason
    limits = {"parameters": "<=3B"}
    for options in ({"goals": Goals(limits=limits)}, {"policy": Policy(limits=limits)}):
        with pytest.raises(GoalError, match="limits parameters <= 3B cannot be checked"):
            TryageSelector(router, **options).select(SUBJECTS, QUESTIONS[0])


def test_descriptions_that_are_missing(router):
    with pytest.raises(PromptError, match="prompt is empty"):
        TryageSelector(router).select(SUBJECTS, " ")
    with pytest.raises(LibraryError, match="choice 1 has neither"):
        TryageSelector(router).select(["about code", ToolMetadata(description="")], "code")
    named = [ToolMetadata(name="json_data", description=""), "about the weather"]
    assert TryageSelector(router).select(named, "Which JSON data?").ind == 0


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda original: pickle.loads(pickle.dumps(original))]
)
def test_selectors_can_be_copied(router, kit, tmp_path, copied):
    router.save_pretrained(tmp_path / "r")
    experts = [ToolMetadata(name=name, description="A model.") for name in ("coder", "writer")]
    others = [ToolMetadata(name="a", description="rivers"), ToolMetadata(name="b", description="x")]
    for selector in (
        TryageSelector(router),
        TryageSelector(tmp_path / "r"),
        TryageMultiSelector(router, top_k=1),
    ):
        selector.select(experts, kit.prose)
        selector.select(others, kit.prose)
        for one in (copied(selector), selector):
            assert one.select(experts, kit.prose).inds == [1]
            assert one.select(others, "The river follows the garden.").inds[0] == 0


def test_a_query_of_an_image_alone_goes_to_the_best_on_average(router):
    experts = [ToolMetadata(name=name, description="A model.") for name in router.library.names]
    best = router.library.names.index(router.route("[image]").expert)
    query = QueryBundle("", image_path="a.png")
    assert TryageSelector(router, flags_from="last_message").select(experts, query).ind == best
    with pytest.raises(PromptError, match="the prompt is empty"):
        TryageSelector(router).select(experts, QueryBundle(""))
