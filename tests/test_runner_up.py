"""What would make the runner-up win really does, and a little less does not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tryage import Goals, Router
from tryage.checks import Check

PROMPTS = (
    "What is 17 * 3?",
    "Write a function that merges two sorted lists.",
    "Which gas do plants take in?\nA) oxygen\nB) carbon dioxide\nAnswer:",
    "中国的首都是哪里？",
)


@settings(max_examples=40, deadline=None)
@given(
    prompt=st.sampled_from(PROMPTS),
    size=st.floats(0, 1),
    recency=st.floats(0, 1),
)
def test_the_least_weight_makes_the_runner_up_win(prompt, size, recency):
    router = Router.from_pretrained("open7")
    weights = {"size": size, "recency": recency}
    decision = router.route(prompt, goals=Goals(**weights))
    second = router.runner_up(decision)
    assert second.expert == decision.order[1]
    ranked = {row.expert: row for row in decision.ranking}
    margin = ranked[second.expert].total - ranked[decision.expert].total
    assert second.margin == pytest.approx(margin)
    assert second.needed_loss == pytest.approx(ranked[second.expert].loss - margin)
    sizes = [abs(change.needed - change.now) for change in second.weights]
    assert sizes == sorted(sizes)
    for change in second.weights:
        step = change.needed - change.now
        if abs(step) < 1e-6 or change.needed > 1e4:
            continue

        def winner(weight, goal=change.goal):
            return router.route(prompt, goals=Goals(**{**weights, goal: weight})).expert

        room = 1e-6 + 1e-4 * abs(step)
        beyond = change.needed + (room if step > 0 else -room)
        if beyond >= 0:
            alike = router.route(prompt, goals=Goals(**{**weights, change.goal: beyond}))
            totals = {row.expert: row.total for row in alike.ranking}
            assert totals[second.expert] <= min(totals.values()) + 1e-4
        before = change.needed - (room if step > 0 else -room)
        assert winner(before) != second.expert


def test_the_explanation_says_what_would_change_it(open7):
    decision = open7.route(PROMPTS[1], goals=Goals(size=0.3))
    second = open7.runner_up(decision)
    text = open7.explain(decision, why=True)
    assert text.startswith(decision.explain())
    assert f"Runner-up: {second.expert}" in text
    assert f"below {second.needed_loss:.4f}" in text
    assert open7.explain(decision) == decision.explain()


def test_a_plan_or_a_single_expert_has_no_runner_up(open7):
    check = Check(lambda prompt, answer: True, accepts_right=0.9, accepts_wrong=0.1)
    assert open7.runner_up(open7.route(PROMPTS[0], check=check)) is None
    alone = open7.excluding(dict.fromkeys(open7.library.names[1:], "switched off"))
    assert alone.runner_up(alone.route(PROMPTS[0])) is None
    assert "Runner-up" not in alone.explain(alone.route(PROMPTS[0]), why=True)
