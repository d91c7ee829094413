from importlib import resources

import pytest
from tokenizers import Tokenizer

from tryage import Expert, Library, Price, Router
from tryage.tokens import count_tokens

CHINESE = "请用中文详细说明如何在城市里种植蔬菜，并列出每一步需要的工具和时间。"
TEXTS = {
    "English": "Explain in detail how to grow vegetables in a city and list every tool.",
    "Chinese": CHINESE,
    "Russian": "Подробно объясни, как вырастить овощи в городе, и перечисли все инструменты.",
    "French": "Explique en détail comment cultiver des légumes en ville, outil par outil.",
}


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("four", 1), ("four四", 2), ("é", 2 / 3), ("🙂", 4 / 3), ("\ud800", 1)],
)
def test_four_ascii_characters_or_three_bytes_are_a_token(text, tokens):
    assert count_tokens(text) == pytest.approx(tokens)


@pytest.mark.parametrize("language", TEXTS)
def test_the_estimate_is_near_a_tokenizer_s_count(language):
    folder = resources.files("tryage") / "pretrained" / "static"
    tokenizer = Tokenizer.from_str((folder / "tokenizer.json").read_text(encoding="utf-8"))
    ids = tokenizer.encode(TEXTS[language], add_special_tokens=False).ids
    assert 0.5 < count_tokens(TEXTS[language]) / len(ids) < 2


def router():
    return Router.from_library(
        Library(
            [
                Expert(
                    name="short", model="s", context_length=4096, price=Price(input=1, output=0)
                ),
                Expert(
                    name="long", model="l", context_length=128_000, price=Price(input=2, output=0)
                ),
            ]
        )
    )


def test_a_long_chinese_prompt_goes_to_an_expert_that_it_fits_into():
    decision = router().route(CHINESE * 400)
    assert decision.expert == "long"
    assert "the prompt has about 13600 tokens" in decision.reasons["short"]
    assert decision.values["cost"] == pytest.approx([0.0136, 0.0272])


def test_a_prompt_that_just_fits_leaves_no_room_for_an_answer():
    assert router().route("word " * 3276).expert == "long"
    assert router().route("word " * 3076).expert == "short"
